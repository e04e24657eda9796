"""What a worker tells the other hosts, and the people who look after them, with each sign of life."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import receipt
from celery_docker.version import version


@dataclass(frozen=True)
class HostReport:
    """One worker in words fit for JSON; what changes is asked anew by each call."""

    machine: str
    slots: int
    docker: str
    running: Callable[[], int]
    queues: Callable[[], Sequence[str]]
    status: Callable[[], str]
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> dict[str, Any]:
        """Return all of it; `clock` is this host's own, so that whoever reads it sees how wrong that is."""
        return {
            "version": version(),
            "machine": self.machine,
            "pid": os.getpid(),
            "slots": self.slots,
            "started_at": receipt.rfc3339(self.started_at),
            "docker": self.docker,
            "python": platform.python_version(),
            "running": self.running(),
            "queues": sorted(self.queues()),
            "status": self.status(),
            "clock": receipt.rfc3339(datetime.now(UTC)),
        }
