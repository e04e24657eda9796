"""Whether this host takes new jobs: open until somebody has a reason against it, and again when the last has none.

Invariant: what runs is not touched by a closed intake; only new messages are left in their queues.
"""

from __future__ import annotations

from threading import Lock


class Intake:
    """Reasons not to take new jobs, each with the name of who gave it; for any thread."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}
        self._lock = Lock()

    def close(self, who: str, reason: str) -> None:
        """Take no new jobs; `reason` is one line for people and replaces an earlier one of the same name."""
        with self._lock:
            self._reasons[who] = reason

    def open(self, who: str) -> None:
        """Take back the reason of that name."""
        with self._lock:
            self._reasons.pop(who, None)

    @property
    def is_open(self) -> bool:
        return not self._reasons

    @property
    def reason(self) -> str:
        """Why the intake is closed, in one line; empty if it is open."""
        with self._lock:
            return "; ".join(self._reasons.values())
