"""Identity of a worker on its machine: the lock of its name, and the machine's id."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core.fixedsettings import Fixed
from celery_docker.host import identity
from tests.waiting import eventually

NAME = "w2@node1"
FIXED = Fixed(NAME, "redis://:s3cret@127.0.0.1/0", "unix:///var/run/docker.sock")


def test_a_name_has_one_holder(tmp_path: Path) -> None:
    with identity.hold(tmp_path, NAME):
        with pytest.raises(errors.IdentityTaken) as caught:
            identity.hold(tmp_path, NAME)
        identity.hold(tmp_path, "w3@node1").close()
    assert str(caught.value) == (
        f"another worker on this machine works under the name {NAME} (lock {tmp_path}/{NAME}.lock); "
        "give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
    )
    identity.hold(tmp_path, NAME).close()


def test_the_lock_goes_with_its_process(tmp_path: Path) -> None:
    """However it ends: the file that is left behind locks nothing."""
    program = (
        "import sys, pathlib; from celery_docker.host import identity;"
        "held = identity.hold(pathlib.Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), NAME], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(errors.IdentityTaken):
            identity.hold(tmp_path, NAME)
        process.kill()
    eventually(lambda: identity.hold(tmp_path, NAME))


def test_the_last_values_are_those_of_their_own_service(tmp_path: Path) -> None:
    """Two workers of a machine may share the folder."""
    other = replace(FIXED, name="w3@node1")
    assert identity.last(tmp_path, "celery-worker") is None
    for _ in range(2):
        identity.remember(tmp_path, "celery-worker", FIXED)
        identity.remember(tmp_path, "celery-worker@b", other)
    assert (identity.last(tmp_path, "celery-worker"), identity.last(tmp_path, "celery-worker@b")) == (FIXED, other)
    with pytest.raises(errors.HostError, match=r"cannot write .*celery-worker\.last: No such file"):
        identity.remember(tmp_path / "none", "celery-worker", FIXED)


def test_nobody_else_may_read_the_url_of_redis(tmp_path: Path) -> None:
    (tmp_path / "celery-worker.part").write_text("of a process that was killed")
    identity.remember(tmp_path, "celery-worker", FIXED)
    assert [(file.name, file.stat().st_mode & 0o777) for file in tmp_path.iterdir()] == [("celery-worker.last", 0o600)]


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"name": "w2@node1"}'], ids=repr)
def test_a_note_that_cannot_be_read_says_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "celery-worker.last").write_text(text)
    assert identity.last(tmp_path, "celery-worker") is None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.HostError, match=r"cannot write .*w2@node1\.lock: Not a directory|File exists"):
        identity.hold(tmp_path / "file" / "state", NAME)
    with pytest.raises(errors.HostError, match=r"cannot write .*machine-id"):
        identity.machine(tmp_path / "file" / "state", tmp_path / "none")


def test_the_machines_own_id(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("0123456789abcdef\n")
    assert identity.machine(tmp_path / "state", source) == "0123456789abcdef"
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("text", [None, "", "\n"], ids=repr)
def test_a_machine_without_an_id_gets_one_for_good(tmp_path: Path, text: str | None) -> None:
    source = tmp_path / "source"
    if text is not None:
        source.write_text(text)
    machine_id = identity.machine(tmp_path / "state", source)
    assert len(machine_id) == 32
    assert identity.machine(tmp_path / "state", source) == machine_id
    assert identity.machine(tmp_path / "other", source) != machine_id
