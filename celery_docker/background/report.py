"""The report of a host: an account of the worker for other hosts and for people, sent with each heartbeat."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from celery_docker.core import hostreport, message, receipt
from celery_docker.core.admission import Offer, Room
from celery_docker.core.hoststate import Phase
from celery_docker.version import version


class Activity(Protocol):
    """The worker's own view of what it does."""

    @property
    def phase(self) -> Phase: ...
    @property
    def is_accepting(self) -> bool: ...
    @property
    def status(self) -> str: ...


@dataclass(frozen=True)
class HostReport:
    """The report of one worker, fit for JSON; each call asks anew for what changes.

    `version` is that of the code which runs: an upgrade replaces the files under a process that lives on.
    """

    machine: str
    unit: str
    slots: int
    docker: str
    offer: Offer
    free: Callable[[], Room]
    # The queue list of each job in a slot.
    running: Callable[[], Sequence[str]]
    queues: Callable[[], Sequence[str]]
    activity: Activity
    sick: Callable[[], Sequence[str]]
    unknown_containers: Callable[[], int | None]
    # Of this process: those that have brought an image, and those that failed.
    pulls: Callable[[], tuple[int, int]]
    # The parked job for which room is kept, if any.
    reserved_for: Callable[[], str] = str
    version: str | None = field(default_factory=version)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> dict[str, Any]:
        """Return all of it; `clock` is this host's own, so that whoever reads it sees how wrong that is."""
        running, (done, failed) = self.running(), self.pulls()
        return {
            "version": self.version,
            "machine": self.machine,
            "unit": self.unit,
            "pid": os.getpid(),
            "slots": self.slots,
            "started_at": receipt.rfc3339(self.started_at),
            "docker": self.docker,
            "python": platform.python_version(),
            "running": len(running),
            "running_by_queue": Counter(map(message.queue_name, running)),
            "queues": sorted(self.queues()),
            "phase": self.activity.phase.value,
            "accepting": self.activity.is_accepting,
            "status": self.activity.status,
            "offer": hostreport.of_offer(self.offer),
            "free": hostreport.of_room(self.free()),
            "reserved_for": self.reserved_for(),
            "lists_ends": True,
            "sick": list(self.sick()),
            "unknown_containers": self.unknown_containers(),
            "pulls": {"done": done, "failed": failed},
            "clock": receipt.rfc3339(datetime.now(UTC)),
        }
