"""Health of this host, a condition for new jobs: Docker answers, the disks that it writes to answer and have room.

Owns the two reasons "docker" and "disk" of the intake. Invariant: a sick host keeps its jobs and takes no new ones; it
takes them again by itself, as soon as one check finds it well.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Lock, Thread
from typing import Protocol

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core import wording
from celery_docker.core.journal import JournalEvent
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_LEAST_BYTES = 16 * 2**20
_LEAST_FILES_SHARE = 0.01


class Pinged(Protocol):
    """The question to Docker."""

    @property
    def name(self) -> str: ...
    def ping(self, *, within_s: float) -> None: ...


class Health:
    """Checks one host in a thread of its own; `start` once, `stop` once.

    `folders` are those that must have room; one that does not exist is left out. `running` counts the jobs in slots.
    """

    def __init__(
        self,
        intake: Intake,
        docker: Pinged,
        folders: Iterable[str],
        running: Callable[[], int],
        *,
        interval_s: float = 30,
        sick_interval_s: float = 5,
        timeout_s: float = 10,
    ) -> None:
        self._intake = intake
        self._docker = docker
        self._disks = [_Disk(folder) for folder in folders]
        self._running = running
        self._interval_s = interval_s
        self._sick_interval_s = sick_interval_s
        self._timeout_s = timeout_s
        self._sick: set[str] = set()
        self._lock = Lock()
        self._loop = Periodic("health", self._pause_s, self.check)

    @property
    def sick(self) -> list[str]:
        """The parts of this host that are not well: `disk`, `docker`."""
        with self._lock:
            return sorted(self._sick)

    def start(self) -> None:
        """Begin to check."""
        self._loop.start()

    def stop(self) -> None:
        """End after the check that is under way."""
        self._loop.stop()

    def suspect(self, fault: errors.HostError) -> None:
        """Take no new jobs until a check has passed, if what an attempt met may be the fault of the whole host.

        Other faults, such as a registry that is down, are the trouble of one job.
        """
        if isinstance(fault, errors.NoSpace):
            self._is_sick("disk", str(fault))
        elif isinstance(fault, errors.EngineAway | errors.EngineDenied):
            self._is_sick("docker", str(fault))
        else:
            return
        self._loop.wake()

    def check(self) -> None:
        """Ask Docker and look at the disks once, and open or close the intake."""
        for part, complaint in (("docker", self._of_docker()), ("disk", self._of_disks())):
            if complaint:
                self._is_sick(part, complaint)
            else:
                self._is_well(part)

    def _pause_s(self) -> float:
        return self._sick_interval_s if self._sick else self._interval_s

    def _is_sick(self, part: str, reason: str) -> None:
        with self._lock:
            self._intake.close(part, reason)
            if part not in self._sick:
                self._sick.add(part)
                log.warning(
                    "takes no new jobs: %s; %s",
                    *(reason, wording.counted(self._running(), "running job")),
                    extra={"event": JournalEvent.INTAKE_CLOSED},
                )

    def _is_well(self, part: str) -> None:
        with self._lock:
            self._intake.open(part)
            if part in self._sick:
                self._sick.remove(part)
                still = self._intake.reason
                is_well = "the disks are well again" if part == "disk" else f"{self._docker.name} answers again"
                log.info(
                    "%s; takes %s",
                    *(is_well, f"no new jobs yet: {still}" if still else "new jobs again"),
                    extra={"event": JournalEvent.INTAKE_OPEN},
                )

    def _of_docker(self) -> str:
        try:
            self._docker.ping(within_s=self._timeout_s)
        except errors.HostError as exc:
            return str(exc)
        return ""

    def _of_disks(self) -> str:
        return next(filter(None, (disk.complaint(self._timeout_s) for disk in self._disks)), "")


class _Disk:
    """The disk of one folder, looked at in a thread: nothing ends a call about a file server that is gone."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._look: Future[str] | None = None

    def complaint(self, timeout_s: float) -> str:
        """Return the complaint about it, or an empty text; a look that takes longer goes on, and no other begins."""
        if self._look is None:
            self._look = Future()
            Thread(target=_look, args=(self._folder, self._look), daemon=True).start()
        try:
            complaint = self._look.result(timeout_s)
        except TimeoutError:
            return f"the disk of {self._folder} does not answer; look at it, or at its file server"
        self._look = None
        return complaint


def _look(folder: str, answer: Future[str]) -> None:
    answer.set_result(_complaint(folder))


def _complaint(folder: str) -> str:
    """Return the complaint about a disk; empty if there is none, or no such folder."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    free_bytes = disk.f_bavail * disk.f_frsize
    if free_bytes < _LEAST_BYTES:
        return f"the disk of {folder} is full: {free_bytes // 2**20} MiB free; make room"
    # Some file systems make inodes as they need them, and count none.
    if disk.f_favail < disk.f_files * _LEAST_FILES_SHARE:
        return f"the disk of {folder} is full: {disk.f_favail} of {disk.f_files} inodes free; remove files"
    return ""
