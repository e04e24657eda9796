"""Files of secrets as they lie on a host, and what `doctor` learns of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker.doctor import filefacts
from celery_docker.doctor.facts import SecretFile
from celery_docker.host import secretfile

CHAT = 'lab-chat = "https://chat.example.org/hooks/s3cret"\n'
LOGIN = '{"auths": {"r.example": {"auth": "Ym9iOnMzY3JldA=="}}}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose group is that of the workers."""
    monkeypatch.setattr(secretfile, "group", lambda: os.stat(tmp_path).st_gid)
    tmp_path.chmod(0o750)
    return tmp_path


def looked_at(folder: Path, notices: str | bytes | None = None, logins: str | None = None) -> list[SecretFile]:
    files = {"n.toml": notices, "config.json": logins}
    for name, text in files.items():
        if text is not None:
            path = folder / name
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(0o640)
    return list(filefacts.gather(str(folder / "n.toml"), str(folder / "config.json")))


def test_files_that_can_be_used(folder: Path) -> None:
    assert looked_at(folder, CHAT + 'pager = ["/bin/true", "--x"]\n', LOGIN) == [
        SecretFile("notices", f"{folder}/n.toml", ("lab-chat", "pager")),
        SecretFile("registries", f"{folder}/config.json", ("r.example",)),
    ]


def test_files_that_are_not_there_or_say_nothing(folder: Path) -> None:
    """Nothing is wrong: jobs may do without."""
    assert looked_at(folder) == []
    assert looked_at(folder, "", "{}") == [
        SecretFile("notices", f"{folder}/n.toml"),
        SecretFile("registries", f"{folder}/config.json"),
    ]


@pytest.mark.parametrize(
    ("text", "failure"),
    [
        ("lab-chat = ", "is not TOML: Invalid value (at end of document)"),
        ('Lab = "https://x.example"', "has 'Lab', which must be lower-case letters, digits and '-', a letter first"),
        ('chat = "https://x:s3cret@h/"', "has no URL for chat, like https://chat.example.org/hook; a user in it is"),
        ('pager = ["/no/such/program"]', "has a command for pager that cannot be started: /no/such/program"),
        ('pager = ["/etc/passwd"]', "has a command for pager that cannot be started: /etc/passwd"),
        (b"\xff", "is not UTF-8"),
        (b"a = " + b"[" * 5000, "is nested too deeply"),
    ],
    ids=["no value", "a bad name", "no URL", "no program", "no executable", "no text", "deep"],
)
def test_targets_that_cannot_be_used(folder: Path, text: str | bytes, failure: str) -> None:
    (file,) = looked_at(folder, text)
    assert file.failure.startswith(failure)
    assert "s3cret" not in repr(file)
    assert file.names == ()


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "null", "[]", '{"auths": 3}', '{"auths": {"r": 3}}', "[" * 100_000),
        *('{"auths": {"r": {"auth": "!!"}}}', '{"auths": {"r": {"auth": "czNjcmV0"}}}'),
    ],
    ids=["empty", "no JSON", "null", "a list", "a number", "no login", "deep", "no base64", "no password"],
)
def test_logins_that_cannot_be_used(folder: Path, text: str) -> None:
    """As the worker reads them, for the next pull."""
    (file,) = looked_at(folder, None, text)
    assert file.failure.startswith("cannot be used: ")
    assert "\n" not in file.failure
    assert "s3cret" not in repr(file)
    assert "czNjcmV0" not in repr(file)


def test_a_helper_for_logins_is_not_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = folder / "docker-credential-mine"
    helper.write_text(f"#!/bin/sh\ntouch {folder}/started\n")
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert looked_at(folder, None, '{"credsStore": "mine", "credHelpers": {"r.example": "mine"}}')[0].failure == ""
    assert not (folder / "started").exists()


@pytest.mark.parametrize(
    ("of_folder", "of_file", "is_closed", "is_public"),
    [
        (0o750, 0o640, False, False),
        (0o755, 0o644, False, True),
        (0o750, 0o644, False, False),
        (0o755, 0o600, True, False),
        (0o700, 0o640, True, False),
        (0o750, 0o604, True, False),
    ],
)
def test_who_can_read_it(folder: Path, of_folder: int, of_file: int, is_closed: bool, is_public: bool) -> None:
    path = folder / "n.toml"
    path.write_text(CHAT)
    path.chmod(of_file)
    folder.chmod(of_folder)
    (file,) = filefacts.gather(str(path), "/none")
    assert (file.is_closed, file.is_public) == (is_closed, is_public)


def test_one_of_another_group_is_closed_to_the_workers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secretfile, "group", lambda: os.stat(folder).st_gid + 1)
    folder.chmod(0o755)
    assert [file.is_closed for file in looked_at(folder, CHAT, LOGIN)] == [True, True]


def test_a_pipe_holds_nobody_up(folder: Path) -> None:
    os.mkfifo(folder / "n.toml")
    (file,) = filefacts.gather(str(folder / "n.toml"), "/none")
    assert file.failure == "cannot be read: it is no file"


def test_one_that_this_user_may_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(secretfile, "read", refuse)
    assert looked_at(folder, CHAT) == [SecretFile("notices", f"{folder}/n.toml", is_denied=True)]
