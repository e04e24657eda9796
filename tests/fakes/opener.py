"""The opener in memory: opens paths with the rights of the tests, and remembers what is pinned."""

from __future__ import annotations

from collections.abc import Collection

from celery_docker import errors
from celery_docker.core import jobspec
from celery_docker.core.access import Identity
from celery_docker.core.found import Found, Look, OpenLog
from celery_docker.core.policy import Policy
from celery_docker.host import devices, resolver
from celery_docker.host.logfiles import LogFiles, LogKeeper
from celery_docker.opener import opening


class FakeOpener:
    """Pins are remembered by their job; `asked` are the users who opened logs; `failure` is raised, not answered."""

    def __init__(self) -> None:
        self.asked: list[Identity | None] = []
        self.pinned: dict[str, dict[str, str]] = {}
        self.failure: errors.HostError | None = None

    def pin(self, job_id: str, spec: jobspec.JobSpec, rules: Policy, user: Identity | None) -> Found:
        if self.failure is not None:
            raise self.failure
        pins = {name: f"/pins/{job_id}/{name}" for name in spec.host_mounts}
        if pins:
            self.pinned[job_id] = pins
        return Found(resolver.follow, pins)

    def look(self, device_paths: Collection[str]) -> Look:
        return devices.look

    def open_log(self, path: str, user: Identity | None) -> int:
        self.asked.append(user)
        return opening.open_log(path)

    def release(self, job_id: str) -> None:
        self.pinned.pop(job_id, None)

    def keep(self, job_ids: Collection[str]) -> None:
        self.pinned = {job_id: pins for job_id, pins in self.pinned.items() if job_id in job_ids}


def open_own(path: str) -> int:
    """Open a log file anywhere, with the rights of the tests."""
    return opening.open_log(path)


class OwnKeeper(LogKeeper):
    """A keeper of log files that the tests open themselves, unless they say how."""

    def open(self, job_id: str, attempt: int, out: str | None, err: str | None, opened: OpenLog = open_own) -> LogFiles:
        return super().open(job_id, attempt, out, err, opened)

    def resume(
        self, job_id: str, attempt: int, out: str | None, err: str | None, opened: OpenLog = open_own
    ) -> LogFiles:
        return super().resume(job_id, attempt, out, err, opened)
