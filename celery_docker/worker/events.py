"""Celery's events, which monitors like Flower count and show: they say of a job the same as its record and its result.

Each goes out when the thing has happened, and only while somebody has switched events on (`-E`, or a monitor).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_docker.core.lifecycle import State

_SHOWN_OUTPUT = 4096


class Events:
    """Sends events about jobs that hold no slot; nothing is sent before it is open."""

    def __init__(self) -> None:
        self._consumer: Any = None

    def open(self, consumer: Any) -> None:
        """Send through this consumer from now on."""
        self._consumer = consumer

    def ended(self, job_id: str, state: State, line: str) -> None:
        """Send the event of a job that has ended without a slot; for any thread."""
        dispatcher = self._consumer.event_dispatcher if self._consumer is not None else None
        if dispatcher is None:
            return
        if state is State.CANCELLED:
            dispatcher.send("task-revoked", uuid=job_id, **revoked())
        else:
            dispatcher.send("task-failed", uuid=job_id, exception=line, traceback=None)


def revoked(*, terminated: bool = False) -> dict[str, Any]:
    """Return the fields of Celery's event `task-revoked`; `terminated`: the job had a container."""
    return {"terminated": terminated, "signum": None, "expired": False}


def output_of(receipt: Mapping[str, Any]) -> str | None:
    """Return what monitors show as the traceback: the end of the job's own output, never our call stack."""
    return str(receipt.get("output") or "")[-_SHOWN_OUTPUT:] or None
