"""Intake of new jobs on this host: open until somebody has a reason against it, and again when the last has none.

Invariant: what runs is not touched by a closed intake; only new messages are left in their queues.
"""

from __future__ import annotations

from threading import Lock


class Intake:
    """Reasons not to take new jobs, each under the name of its source; for any thread."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._lock = Lock()
        # True while messages of jobs with an end request are dropped, behind which the next job waits.
        self.is_dropping = False

    def close(self, source: str, reason: str) -> None:
        """Take no new jobs; `reason` is one line for people and replaces an earlier one of the same name."""
        with self._lock:
            self._reasons[source] = reason

    def open(self, source: str) -> None:
        """Take back the reason of that name."""
        with self._lock:
            self._reasons.pop(source, None)

    @property
    def is_open(self) -> bool:
        return not self._reasons

    @property
    def reason(self) -> str:
        """Why the intake is closed, in one line; empty if it is open."""
        with self._lock:
            return "; ".join(self._reasons.values())
