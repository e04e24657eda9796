"""Who asks: the kernel's word on a Unix socket, a token over TCP, and everything that is neither."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import tokens
from celery_docker.core.access import Identity, Right
from celery_docker.core.tokens import Token
from celery_docker.gateway import callers
from celery_docker.gateway.callers import Callers, Failures
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
    return Callers(990, file, Failures(clock=lambda: 0.0))


def refused(known: Callers, **environ: Any) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        known.of(environ)
    return caught.value.status, str(caught.value)


def test_a_token_stands_for_its_account(known: Callers) -> None:
    identity, rights = known.of({"HTTP_AUTHORIZATION": f"Bearer {SECRET}"})
    entry = pwd.getpwnam("root")
    assert (identity.name, identity.uid, identity.gid) == ("root", 0, entry.pw_gid)
    assert identity.groups == tuple(os.getgrouplist("root", entry.pw_gid))
    assert grp.getgrgid(entry.pw_gid).gr_gid in identity.groups
    assert (rights.held, rights.token, rights.may_everything) == (ROOT.rights, ROOT.id, False)
    assert known.of({"HTTP_AUTHORIZATION": f"bearer {SECRET}"})[1] == rights


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
    assert known.of({"HTTP_AUTHORIZATION": f"Bearer {SECRET}"})[0].name == "root"
    known.failures.clock = lambda: 60.1
    assert refused(known, HTTP_AUTHORIZATION=f"Bearer {OTHER}")[0] == 401


def test_the_file_is_read_again_as_soon_as_it_changes(known: Callers, file: TokenFile) -> None:
    file.add(Token("root", frozenset({Right.ADMIN}), tokens.digest(OTHER)))
    assert known.of({"HTTP_AUTHORIZATION": f"Bearer {OTHER}"})[1].may_everything
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
        assert known.of({"HTTP_AUTHORIZATION": f"Bearer {SECRET}"})[0].uid == 0
    (line,) = caplog.messages
    assert line.startswith(f"token: {file.path} line 3 is not an account")
    Path(file.path).unlink()
    Path(file.path).mkdir()
    for _ in range(3):
        with pytest.raises(
            errors.TokensError, match=r"cannot read .*: Is a directory; it must be a file of root:celery"
        ):
            known.of({"HTTP_AUTHORIZATION": f"Bearer {SECRET}"})
    assert len(caplog.messages) == 2


def test_an_account_that_is_gone(known: Callers, file: TokenFile) -> None:
    file.add(Token("nobody-has-this-name", frozenset({Right.ADMIN}), tokens.digest(OTHER)))
    with pytest.raises(errors.NotAllowed, match=r"^token [0-9a-f]{8}: this host has no account 'nobody-has-this-name'"):
        known.of({"HTTP_AUTHORIZATION": f"Bearer {OTHER}"})


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "localhost:9809", "127.0.0.1:1", "[::1]:9809", "LOCALHOST"]
)
def test_names_of_this_host(known: Callers, host: str) -> None:
    known.check_host({"HTTP_HOST": host})


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil",
        "evil.example:9809",
        "localhost.evil.example",
        "localhost:",
        "127.0.0.1.",
        "[::1",
        "::1",
        "a, localhost",
    ],
)
def test_another_name_is_refused_over_tcp(known: Callers, host: str) -> None:
    for environ in ({"HTTP_HOST": host}, {} if not host else {"HTTP_HOST": host, "HTTP_X_FORWARDED_HOST": "localhost"}):
        with pytest.raises(Refusal, match=r"^Host: '.*' is no name of this service; send Host: localhost$") as caught:
            known.check_host(environ)
        assert caught.value.status == 421
    # What the kernel attests cannot come from a browser.
    known.check_host({"HTTP_HOST": host, callers.IDENTITY: ALICE})


def test_a_token_on_the_unix_socket_is_refused(known: Callers) -> None:
    assert known.of({callers.IDENTITY: ALICE})[0] == ALICE
    status, line = refused(known, HTTP_AUTHORIZATION=f"Bearer {SECRET}", **{callers.IDENTITY: ALICE})
    assert (status, line.startswith("Authorization: tokens are for the TCP socket")) == (400, True)
    assert refused(known, **{callers.IDENTITY: None})[0] == 401
