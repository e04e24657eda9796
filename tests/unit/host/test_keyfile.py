"""The file of keys on a disk: rights, changes, damage, and a disk that is full."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core.signingkeys import Keys
from celery_docker.host import keyfile, secretfile
from celery_docker.host.keyfile import KeyFile

A, B = b"a" * 32, b"b" * 32


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(str(tmp_path / "key"))


def test_a_change_counts_at_the_next_question(file: KeyFile) -> None:
    assert file.keys() is None
    file.write(Keys(A))
    assert file.keys() == Keys(A)
    KeyFile(file.path).write(Keys(B, old=A))
    assert file.keys() == Keys(B, old=A)
    Path(file.path).unlink()
    assert file.keys() is None


def test_of_two_threads_that_look_at_a_change_none_brings_back_what_was_before(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One has read the file before its change, and notes that in the middle of what the other notes."""
    file.write(Keys(A))
    has_read, may_go_on = threading.Event(), threading.Event()
    read = secretfile.read

    def slowly(path: str, most: int) -> bytes:
        text = read(path, most)
        if threading.current_thread() is slow:
            has_read.set()
            assert may_go_on.wait(60)
        return text

    class File(KeyFile):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if has_read.is_set() and threading.current_thread() is not slow:
                may_go_on.set()
                slow.join(60)

    shared = File(file.path)
    slow = threading.Thread(target=shared.keys)
    monkeypatch.setattr(secretfile, "read", slowly)
    slow.start()
    assert has_read.wait(60)
    file.write(Keys(B))
    shared.keys()
    assert shared.keys() == Keys(B)


def test_what_is_written_is_closed_to_others(file: KeyFile) -> None:
    file.write(Keys(A))
    assert os.stat(file.path).st_mode & 0o7777 == 0o640
    assert os.listdir(os.path.dirname(file.path)) == ["key"]


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o666, 0o604, 0o750])
def test_a_mode_that_opens_it_is_named(file: KeyFile, mode: int) -> None:
    file.write(Keys(A))
    os.chmod(file.path, mode)
    assert any(f"mode {mode:04o}" in problem and "chmod 0640" in problem for problem in file.problems())


def test_damage_is_told_with_the_remedy_each_time(file: KeyFile) -> None:
    file.write(Keys(A))
    assert file.keys() == Keys(A)
    Path(file.path).write_text(Keys(A).text()[:-20])
    for _ in range(2):
        with pytest.raises(errors.KeysError, match=r"/key is cut off in line 3; .*key import"):
            file.keys()
        with pytest.raises(errors.KeysError, match="is cut off"):
            file.needed()


def test_a_pipe_or_a_link_to_nothing_is_told(file: KeyFile) -> None:
    os.symlink("/nonexistent/key", file.path)
    with pytest.raises(errors.KeysError, match=r"^key: .* is a link to what is not there; remove it$"):
        file.needed()
    os.unlink(file.path)
    os.mkfifo(file.path)
    with pytest.raises(errors.KeysError, match=r"^key: cannot read .*: it is no file$"):
        file.keys()


def test_a_missing_file_is_told_with_the_remedy(file: KeyFile) -> None:
    with pytest.raises(errors.KeysError, match=r"there is no .*/key; .*key new; .*key export"):
        file.needed()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, as root")
def test_whoever_may_not_read_it_signs_nothing() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o711)  # noqa: S103  # the other user has to find the file
        file = KeyFile(f"{folder}/key")
        file.write(Keys(A))
        code = (
            "import os\n"
            "from celery_docker.host.keyfile import KeyFile\n"
            "from celery_docker.errors import KeysError\n"
            "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"file = KeyFile({file.path!r})\n"
            "print(file.keys())\n"
            "try: file.needed()\n"
            "except KeysError as exc: print(exc)\n"
        )
        output = subprocess.check_output([sys.executable, "-c", code], text=True)
        remedy = secretfile.to_read(file.path)
    assert output.splitlines() == ["None", f"key: this user may not read {file.path}; {remedy}"]


def test_who_may_not_read_it_is_told_what_helps(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another mode does not help somebody who is not meant to read it."""
    monkeypatch.setattr(secretfile, "group", os.getgid)
    file.write(Keys(A))
    os.chmod(os.path.dirname(file.path), 0o755)  # noqa: S103  # as /etc/celery-docker is
    assert secretfile.to_read(file.path) == "do it as root, or as a member of group celery"
    os.chmod(file.path, 0o600)
    assert secretfile.to_read(file.path) == f"chown root:celery {file.path}; chmod 0640 {file.path}"


def test_a_full_disk_leaves_the_keys_as_they_were(file: KeyFile) -> None:
    """The disk becomes full in the middle of the file: no file of the process that writes takes more than 100 bytes."""
    Path(file.path).write_text("as before\n")
    code = (
        "import resource, signal\n"
        "from celery_docker.core.signingkeys import Keys\n"
        "from celery_docker.host.keyfile import KeyFile\n"
        "from celery_docker.errors import KeysError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"try: KeyFile({file.path!r}).write(Keys({A!r}))\n"
        "except KeysError as exc: print(exc)\n"
    )
    # Its output goes through a pipe, which has no such limit.
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert re.search(r"cannot write .*; the keys are as before", output)
    assert Path(file.path).read_text() == "as before\n"
    assert os.listdir(os.path.dirname(file.path)) == ["key"]


def test_new_keys_differ() -> None:
    assert len({keyfile.new() for _ in range(10)}) == 10
