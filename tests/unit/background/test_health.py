"""The host's health: faults close the intake, their end opens it, and each is reported."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.background.health import Health
from celery_docker.background.intake import Intake
from tests.fakes.engine import FakeEngine
from tests.waiting import eventually

AWAY = errors.EngineAway("cannot reach Docker at unix:///d: connection refused; start docker.service")
NEVER_S = 3600.0
WELL = dict(f_frsize=4096, f_bavail=2**20, f_files=1000, f_favail=900)


@dataclass
class Ward:
    """One host, its intake and what its disks say: `disks` changes the numbers of a folder."""

    intake: Intake = field(default_factory=Intake)
    docker: FakeEngine = field(default_factory=FakeEngine)
    disks: dict[str, dict[str, int]] = field(default_factory=dict)
    running: int = 2

    def health(self, **intervals: float) -> Health:
        return Health(self.intake, self.docker, ["/logs", "/state", "/absent"], lambda: self.running, **intervals)

    def statvfs(self, folder: str) -> os.statvfs_result:
        if folder == "/absent":
            raise FileNotFoundError(folder)
        disk = {**WELL, **self.disks.get(folder, {})}
        # What is free for root alone does not help the worker.
        blocks, files = disk["f_bavail"] + 2**20, disk["f_favail"] + 100
        free = (blocks, disk["f_bavail"], disk["f_files"], files, disk["f_favail"])
        return os.statvfs_result((4096, disk["f_frsize"], 2**22, *free, 0, 255))


@pytest.fixture
def ward(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Ward:
    ward = Ward()
    monkeypatch.setattr(os, "statvfs", ward.statvfs)
    caplog.set_level("INFO", logger="celery_docker")
    return ward


@contextmanager
def checking(checker: Health) -> Iterator[None]:
    """Let the thread run; at the end it must be gone."""
    before = threading.active_count()
    checker.start()
    try:
        yield
    finally:
        checker.stop()
        eventually(lambda: threading.active_count() == before)


def test_a_well_host_takes_jobs_and_nothing_is_said(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.health().check()
    assert ward.intake.is_open
    assert caplog.messages == []


def test_without_docker_no_jobs_are_taken(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    """One line when it begins and one when it is over, however often it was checked."""
    doctor = ward.health()
    ward.docker.failures["ping"] = [AWAY, AWAY, AWAY]
    for _ in range(3):
        doctor.check()
        assert ward.intake.reason == str(AWAY)
        assert doctor.sick == ["docker"]
    doctor.check()
    doctor.check()
    assert ward.intake.is_open
    assert doctor.sick == []
    assert caplog.messages == [
        f"takes no new jobs: {AWAY}; 2 running jobs",
        "Docker answers again; takes new jobs again",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_podman_is_called_podman(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.docker.name = "Podman"
    doctor = ward.health()
    ward.docker.failures["ping"] = [AWAY]
    doctor.check()
    doctor.check()
    assert caplog.messages[-1] == "Podman answers again; takes new jobs again"


@pytest.mark.parametrize(
    ("folder", "disk", "complaint"),
    [
        ("/logs", dict(f_bavail=4096), ""),
        ("/logs", dict(f_bavail=4095), "the disk of /logs is full: 15 MiB free; make room"),
        ("/state", dict(f_bavail=0), "the disk of /state is full: 0 MiB free; make room"),
        ("/logs", dict(f_favail=10), ""),
        ("/logs", dict(f_favail=9), "the disk of /logs is full: 9 of 1000 inodes free; remove files"),
        # btrfs and others count no inodes.
        ("/logs", dict(f_files=0, f_favail=0), ""),
    ],
)
def test_room_on_the_disks(ward: Ward, folder: str, disk: dict[str, int], complaint: str) -> None:
    ward.disks[folder] = disk
    ward.health().check()
    assert ward.intake.reason == complaint


def test_a_disk_that_does_not_answer(
    ward: Ward, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file server is gone: the check goes on to tell of Docker, and there is one thread that waits, not many."""
    server_is_back, well, looks = threading.Event(), os.statvfs, list[str]()

    def statvfs(folder: str) -> os.statvfs_result:
        looks.append(folder)
        assert folder != "/state" or server_is_back.wait(60)
        return well(folder)

    monkeypatch.setattr(os, "statvfs", statvfs)
    doctor = ward.health(timeout_s=0.01)

    def checked() -> str:
        doctor.check()
        return ward.intake.reason

    hangs = "the disk of /state does not answer; look at it, or at its file server"
    eventually(lambda: checked() == hangs)
    ward.docker.failures["ping"] = [AWAY]
    assert str(AWAY) in checked()
    eventually(lambda: checked() == hangs)
    assert looks.count("/state") == 1
    server_is_back.set()
    eventually(lambda: checked() == "")
    assert caplog.messages[-1] == "the disks are well again; takes new jobs again"


