"""The session of a browser: worth as much as its token, as long as that, and twelve hours at most."""

from __future__ import annotations

import re

import pytest

from celery_docker.core import sessions, tokens
from celery_docker.core.access import Right
from celery_docker.core.browsers import Headers
from celery_docker.core.tokens import Token, Tokens

NOW = 1_800_000_000.5
CAROL = Token("carol", frozenset({Right.READ}), tokens.digest("a" * 43))
DAVE = Token("dave", frozenset({Right.ADMIN}), tokens.digest("b" * 43))
BOTH = Tokens((CAROL, DAVE))


def begun(token: Token, host: str = "localhost", *, now: float = NOW, is_encrypted: bool = False) -> str:
    return sessions.set_cookie(Headers(host=host), sessions.begun(token, now), is_encrypted=is_encrypted)


def cookie(token: Token, *, now: float = NOW) -> str:
    return begun(token, now=now).partition(";")[0]


def shown(text: str, known: Tokens = BOTH, *, now: float = NOW, host: str = "localhost") -> str | None:
    session = sessions.of_cookies(Headers(host=host, cookie=text), known, now)
    return None if session is None else session.token.account


def test_a_session_stands_for_its_token() -> None:
    assert shown(cookie(CAROL)) == "carol"
    assert shown(f"a=b; {cookie(DAVE)}; celery-docker-session-1=x") == "dave"
    session = sessions.of_cookies(Headers(cookie=cookie(CAROL)), BOTH, NOW)
    assert session == sessions.Session(CAROL, int(NOW) + 12 * 3600)


def test_what_the_browser_is_told() -> None:
    pattern = r"celery-docker-session=[0-9a-f]{8}\.\d+\.[0-9a-f]{64}; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"
    assert re.fullmatch(pattern, begun(CAROL))
    assert re.fullmatch(f"{pattern}; Secure", begun(CAROL, is_encrypted=True))
    cleared = sessions.clear_cookie(Headers(host="localhost"))
    assert cleared == "celery-docker-session=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"


def test_services_behind_two_ports_of_one_name_have_a_cookie_each() -> None:
    first, second = begun(CAROL, "localhost:9809").partition(";")[0], begun(DAVE, "localhost:9810").partition(";")[0]
    both = f"{second}; {first}"
    assert shown(both, host="localhost:9809") == "carol"
    assert shown(both, host="localhost:9810") == "dave"
    assert shown(both) is None


def test_it_ends() -> None:
    assert shown(cookie(CAROL), now=NOW + 12 * 3600 - 2) == "carol"
    assert shown(cookie(CAROL), now=NOW + 12 * 3600) is None
    # The clock was put back: it has more than its whole time before it.
    assert shown(cookie(CAROL), now=NOW - 3600) is None


def test_it_ends_with_its_token() -> None:
    assert shown(cookie(CAROL), Tokens((DAVE,))) is None
    assert shown(cookie(CAROL), Tokens()) is None


def test_its_rights_are_those_of_the_line_now() -> None:
    changed = Token("carol", frozenset({Right.SUBMIT}), CAROL.digest, "label")
    session = sessions.of_cookies(Headers(cookie=cookie(CAROL)), Tokens((changed,)), NOW)
    assert session is not None
    assert session.token.rights == {Right.SUBMIT}


def forgeries() -> list[str]:
    name, _, value = cookie(CAROL).partition("=")
    token_id, until, code = value.split(".")
    values = [
        "",
        "x",
        value[:-1],
        f"{value}0",
        value.upper(),
        f"{DAVE.id}.{until}.{code}",
        f"{token_id}.{int(until) - 1}.{code}",
        f"{token_id}.0{until}.{code}",
        f"{token_id}.{until}.{'0' * 64}",
        f"{token_id}.{until}.",
        f"{token_id}.{until}.{CAROL.digest}",
        f"{token_id}.-1.{code}",
        f"{token_id}.{'9' * 10_000}.{code}",
        f"{token_id}.\u0663.{code}",
        f'"{value}"',
        "\x00" * 80,
    ]
    return [f"{name}={text}" for text in values]


@pytest.mark.parametrize("text", [*forgeries(), "", ";", "=", "celery-docker-session", "CELERY-DOCKER-SESSION=x"])
def test_what_is_no_session(text: str) -> None:
    assert shown(text) is None


def test_whether_one_is_shown() -> None:
    assert sessions.has_cookie(Headers(cookie="celery-docker-session=x"))
    assert not sessions.has_cookie(Headers(cookie="celery-docker-session="))
    assert not sessions.has_cookie(Headers(cookie="other=x"))
