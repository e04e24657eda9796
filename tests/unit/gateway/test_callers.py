"""Who asks: the kernel's word on a Unix socket, a token over TCP, and everything that is neither."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import browsers, sessions, tokens
from celery_docker.core.access import Identity, Right
from celery_docker.core.browsers import Headers
from celery_docker.core.tokens import Token
from celery_docker.gateway import callers
from celery_docker.gateway.callers import Caller, Callers, Failures
from celery_docker.gateway.routing import Refusal
from celery_docker.host.tokenfile import TokenFile

ALICE = Identity("alice", 1000, 1000, (1000,))
SECRET, OTHER = "a" * 43, "b" * 43
# An account that is on each machine, and whose rights a token may narrow.
ROOT = Token("root", frozenset({Right.READ, Right.SUBMIT}), tokens.digest(SECRET), "test")


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    file = TokenFile(str(tmp_path / "tokens"))
    file.add(ROOT)
    return file


@pytest.fixture
def known(file: TokenFile) -> Callers:
    return Callers(990, file, Failures(clock=lambda: 0.0), clock=lambda: 1_000_000.0)


def asks(known: Callers, **environ: Any) -> Caller:
    return known.of(environ, browsers.headers_of(environ))


def refused(known: Callers, **environ: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        asks(known, **environ)
    return caught.value.status, str(caught.value)


def test_a_token_stands_for_its_account(known: Callers) -> None:
    identity, rights = asks(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}")
    entry = pwd.getpwnam("root")
    assert (identity.name, identity.uid, identity.gid) == ("root", 0, entry.pw_gid)
    assert identity.groups == tuple(os.getgrouplist("root", entry.pw_gid))
    assert grp.getgrgid(entry.pw_gid).gr_gid in identity.groups
    assert (rights.held, rights.token, rights.may_everything) == (ROOT.rights, ROOT.id, False)
    assert asks(known, HTTP_AUTHORIZATION=f"bearer {SECRET}")[1] == rights


def test_nothing_but_a_token_counts_over_tcp(known: Callers) -> None:
    status, line = refused(known)
    assert (status, line.startswith("a token is missing: send the header Authorization: Bearer TOKEN")) == (401, True)
    assert (
        refused(known, HTTP_X_FORWARDED_FOR="127.0.0.1", HTTP_X_REMOTE_USER="root", REMOTE_ADDR="127.0.0.1")[0] == 401
    )
    for scheme in ("Basic", "", "Bearer2", "B\xe9arer"):
        status, line = refused(known, HTTP_AUTHORIZATION=f"{scheme} {SECRET}")
        assert (status, line.startswith("the header Authorization names no token: ")) == (401, True)
    assert refused(known, HTTP_AUTHORIZATION="Bearer")[0] == 401


@pytest.mark.parametrize(
    "secret",
    [
        "",
        OTHER,
        SECRET[:-1],
        f"{SECRET}\n",
        f"{SECRET}\0",
        f"{SECRET}, Bearer {SECRET}",
        "\xff" * 43,
        ROOT.digest,
        ROOT.id,
    ],
)
def test_a_wrong_token(known: Callers, secret: str, caplog: pytest.LogCaptureFixture) -> None:
    status, line = refused(known, HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert (status, line.startswith("this token is not known, or was removed: send ")) == (401, True)
    assert caplog.messages == ["a token over TCP is not known, number 1 within a minute"]


def test_many_wrong_tokens_are_noted_ten_times_and_keep_no_right_one_out(
    known: Callers, caplog: pytest.LogCaptureFixture
) -> None:
    statuses = [refused(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[0] for _ in range(10_000)]
    assert statuses == [401] * 10 + [429] * 9_990
    assert len(caplog.messages) == 10
    assert caplog.messages[-1].endswith("number 10 within a minute; no more are noted until a minute is over")
    assert asks(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}")[0].name == "root"
    known.failures.clock = lambda: 60.1
    assert refused(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[0] == 401


def test_the_file_is_read_again_as_soon_as_it_changes(known: Callers, file: TokenFile) -> None:
    file.add(Token("root", frozenset({Right.ADMIN}), tokens.digest(OTHER)))
    assert asks(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[1].may_everything
    file.remove([tokens.digest(SECRET)[:8]])
    assert refused(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}")[0] == 401
    Path(file.path).unlink()
    assert refused(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[0] == 401


def test_what_is_wrong_with_the_file_is_noted_once(
    known: Callers, file: TokenFile, caplog: pytest.LogCaptureFixture
) -> None:
    with Path(file.path).open("a") as opened:
        opened.write("nonsense\n")
    for _ in range(3):
        assert asks(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}")[0].uid == 0
    (line,) = caplog.messages
    assert line.startswith(f"token: {file.path} line 3 is not an account")
    Path(file.path).unlink()
    Path(file.path).mkdir()
    for _ in range(3):
        with pytest.raises(
            errors.TokensError, match=r"cannot read .*: Is a directory; it must be a file of root:celery"
        ):
            asks(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}")
    assert len(caplog.messages) == 2


def test_an_account_that_is_gone(known: Callers, file: TokenFile) -> None:
    file.add(Token("nobody-has-this-name", frozenset({Right.ADMIN}), tokens.digest(OTHER)))
    with pytest.raises(errors.NotAllowed, match=r"^token [0-9a-f]{8}: this host has no account 'nobody-has-this-name'"):
        asks(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")


def test_the_name_of_another_service_is_refused(known: Callers) -> None:
    def status(host: str, **environ: Any) -> int:
        try:
            known.check_host(environ, Headers(host=host))
        except Refusal as exc:
            return exc.status
        return 200

    # What follows from that for each name: tests/unit/core/test_browsers.py.
    assert [status(host) for host in ("localhost", "evil.example", "host", "jobs.example.org")] == [200, 421, 421, 421]
    local: dict[str, Any] = {callers.IDENTITY: ALICE}
    assert [status(host, **local) for host in ("localhost", "evil.example", "host")] == [200, 421, 200]
    known.names = ["jobs.example.org"]
    assert status("jobs.example.org") == 200


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({}, 200),
        ({"HTTP_ORIGIN": "http://localhost", "HTTP_SEC_FETCH_SITE": "same-origin"}, 200),
        ({"HTTP_ORIGIN": "http://evil.example"}, 403),
        ({"HTTP_COOKIE": "celery-docker-session=x"}, 403),
        ({"HTTP_SEC_FETCH_MODE": "no-cors"}, 403),
        ({"HTTP_ORIGIN": "http://localhost", "HTTP_SEC_FETCH_SITE": "cross-site"}, 403),
        ({"HTTP_ORIGIN": "http://evil.example", "HTTP_AUTHORIZATION": "Bearer x"}, 200),
    ],
)
@pytest.mark.parametrize("is_local", [True, False])
def test_a_change_is_for_our_own_page(known: Callers, environ: dict[str, str], status: int, *, is_local: bool) -> None:
    whole: dict[str, Any] = {"HTTP_HOST": "localhost", **environ, **({callers.IDENTITY: ALICE} if is_local else {})}
    headers = browsers.headers_of(whole)
    if status == 200:
        known.check_page(whole, headers, is_change=True)
    else:
        with pytest.raises(Refusal) as caught:
            known.check_page(whole, headers, is_change=True)
        assert caught.value.status == status


def test_a_question_is_for_no_other_website(known: Callers) -> None:
    environ = {"HTTP_HOST": "localhost", "HTTP_COOKIE": "x"}
    known.check_page(environ, browsers.headers_of(environ), is_change=False)
    environ["HTTP_SEC_FETCH_SITE"] = "cross-site"
    with pytest.raises(Refusal, match="a website asks for this in your browser"):
        known.check_page(environ, browsers.headers_of(environ), is_change=False)


def test_a_session_is_its_token(known: Callers, file: TokenFile) -> None:
    session = sessions.begun(ROOT, known.clock())
    cookie = sessions.set_cookie(Headers(), session, is_encrypted=False).partition(";")[0]
    identity, rights = asks(known, HTTP_COOKIE=cookie)
    assert (identity.name, rights.held, rights.token, rights.until) == ("root", ROOT.rights, ROOT.id, session.until)
    # A token that is shown beside it counts, also a wrong one.
    assert refused(known, HTTP_COOKIE=cookie, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[0] == 401
    # The kernel's word counts, not that of a browser that was somebody elsewhere.
    assert asks(known, HTTP_COOKIE=cookie, **{callers.IDENTITY: ALICE})[0] == ALICE
    forged = refused(known, HTTP_COOKIE=cookie[:-1] + ("0" if cookie[-1] != "0" else "1"))
    file.remove([ROOT.id])
    assert refused(known, HTTP_COOKIE=cookie) == forged
    assert forged[0] == 401
    assert forged[1].startswith("this session has ended")


def test_a_token_on_the_unix_socket_is_refused(known: Callers) -> None:
    assert asks(known, **{callers.IDENTITY: ALICE})[0] == ALICE
    status, line = refused(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}", **{callers.IDENTITY: ALICE})
    assert (status, line.startswith("Authorization: tokens are for the TCP socket")) == (400, True)
    assert refused(known, **{callers.IDENTITY: None})[0] == 401
