"""Answers about large batches: Redis is busy while one is looked at whole, so each is asked for once in a while.

Invariant: one is looked at at a time, and its answer holds for five times as long as Redis takes for it; those that
wait hold a part of the threads, one too many is answered at once.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors

# Below, nobody notices.
LARGE = 5_000
_KEPT_S_A_JOB = 30e-6
_MOST = 5
# What is kept may name as many jobs.
_MOST_NAMED = 200_000

Table = dict[str, Any]


@dataclass
class Shared:
    """The latest answer about each large batch."""

    clock: Callable[[], float] = time.monotonic
    # Until when it holds, and how much it names.
    _kept: dict[str, tuple[float, int, Table]] = field(default_factory=dict)
    _present: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_MOST))
    _asking: threading.Lock = field(default_factory=threading.Lock)
    # The batch that is looked at, None once it was changed since; both this and what is kept under a lock of their own.
    _asked: str | None = None
    _keeping: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, batch_id: str, jobs: int, ask: Callable[[], Table]) -> Table:
        """Return what `ask` returns about a batch of so many jobs. Raises `Busy` where too many wait."""
        if jobs < LARGE:
            return ask()
        kept = self._holding(batch_id)
        if kept is not None:
            return kept
        with self.turn(jobs):
            kept = self._holding(batch_id)
            if kept is not None:
                return kept
            self._asked = batch_id
            return self._keep(batch_id, jobs, ask())

    @contextlib.contextmanager
    def turn(self, jobs: int) -> Iterator[None]:
        """Wait until a batch of so many jobs may be looked at whole. Raises `Busy` where too many wait."""
        if jobs < LARGE:
            yield
            return
        if not self._present.acquire(blocking=False):
            raise errors.Busy("many ask about large batches; try again in a moment")
        try:
            with self._asking:
                yield
        finally:
            self._present.release()

    def forget(self, batch_id: str) -> None:
        """Have a batch that was changed looked at again by whoever asks next."""
        with self._keeping:
            self._asked = None if self._asked == batch_id else self._asked
            self._kept = {key: value for key, value in self._kept.items() if key != batch_id}

    def _holding(self, batch_id: str) -> Table | None:
        until_s, _, table = self._kept.get(batch_id, (0.0, 0, None))
        return table if self.clock() < until_s else None

    def _keep(self, batch_id: str, jobs: int, table: Table) -> Table:
        now_s = self.clock()
        with self._keeping:
            kept = {key: value for key, value in self._kept.items() if value[0] > now_s and key != batch_id}
            if self._asked == batch_id:
                kept[batch_id] = (now_s + jobs * _KEPT_S_A_JOB, 100 + len(table["failed"]), table)
            while sum(size for _, size, _ in kept.values()) > _MOST_NAMED and len(kept) > 1:
                del kept[next(iter(kept))]
            self._kept = kept
        return table
