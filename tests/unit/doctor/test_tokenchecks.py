"""Tokens as facts, and the lines that `doctor` prints about them."""

from __future__ import annotations

import pytest

from celery_docker.core.redishealth import Redis
from celery_docker.doctor import checks, tokenchecks
from celery_docker.doctor.facts import Facts, Tokens
from tests.unit.doctor.printed import lines

BOTH = {"aaaaaaaa": "bob", "bbbbbbbb": "alice", "cccccccc": "bob"}


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (Tokens(), []),
        (Tokens(False), ["ok    tokens: there are none: celery-docker-api-tcp.socket is off"]),
        (
            Tokens(True),
            [
                "warn  tokens: there are none: celery-docker-api-tcp.socket is on, and answers nobody → celery-docker "
                "token add NAME --rights read,submit,cancel; or systemctl disable --now celery-docker-api-tcp.socket"
            ],
        ),
        (Tokens(True, BOTH), ["ok    tokens: 3 tokens, of alice, bob: celery-docker-api-tcp.socket is on"]),
        (
            Tokens(False, {"aaaaaaaa": "bob"}),
            ["ok    tokens: 1 token, of bob, that nobody can use: celery-docker-api-tcp.socket is off"],
        ),
        (
            Tokens(None, BOTH, frozenset({"bbbbbbbb"})),
            [
                "ok    tokens: 3 tokens, of alice, bob",
                "warn  tokens: bbbbbbbb stands for alice, and this host has no such account → "
                "celery-docker token remove bbbbbbbb",
            ],
        ),
        (
            Tokens(False, problems=("/t has mode 0644, and others can read it; chmod 0640 /t",)),
            [
                "ok    tokens: there are none: celery-docker-api-tcp.socket is off",
                "warn  tokens: /t has mode 0644, and others can read it → chmod 0640 /t",
            ],
        ),
        (
            Tokens(True, failure="token: cannot read /t: Is a directory; it must be a file"),
            ["fail  tokens: cannot read /t: Is a directory → it must be a file"],
        ),
        (
            Tokens(True, failure="token: cannot read /t: Permission denied; it must be a file", is_denied=True),
            ["skip  tokens: you may not read them → sudo celery-docker doctor"],
        ),
    ],
)
def test_who_can_ask_from_elsewhere(known: Tokens, expected: list[str]) -> None:
    assert lines(tokenchecks.tokens(known)) == expected


def test_they_are_among_all_checks() -> None:
    found = lines(checks.findings(Facts(Redis("db", problem="away"), tokens=Tokens(True, BOTH))))
    assert found[1:] == ["ok    tokens: 3 tokens, of alice, bob: celery-docker-api-tcp.socket is on"]
