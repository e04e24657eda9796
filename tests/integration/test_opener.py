"""The paths of jobs as their users may open them, with the real process that does it: pins, logs, races, kills."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.access import Identity
from celery_docker.core.devices import Node
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.mountkinds import Mount
from celery_docker.core.policy import Policy, violations
from celery_docker.host import resolver
from tests import servers
from tests.waiting import eventually
from tests.workers.opener import Asking, Opener

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")

# Nobody on the computer of the tests.
ALICE, BOB = 54321, 54322
JOB = "job-1"

_SWAP = """
import os, sys, time
path, secret = sys.argv[1:]
while True:
    os.rename(path, path + ".moved")
    os.symlink(secret, path)
    time.sleep(0.0005)
    os.unlink(path)
    os.rename(path + ".moved", path)
    time.sleep(0.0005)
"""


@pytest.fixture(scope="module")
def process() -> Iterator[Opener]:
    with Opener() as running:
        yield running
        assert running.mounts() == []
        assert running.pinned() == []


@pytest.fixture
def lab() -> Iterator[Path]:
    """A folder of the policy, with a closed home for each of two users, that holds a file which all may read."""
    top = Path(tempfile.mkdtemp(prefix="cdt-lab-", dir="/var/tmp"))
    top.chmod(0o755)
    for name, uid in (("alice", ALICE), ("bob", BOB)):
        home = top / "lab" / name
        home.mkdir(parents=True)
        (home / "notes").write_text(f"of {name}")
        for path in (home / "notes", home):
            os.chown(path, uid, uid)
        home.chmod(0o700)
    (top / "secret").mkdir()
    (top / "secret/notes").write_text("secret")
    yield top / "lab"
    shutil.rmtree(top)


def client(process: Opener, lab: Path, worker: str = "celery@here", **rules: Any) -> Asking:
    return Asking(process.socket, worker, Policy(**{"mounts": (str(lab),), **rules}))


def spec(user: int | None = ALICE, **fields: Path) -> JobSpec:
    paths: dict[str, Any] = {name: str(path) for name, path in fields.items()}
    return JobSpec("busybox", user=None if user is None else str(user), **paths)


def mounting(*mounts: Mount, user: int | None = ALICE) -> JobSpec:
    return JobSpec("busybox", user=None if user is None else str(user), mounts=mounts)


def refusal(asked: Asking, job: JobSpec) -> str:
    """Return why a job would not be run."""
    found = asked.pin(JOB, job)
    asked.release(JOB)
    _, request = resolver.resolve(job, "", asked.rules, None, found.follow)
    return "; ".join(violations(asked.rules, request))


@contextmanager
def swapped(path: Path, secret: Path) -> Iterator[None]:
    """Put a link to a secret folder in place of a folder and back, some hundred times a second."""
    program = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-c", _SWAP, str(path), str(secret)]
    with subprocess.Popen(program) as swapping:
        try:
            yield
        finally:
            swapping.kill()
    if path.is_symlink():
        path.unlink()
    moved = path.with_name(f"{path.name}.moved")
    if moved.exists():
        moved.rename(path)


# Devices


def test_devices_as_root_sees_them(process: Opener, lab: Path) -> None:
    """The worker has a /dev of its own, without them."""
    look = client(process, lab).look(["/dev/null", "/dev/stdin", "/dev/none", "/dev/shm", "/etc/passwd"])
    assert look("/dev/null") == Node(True, False, 1, 3, ("mem",))
    assert look("/dev/shm") == Node(is_character=False)
    for path, number in (("/dev/stdin", errno.ELOOP), ("/dev/none", errno.ENOENT), ("/etc/passwd", errno.ELOOP)):
        with pytest.raises(OSError, match=r".") as caught:
            look(path)
        assert caught.value.errno == number


# Whose path it is


def test_a_closed_home_is_its_users_own(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    found = asked.pin(JOB, spec(inputpath=lab / "alice", outputpath=lab / "alice"))
    assert Path(found.pins["inputpath"], "notes").read_text() == "of alice"
    Path(found.pins["outputpath"], "new").write_text("x")
    with pytest.raises(OSError, match="Read-only"):
        Path(found.pins["inputpath"], "other").write_text("x")
    descriptor = asked.open_log(f"{lab}/alice/logs/job.log", str(ALICE))
    os.write(descriptor, b"line\n")
    os.close(descriptor)
    asked.release(JOB)
    log = lab / "alice/logs/job.log"
    assert (log.read_bytes(), log.stat().st_uid, log.stat().st_gid) == (b"line\n", ALICE, ALICE)
    assert (log.parent.stat().st_uid, (lab / "alice/new").read_text()) == (ALICE, "x")


def test_another_users_closed_home_is_closed(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    for field in ("inputpath", "outputpath"):
        for path in (lab / "bob/notes", lab / "bob/no-such-file"):
            assert refusal(asked, spec(ALICE, **{field: path})) == (
                f"{field}: user {ALICE} may not look at '{path}'; let that user enter the folders above"
            )
    for name in ("bob/job.log", "bob/notes", "bob/new/job.log"):
        with pytest.raises(PermissionError):
            asked.open_log(f"{lab}/{name}", str(ALICE))
    assert (lab / "bob/notes").read_text() == "of bob"
    assert sorted(os.listdir(lab / "bob")) == ["notes"]


def test_a_user_has_the_groups_of_the_host(process: Opener, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab / "group").mkdir(mode=0o750)
    (lab / "group/data").mkdir()
    os.chown(lab / "group", 0, 4711)
    asked, job = client(process, lab), spec(inputpath=lab / "group/data")
    assert "may not look at" in refusal(asked, job)
    assert refusal(asked, spec(None, inputpath=lab / "group/data")) == ""
    whole = resolver.identity(str(ALICE), asked.rules)
    assert whole is not None
    monkeypatch.setattr(resolver, "identity", lambda *_: Identity(whole.name, ALICE, ALICE, (ALICE, 4711)))
    assert refusal(asked, job) == ""


def test_a_job_without_a_user_opens_as_root(process: Opener, lab: Path) -> None:
    """As before; its logs are the worker's."""
    asked = client(process, lab)
    found = asked.pin(JOB, spec(None, inputpath=lab / "alice", outputpath=lab / "bob"))
    assert Path(found.pins["inputpath"], "notes").read_text() == "of alice"
    assert Path(found.pins["outputpath"], "notes").read_text() == "of bob"
    asked.release(JOB)
    os.close(asked.open_log(f"{lab}/job.log", None))
    assert (lab / "job.log").stat().st_uid == os.geteuid()


