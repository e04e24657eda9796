"""The jobs that are next in each queue, and for how long that may be told again. Reads only.

Invariant: it is told again only to a job whose message was there when it was read. Of a queue, the first `PLACES`
messages are looked at, which keeps Redis busy for some milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from celery_docker.core import message
from celery_docker.core.waiting import Place
from celery_docker.store import keys, redislink

PLACES = 1000
_PLACES_BYTES = 4 * 2**20
# Some megabytes.
_MOST_KEPT = 16


@dataclass(frozen=True)
class Head:
    """The jobs that are next in a queue, by their places among so many messages; `is_all`: there are no more.

    `read_at` is the time by Redis' clock at which that was so.
    """

    places: Mapping[str, int]
    count: int
    is_all: bool
    read_at: float

    def place(self, job_id: str) -> Place | None:
        """Return the place of a job; None if a host has just taken its message."""
        if job_id in self.places:
            return Place(self.places[job_id])
        return None if self.is_all else Place(self.count, exact=False)


@dataclass
class Heads:
    """The heads of all queues, for any number of threads; one that was read is told again for `keep_s` seconds.

    Where one process answers many, each would look through the same messages at every question.
    """

    link: redislink.Link
    keep_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _kept: dict[str, tuple[float, Head]] = field(default_factory=dict)

    def of(self, queue: str, put_at: float | None) -> Head:
        """Return the head of a queue for jobs whose messages were put there at this time by Redis' clock, or before.

        None: nobody knows when, so it is read now. Raises `StoreAway` or `StoreRefused`.
        """
        now_s = self.clock()
        read_s, kept = self._kept.get(queue, (now_s, None))
        if kept is not None and now_s - read_s < self.keep_s and put_at is not None and put_at < kept.read_at:
            return kept
        head = self._read(queue)
        if self.keep_s:
            others = {name: entry for name, entry in self._kept.copy().items() if now_s - entry[0] < self.keep_s}
            # Another thread may have put in one meanwhile, which is then read once more.
            self._kept = {**(others if len(others) < _MOST_KEPT else {}), queue: (now_s, head)}
        return head

    def _read(self, queue: str) -> Head:
        is_all, read_at, *job_ids = self.link.call(
            "heads", message.queue_keys(queue), [PLACES, _PLACES_BYTES, keys.JOB]
        )
        # Of a job that is there twice, the first one counts.
        places = {job_id: place for place, job_id in reversed(list(enumerate(job_ids)))}
        return Head(places, len(job_ids), bool(is_all), float(read_at))