def test_a_folder_that_is_really_there(tmp_path: Path) -> None:
    """The kernel's own numbers: a machine that runs tests has room."""
    intake = Intake()
    Health(intake, FakeEngine(), [str(tmp_path), str(tmp_path / "absent")], lambda: 0).check()
    assert intake.reason == ""


def test_both_reasons_have_to_go(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    doctor, ward.running = ward.health(), 1
    ward.docker.failures["ping"] = [AWAY]
    ward.disks["/logs"] = dict(f_bavail=0)
    doctor.check()
    full = "the disk of /logs is full: 0 MiB free; make room"
    assert ward.intake.reason == f"{AWAY}; {full}"
    doctor.check()
    assert ward.intake.reason == full
    ward.disks.clear()
    doctor.check()
    assert ward.intake.is_open
    assert caplog.messages == [
        f"takes no new jobs: {AWAY}; 1 running job",
        f"takes no new jobs: {full}; 1 running job",
        f"Docker answers again; takes no new jobs yet: {full}",
        "the disks are well again; takes new jobs again",
    ]


@pytest.mark.parametrize(
    ("fault", "closed"),
    [
        (AWAY, True),
        (errors.EngineDenied("may not use the socket"), True),
        (errors.NoSpace("container run-x cannot be made: no space left on device"), True),
        # The trouble of one image, or of one answer.
        (errors.HostError("image 'x' cannot be pulled now: connection refused; check registry and network"), False),
    ],
)
def test_a_fault_that_an_attempt_met(ward: Ward, fault: errors.HostError, closed: bool) -> None:
    """Closes the intake at once if it may be the whole host's."""
    ward.health().suspect(fault)
    assert ward.intake.reason == (str(fault) if closed else "")


@pytest.mark.parametrize("fault", [AWAY, errors.NoSpace()])
def test_a_passing_fault_is_over_with_the_next_check(ward: Ward, fault: errors.HostError) -> None:
    doctor = ward.health()
    doctor.suspect(fault)
    doctor.check()
    assert ward.intake.is_open


def test_a_suspicion_wakes_the_checker(ward: Ward) -> None:
    """Not at its next regular turn, which is an hour away here."""
    doctor = ward.health(interval_s=NEVER_S, sick_interval_s=NEVER_S)
    with checking(doctor):
        eventually(lambda: ward.docker.calls.count("ping") == 1)
        doctor.suspect(AWAY)
        eventually(lambda: ward.intake.is_open and ward.docker.calls.count("ping") == 2)


def test_a_sick_host_is_checked_more_often(ward: Ward) -> None:
    ward.docker.failures["ping"] = [AWAY] * 5
    with checking(ward.health(interval_s=NEVER_S, sick_interval_s=0.001)):
        eventually(lambda: ward.docker.calls.count("ping") == 6)
        eventually(lambda: ward.intake.is_open)


def test_the_checker_survives_a_mistake_of_ours(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.docker.failures["ping"] = [RuntimeError("a bug")]
    with checking(ward.health(interval_s=0.001)):
        eventually(lambda: ward.docker.calls.count("ping") > 2)
    assert caplog.messages == ["health: its turn failed and is repeated: RuntimeError('a bug')"]


def test_docker_gets_the_timeout_of_a_check(ward: Ward) -> None:
    timeouts: list[float] = []
    ward.docker.ping = lambda *, within_s=10: timeouts.append(within_s)  # type: ignore[method-assign]
    ward.health(timeout_s=3).check()
    assert timeouts == [3]