def test_a_log_in_the_workers_folder_becomes_the_users(process: Opener, lab: Path) -> None:
    """Nobody else's may be written by naming it."""
    logs = lab.parent / "logs"
    logs.mkdir()
    asked = client(process, lab, logs=(str(logs),))
    (logs / "old.log").touch()
    os.close(asked.open_log(f"{logs}/old.log", str(BOB)))
    assert (logs / "old.log").stat().st_uid == BOB
    for _ in ("the first job", "the next"):
        os.close(asked.open_log(f"{logs}/new/job.log", str(ALICE)))
        assert (logs / "new/job.log").stat().st_uid == ALICE
    assert (logs / "new").stat().st_uid == os.geteuid()
    with pytest.raises(PermissionError):
        asked.open_log(f"{logs}/new/job.log", str(BOB))
    (lab / "alice/link").symlink_to(logs)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        asked.open_log(f"{lab}/alice/link/x.log", str(ALICE))
    (logs / "two names").touch()
    os.link(logs / "two names", lab / "bob/state")
    os.close(asked.open_log(f"{logs}/two names", str(ALICE)))
    assert (lab / "bob/state").stat().st_uid == os.geteuid()


# What is pinned


def test_what_is_mounted_below_an_input_is_read_only(process: Opener, lab: Path) -> None:
    below = lab / "alice/below"
    below.mkdir()
    servers.run("mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", str(below))
    late = lab / "alice/late"
    try:
        (below / "x").touch()
        asked = client(process, lab)
        found = asked.pin(JOB, spec(inputpath=lab / "alice", outputpath=below))
        seen = Path(found.pins["inputpath"])
        assert os.listdir(seen / "below") == ["x"]
        with pytest.raises(OSError, match="Read-only"):
            (seen / "below/y").touch()
        late.mkdir()
        servers.run("mount", "-t", "tmpfs", "tmpfs", str(late))
        (late / "z").touch()
        assert os.listdir(seen / "late") == []
        Path(found.pins["outputpath"], "y").touch()
        servers.run("umount", str(late))
        assert sorted(os.listdir(below)) == ["x", "y"]
        asked.release(JOB)
        assert sorted(os.listdir(below)) == ["x", "y"], "what it lay on is still mounted"
    finally:
        for place in (late, below):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def test_further_mounts_are_opened_and_pinned_as_input_and_output_are(process: Opener, lab: Path) -> None:
    below = lab / "alice/below"
    below.mkdir()
    servers.run("mount", "-t", "tmpfs", "-o", "mode=777", "tmpfs", str(below))
    try:
        asked = client(process, lab)
        job = mounting(Mount(f"{lab}/alice", "/ref", is_read_only=True), Mount(f"{lab}/alice", "/work"))
        found = asked.pin(JOB, job)
        ref, work = Path(found.pins["mounts.0"]), Path(found.pins["mounts.1"])
        for place in (ref / "x", ref / "below/x"):
            with pytest.raises(OSError, match="Read-only"):
                place.touch()
        (work / "x").touch()
        (work / "below/x").touch()
        assert len(process.mounts()) == 4
        asked.release(JOB)
        assert (process.mounts(), process.pinned()) == ([], [])
    finally:
        subprocess.run(["umount", "-l", below], check=False, capture_output=True)


