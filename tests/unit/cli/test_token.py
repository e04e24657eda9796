"""The command `token`: a token is printed once and nowhere else, and every mistake is one line."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest

from celery_docker.cli import main
from celery_docker.core import tokens
from celery_docker.core.access import Right
from celery_docker.host import secretfile
from celery_docker.host.tokenfile import TokenFile

Output = pytest.CaptureFixture[str]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenFile:
    """The file of whoever runs the tests, who may be no root."""
    monkeypatch.setattr(tokens, "FILE", str(tmp_path / "tokens"))
    monkeypatch.setattr(secretfile, "OWNER", os.getuid())
    monkeypatch.setattr(secretfile, "group", os.getgid)
    return TokenFile(str(tmp_path / "tokens"))


def call(*words: str) -> int:
    return main.main(["token", *words], {})


def test_a_token_that_nobody_has_seen_is_named(
    file: TokenFile, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert call("add", "root", "--rights", "read") != 0
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    (made,) = TokenFile(file.path).tokens().tokens
    err = capsys.readouterr().err
    assert f"token {made.id} was made and could not be shown; remove it: celery-docker token remove {made.id}\n" in err


def test_a_token_is_printed_once(file: TokenFile, capsys: Output) -> None:
    assert call("add", "root", "--rights", "submit,read", "--label", "a script") == 0
    out, err = capsys.readouterr()
    secret = out.strip()
    assert (out, tokens.is_token(secret)) == (f"{secret}\n", True)
    found = file.tokens().find(secret)
    assert found is not None
    assert (found.account, found.rights, found.label) == ("root", {Right.READ, Right.SUBMIT}, "a script")
    assert err.startswith(f"token {found.id} of root (read,submit): it is shown this once; ")
    assert call() == call("list") == call("list", "--json") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split() == [found.id, "root", "read,submit", "a", "script"]
    assert json.loads(out.splitlines()[-1])["tokens"] == [
        {"id": found.id, "account": "root", "rights": ["read", "submit"], "label": "a script"}
    ]
    assert (secret in out, found.digest in out, err) == (False, False, "")
    assert secret.encode() not in Path(file.path).read_bytes()


def test_json_has_the_token(file: TokenFile, capsys: Output) -> None:
    assert call("add", "root", "--rights", "admin", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["account"], document["rights"]) == ("root", ["admin"])
    found = file.tokens().find(document["token"])
    assert found is not None
    assert found.id == document["id"]


def test_several_of_one_account_and_their_end(file: TokenFile, capsys: Output) -> None:
    for _ in range(3):
        assert call("add", "root", "--rights", "read") == 0
    first, second, third = file.tokens().tokens
    assert call("remove", first.id, third.id) == 0
    assert file.tokens().tokens == (second,)
    assert call("remove", first.id) == 2
    assert capsys.readouterr().err.endswith("is no token's id; list them with: celery-docker token list\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["frob"], "token: 'frob' must be list, add, remove"),
        (["add"], "token add: name one account"),
        (["add", "a", "b", "--rights", "read"], "token add: name one account"),
        (["add", "root"], "token add: say what it may with --rights"),
        (["add", "root", "--rights", "fly"], "--rights: 'fly' must be some of read, submit, cancel, admin"),
        (["add", "root", "--rights", "read", "--label", "a\tb"], "--label: 'a\\tb' must be 1 to 60 printable"),
        (["add", "no-such-account", "--rights", "read"], "token add: this host has no account 'no-such-account'"),
        (["add", "a b", "--rights", "read"], "token add: 'a b' must be the name of an account"),
        (["add", "#a", "--rights", "read"], "token add: '#a' must be the name of an account"),
        (["add", "www-data", "--rights", "submit"], "'www-data' is the account of a service (uid 33), and cannot"),
        (["remove"], "token remove: name tokens by their ids"),
        (["list", "x"], "token list: 'x' is one word too many"),
        (["list", "--rights", "read"], "token list: --rights is for token add"),
        (["remove", "x", "--label", "y"], "token remove: --label is for token add"),
    ],
)
def test_a_mistake_changes_nothing(file: TokenFile, capsys: Output, words: list[str], line: str) -> None:
    assert call(*words) == 2
    out, err = capsys.readouterr()
    assert (out, err.startswith(f"celery-docker: {line}"), err.count("\n")) == ("", True, 1)
    assert not Path(file.path).exists()


def test_what_is_wrong_with_the_file_is_listed(file: TokenFile, capsys: Output) -> None:
    assert call("add", "root", "--rights", "read") == 0
    with Path(file.path).open("a") as opened:
        opened.write("nonsense\n")
    os.chmod(file.path, 0o644)
    capsys.readouterr()
    assert call("list") == 1
    out, err = capsys.readouterr()
    assert "root" in out
    assert [line.startswith(f"token: {file.path} ") for line in err.splitlines()] == [True, True]
    assert call("list", "--json") == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 2
