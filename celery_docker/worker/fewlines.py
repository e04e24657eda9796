"""Bound on the lines of the journal that whoever writes to Redis can have a worker write, as fast as he likes.

Invariant: what they tell of is kept elsewhere, as in `celery-docker queue refused`, or nobody needs it a hundred times.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

MOST = 30
_WINDOW_S = 60.0


class FewLines(logging.Filter):
    """Lets `MOST` lines of each kind through in a minute; the last of them says so. A kind is what has one text."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # For each kind, when its minute has begun, and how many lines there were in it. Logging has a lock of its own,
        # but not for filters: two threads may let one line too many through.
        self._minutes: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is to be written."""
        now = self._clock()
        began_at, count = self._minutes.get(record.msg, (now, 0))
        if now - began_at >= _WINDOW_S:
            began_at, count = now, 0
        self._minutes[record.msg] = began_at, count + 1
        if count + 1 == MOST:
            record.msg += "; no more of these lines are written until a minute is over"
        return count < MOST