def test_a_further_mount_of_another_user_or_outside_is_refused(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    for is_read_only in (True, False):
        for path in (lab / "bob/notes", lab / "bob/no-such-file"):
            assert refusal(asked, mounting(Mount(str(path), "/x", is_read_only))) == (
                f"mounts: user {ALICE} may not look at '{path}'; let that user enter the folders above"
            )
        for path in (lab.parent / "secret", lab.parent / "no-such-file"):
            problem = refusal(asked, mounting(Mount(f"{lab}/alice", "/a"), Mount(str(path), "/x", is_read_only)))
            assert problem.startswith(f"mounts: '{path}' is outside what this host allows; rule mounts = ['{lab}']")
        missing = refusal(asked, mounting(Mount(f"{lab}/alice/new", "/x", is_read_only)))
        assert missing.endswith("No such file or directory")
    assert not (lab / "alice/new").exists()
    assert process.mounts() == []


def test_as_many_mounts_as_a_job_may_have(process: Opener, lab: Path) -> None:
    """With the longest paths that there are, and names that JSON makes six times as long."""
    folder = lab / "alice"
    while len(str(folder)) < 3800:
        folder = folder / ("\x01" * 200)
    folder.mkdir(parents=True)
    mounts = tuple(Mount(str(folder), f"/m{number}", bool(number % 2)) for number in range(64))
    asked = client(process, lab)
    found = asked.pin(JOB, mounting(*mounts, user=None))
    assert len(process.mounts()) == len(found.pins) == 64
    assert found.follow("mounts.63", str(folder), ()) == str(folder)
    Path(found.pins["mounts.0"], "x").touch()
    with pytest.raises(OSError, match="Read-only"):
        Path(found.pins["mounts.1"], "y").touch()
    asked.release(JOB)
    assert (process.mounts(), process.pinned()) == ([], [])


def test_a_worker_of_the_previous_version_is_answered(process: Opener, lab: Path) -> None:
    """Its question has the paths alone, of which the inputpath is read-only."""
    user = {"name": "", "uid": ALICE, "gid": ALICE, "groups": []}
    mounts = {name: f"{lab}/alice" for name in ("inputpath", "outputpath")}
    question = {"question": "pin", "worker": "celery@here", "job": JOB, "user": user, "mounts": mounts}
    question |= {"roots": [str(lab)], "logs": {}, "log_roots": []}
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(str(process.socket))
        link.sendall(json.dumps(question).encode())
        link.shutdown(socket.SHUT_WR)
        pins = json.loads(link.recv(65536))["pins"]
    Path(pins["outputpath"], "x").touch()
    with pytest.raises(OSError, match="Read-only"):
        Path(pins["inputpath"], "y").touch()
    client(process, lab).release(JOB)


def test_a_file_may_be_pinned_and_anything_may_have_any_name(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    for name in ("a b", "ü", "line\nline", "x (deleted)", "\\040", "-rf", ".."):
        path = lab / "alice" / f"{name}." if name == ".." else lab / "alice" / name
        path.write_text(name)
        found = asked.pin(JOB, spec(inputpath=path))
        assert Path(found.pins["inputpath"]).read_text() == name
        asked.release(JOB)
        assert path.read_text() == name
    assert process.mounts() == []


def test_a_folder_that_is_removed_meanwhile_is_let_go(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    gone = lab / "alice/gone"
    gone.mkdir()
    found = asked.pin(JOB, spec(outputpath=gone))
    gone.rmdir()
    assert os.listdir(found.pins["outputpath"]) == []
    asked.release(JOB)
    assert process.mounts() == []


def test_what_is_in_use_outlives_its_pin(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    found = asked.pin(JOB, spec(outputpath=lab / "alice"))
    used = os.open(found.pins["outputpath"], os.O_RDONLY)
    try:
        asked.release(JOB)
        assert process.mounts() == []
        os.close(os.open("late", os.O_CREAT | os.O_WRONLY, dir_fd=used))
    finally:
        os.close(used)
    assert (lab / "alice/late").exists()


def test_only_empty_names_are_removed(process: Opener, lab: Path) -> None:
    """Whatever came to lie in the folder of a pin: a link, or a folder with files."""
    asked = client(process, lab)
    asked.pin(JOB, spec(outputpath=lab / "alice"))
    folder = process.pins / "celery@here" / JOB
    (folder / "link").symlink_to(lab / "bob")
    asked.release(JOB)
    assert process.pinned() == []
    assert (lab / "bob/notes").exists()
    (folder / "full").mkdir(parents=True)
    (folder / "full/file").touch()
    asked.release(JOB)
    assert (folder / "full/file").exists()
    shutil.rmtree(folder)
    asked.release(JOB)


def test_pins_do_not_add_up(process: Opener, lab: Path) -> None:
    asked = client(process, lab)
    assert process.process is not None
    descriptors = Path(f"/proc/{process.process.pid}/fd")
    assert refusal(asked, spec(inputpath=lab / "alice")) == ""
    few = len(list(descriptors.iterdir()))
    for number in range(200):
        further = (Mount(f"{lab}/alice", "/a"), Mount(f"{lab}/alice/notes", "/b", is_read_only=True))
        job = replace(spec(inputpath=lab / "alice", outputpath=lab / "alice"), mounts=further)
        asked.pin(f"job-{number}", job)
        if number % 2:
            asked.pin(f"job-{number}", spec(outputpath=lab / "alice"))
        asked.release(f"job-{number}")
    assert process.mounts() == []
    # An answer is there a moment before its connection is closed.
    eventually(lambda: len(list(descriptors.iterdir())) <= few, 60, "the last connection to be closed")
    assert process.pinned() == []


def test_those_of_other_jobs_and_workers_stay(process: Opener, lab: Path) -> None:
    here, there = client(process, lab), client(process, lab, "gpu@here")
    for asked, job_id in ((here, "a"), (here, "b"), (there, "c")):
        asked.pin(job_id, spec(outputpath=lab / "alice"))
    here.keep(["b"])
    assert process.pinned() == ["b", "c"]
    here.keep([])
    there.release("c")
    assert process.pinned() == []


# Races


@pytest.mark.parametrize("user", [ALICE, None], ids=["alice", "root"])
def test_a_folder_that_is_swapped_all_the_time_shows_nothing_else(process: Opener, lab: Path, user: int | None) -> None:
    asked, place = client(process, lab), lab / "alice/data"
    place.mkdir()
    (place / "notes").write_text("data")
    os.chown(lab / "alice", ALICE, ALICE)
    opened = refused = 0
    with swapped(place, lab.parent / "secret"):
        while opened < 30 or refused < 3:
            further = Mount(str(place), "/x")
            found = asked.pin(JOB, replace(spec(user, inputpath=place), mounts=(further,)))
            for pin in found.pins.values():
                assert Path(pin, "notes").read_text() == "data"
                opened += 1
            refused += 2 - len(found.pins)
    asked.release(JOB)


def test_a_log_in_a_folder_that_is_swapped_goes_nowhere_else(process: Opener, lab: Path) -> None:
    place = lab / "alice/data"
    place.mkdir()
    asked, opened = client(process, lab), 0
    with swapped(place, lab.parent / "secret"):
        while opened < 20:
            try:
                os.close(asked.open_log(f"{place}/job.log", None))
                opened += 1
            except OSError:
                continue
    assert os.listdir(lab.parent / "secret") == ["notes"]


# What dies, and who is not there


def test_a_killed_process_leaves_pins_at_most(lab: Path) -> None:
    """The next one answers, and the worker's next word about a job removes what is left of it."""
    with Opener() as process:
        asked, counts = client(process, lab), [0, 0]

        def ask() -> None:
            while counts[1] < 8:
                with suppress(errors.HostError):
                    asked.pin(f"job-{counts[0]}", spec(inputpath=lab / "alice", outputpath=lab / "alice"))
                counts[0] += 1

        asking = Thread(target=ask)
        asking.start()
        for kills in range(1, 9):
            pinned = counts[0]
            eventually(lambda pinned=pinned: counts[0] > pinned, 60, "a pin")  # type: ignore[misc]
            process.kill()
            process.start()
            counts[1] = kills
        asking.join()
        last = f"job-{counts[0]}"
        asked.pin(last, spec(inputpath=lab / "alice", outputpath=lab / "alice"))
        assert len(process.pinned()) > 1
        asked.keep([last])
        assert process.pinned() == [last]
        assert len(process.mounts()) == 2
        asked.release(last)
        assert process.mounts() == []


def test_nobody_else_is_answered(process: Opener, lab: Path) -> None:
    process.socket.chmod(0o666)
    process.folder.chmod(0o711)
    asking = f"""
import os, socket
os.setuid({ALICE})
link = socket.socket(socket.AF_UNIX)
link.connect({str(process.socket)!r})
link.settimeout(60)
try:
    print(len(link.recv(100)))
except ConnectionResetError:
    print(0)
"""
    answer = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout == "0\n"


def test_nonsense_ends_nothing(process: Opener, lab: Path) -> None:
    for text in (b"", b"{", b"[]", b'{"question": "pin"}', b'{"question": "keep", "worker": "../x", "jobs": []}'):
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(str(process.socket))
            link.sendall(text)
            link.shutdown(socket.SHUT_WR)
            assert b"places" not in link.recv(1000)
    assert refusal(client(process, lab), spec(inputpath=lab / "alice")) == ""


def test_where_nobody_listens_the_host_is_to_blame(lab: Path) -> None:
    asked = Asking(lab / "no.sock", "celery@here", Policy(mounts=(str(lab),)))
    with pytest.raises(errors.HostError, match=r"No such file or directory; try: systemctl restart celery-docker-op"):
        asked.pin(JOB, spec(inputpath=lab / "alice"))
    asked.pin(JOB, spec())
    asked.release(JOB)
    asked.keep([])
