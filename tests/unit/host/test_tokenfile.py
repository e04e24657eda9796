"""The file of tokens on a disk: rights, changes by two commands at once, damage, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core import tokens
from celery_docker.core.access import Right
from celery_docker.core.tokens import Token
from celery_docker.host import secretfile, tokenfile
from celery_docker.host.tokenfile import TokenFile

A, B = (Token("alice", frozenset({Right.READ}), tokens.digest(name * 43)) for name in "ab")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TokenFile:
    """The file of whoever runs the tests, who may be no root."""
    monkeypatch.setattr(secretfile, "OWNER", os.getuid())
    monkeypatch.setattr(secretfile, "group", os.getgid)
    return TokenFile(str(tmp_path / "tokens"))


def test_a_change_counts_at_the_next_question(file: TokenFile) -> None:
    assert file.tokens().tokens == ()
    other = TokenFile(file.path)
    other.add(A)
    assert file.tokens().tokens == (A,)
    other.add(B)
    assert file.tokens().tokens == (A, B)
    other.remove([A.id])
    assert file.tokens().tokens == (B,)
    Path(file.path).unlink()
    assert file.tokens().tokens == ()


def test_of_two_threads_that_look_at_a_change_none_brings_back_what_was_before(
    file: TokenFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has read the file before its change, and notes that in the middle of what the other notes."""
    file.add(A)
    has_read, may_go_on = threading.Event(), threading.Event()
    read = secretfile.read

    def slowly(path: str, most: int) -> bytes:
        text = read(path, most)
        if threading.current_thread() is slow:
            has_read.set()
            assert may_go_on.wait(60)
        return text

    class File(TokenFile):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if has_read.is_set() and threading.current_thread() is not slow:
                may_go_on.set()
                slow.join(60)

    shared = File(file.path)
    slow = threading.Thread(target=shared.tokens)
    monkeypatch.setattr(secretfile, "read", slowly)
    slow.start()
    assert has_read.wait(60)
    file.remove([A.id])
    shared.tokens()
    assert shared.tokens().tokens == ()


def test_what_is_written_is_closed_to_others(file: TokenFile) -> None:
    file.add(A)
    assert os.stat(file.path).st_mode & 0o7777 == 0o640
    assert file.problems() == []
    assert os.listdir(os.path.dirname(file.path)) == ["tokens"]


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o666])
def test_a_mode_that_opens_it_is_named(file: TokenFile, mode: int) -> None:
    file.add(A)
    os.chmod(file.path, mode)
    (problem,) = file.problems()
    assert f"mode {mode:04o}" in problem
    assert problem.endswith(f"; chmod 0640 {file.path}")


def test_a_broken_line_is_a_problem_and_stays(file: TokenFile) -> None:
    Path(file.path).write_text("nonsense\n")
    os.chmod(file.path, 0o640)
    file.add(A)
    assert file.tokens().tokens == (A,)
    (problem,) = file.problems()
    assert problem.startswith(f"{file.path} line 1 is not an account")
    assert Path(file.path).read_text().startswith("nonsense\n")


def test_an_id_that_none_has_changes_nothing(file: TokenFile) -> None:
    file.add(A)
    for ids in ([B.id], [A.id, "x"], [A.id[:4]], ["alice"]):
        with pytest.raises(errors.UsageError, match=r"^token remove: '.*' is no token's id; list them with"):
            file.remove(ids)
    assert file.tokens().tokens == (A,)


def test_commands_at_once_lose_no_token(file: TokenFile) -> None:
    made = [Token("alice", frozenset({Right.READ}), tokens.digest(str(number))) for number in range(40)]
    threads = [threading.Thread(target=TokenFile(file.path).add, args=(token,)) for token in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {token.id for token in file.tokens().tokens} == {token.id for token in made}


def test_what_cannot_be_read_is_told_each_time(file: TokenFile) -> None:
    Path(file.path).mkdir()
    for _ in range(2):
        with pytest.raises(
            errors.TokensError, match=r"cannot read .*: Is a directory; it must be a file of root:celery"
        ):
            file.tokens()
    Path(file.path).rmdir()
    Path(file.path).write_bytes(b"x" * (tokens.MOST_BYTES + 1))
    for _ in range(2):
        with pytest.raises(errors.TokensError, match=r"is larger than 1 MiB; remove what is no token"):
            file.tokens()
    with pytest.raises(errors.TokensError, match="larger"):
        file.add(A)


def test_a_pipe_is_no_file_of_tokens(file: TokenFile) -> None:
    os.mkfifo(file.path)
    with pytest.raises(errors.TokensError, match=r"^token: cannot read .*: it is no file; it must be a file of root"):
        file.tokens()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root")
def test_whoever_may_not_is_told() -> None:
    code = (
        "import os, sys\n"
        "from celery_docker.host.tokenfile import TokenFile\n"
        "from celery_docker.core.tokens import Token\n"
        "from celery_docker.errors import TokensError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "file = TokenFile(sys.argv[1])\n"
        "for act in (file.tokens, lambda: file.add(Token('a', frozenset(), 'b'))):\n"
        "    try: act()\n"
        "    except TokensError as exc: print(exc)\n"
    )
    made = subprocess.run(["mktemp", "-d", "-p", "/tmp"], capture_output=True, text=True, check=True)
    folder = Path(made.stdout.strip())
    folder.chmod(0o755)
    try:
        file = TokenFile(str(folder / "tokens"))
        file.add(A)
        output = subprocess.check_output([sys.executable, "-c", code, file.path], text=True)
        remedy = secretfile.to_read(file.path)
    finally:
        for path in (*folder.iterdir(), folder):
            path.rmdir() if path.is_dir() else path.unlink()
    read, write = output.splitlines()
    assert read == f"token: cannot read {file.path}: Permission denied; {remedy}"
    assert write.endswith("the tokens are as before; do it as root")


def test_a_full_disk_leaves_the_tokens_as_they_were(file: TokenFile) -> None:
    """The disk becomes full in the middle of the file: no file of the process that writes takes more than 100 bytes."""
    file.add(A)
    before = Path(file.path).read_bytes()
    code = (
        "import resource, signal\n"
        "from celery_docker.core.tokens import Token\n"
        "from celery_docker.host.tokenfile import TokenFile\n"
        "from celery_docker.errors import TokensError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"try: TokenFile({file.path!r}).add(Token('bob', frozenset(), 'c' * 64))\n"
        "except TokensError as exc: print(exc)\n"
    )
    # Its output goes through a pipe, which has no such limit.
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert "; the tokens are as before" in output
    assert Path(file.path).read_bytes() == before
    assert os.listdir(os.path.dirname(file.path)) == ["tokens"]


def test_new_tokens_differ() -> None:
    made = {tokenfile.new() for _ in range(100)}
    assert len(made) == 100
    assert all(map(tokens.is_token, made))
