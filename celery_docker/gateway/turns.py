"""The order in which large requests are worked on: one at a time, since each takes many times its size in memory.

Invariant: those that wait hold less than half of the threads; one too many is answered at once.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from celery_docker import errors

LARGE_BYTES = 256 * 1024
_MOST = 7


@dataclass(frozen=True)
class Turns:
    """Lets one large request after the other be worked on; at most `_MOST` are here at a time."""

    _present: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MOST))
    _working: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def turn(self, size_bytes: int) -> Iterator[None]:
        """Wait until a request with a body of this size may be worked on. Raises `Busy` where too many wait."""
        if size_bytes <= LARGE_BYTES:
            yield
            return
        if not self._present.acquire(blocking=False):
            raise errors.Busy("too many large requests are under way; try again in a moment")
        try:
            with self._working:
                yield
        finally:
            self._present.release()
