"""The facts about tokens, from a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker.cli import tokenfacts
from celery_docker.core.access import Right
from celery_docker.core.tokens import Token
from celery_docker.doctor import facts, hostfacts
from celery_docker.host.tokenfile import TokenFile


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")


def test_no_file_is_no_token(tmp_path: Path) -> None:
    assert tokenfacts.gather(TokenFile(str(tmp_path / "tokens"))) == facts.Tokens()


def test_each_token_with_its_account(tmp_path: Path) -> None:
    file = TokenFile(str(tmp_path / "tokens"))
    for number, account in enumerate(["root", "no-such-user"]):
        file.add(Token(account, frozenset({Right.READ}), f"{number}" * 64))
    with open(file.path, "a") as text:
        text.write("what is this\n")
    os.chmod(file.path, 0o644)
    known = tokenfacts.gather(file)
    assert known.accounts == {"0" * 8: "root", "1" * 8: "no-such-user"}
    assert known.strangers == {"1" * 8}
    assert any("has mode 0644" in problem for problem in known.problems)
    assert any("line 4 is not an account" in problem for problem in known.problems)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    known = tokenfacts.gather(TokenFile(str(tmp_path)))
    assert known.failure.startswith(f"token: cannot read {tmp_path}: Is a directory; ")
    assert not known.is_denied


def test_a_service_manager_says_whether_it_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "systemctl"
    monkeypatch.setenv("PATH", str(tmp_path))
    for load, active, expected in (
        ("loaded", "active", True),
        ("loaded", "inactive", False),
        ("not-found", "inactive", None),
    ):
        program.write_text(f"#!/bin/sh\necho LoadState={load}; echo ActiveState={active}\n")
        program.chmod(0o755)
        assert hostfacts.listens_over_tcp() is expected
