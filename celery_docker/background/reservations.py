"""Room that this host reserves for a job that is parked for too long, so that it does not starve.

Invariant: a host reserves room for one job at a time, and two hosts never for the same; a host that takes no jobs
reserves none. Others start meanwhile in the room that is left beyond it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Protocol

from celery_docker.core import admission
from celery_docker.core.admission import Listed, Needs, Parked
from celery_docker.run.periodic import Periodic
from celery_docker.run.room import Ledger

log = logging.getLogger(__name__)

# While room is reserved; else it is woken while jobs are parked.
_EVERY_S, _RARELY_S = 5.0, 60.0


class Records(Protocol):
    """The questions to Redis."""

    def parked(self) -> Listed: ...
    def reserve(self, job_id: str, host: str, needs: Needs) -> bool: ...
    def release(self, job_id: str, host: str) -> None: ...


@dataclass
class Reservations:
    """Reserves one host's room for the job that is parked for longest; `start` and `stop` once.

    `lists` returns the Redis lists that the host serves. A job is parked for `after_s` seconds before that.
    """

    records: Records
    ledger: Ledger
    host: str
    lists: Callable[[], Collection[str]]
    is_taking: Callable[[], bool]
    after_s: float
    _held: Parked | None = None
    _loop: Periodic = field(init=False)

    def __post_init__(self) -> None:
        self._loop = Periodic("reservations", self._pause_s, self.take_turn)

    def start(self) -> None:
        """Begin to look for such a job."""
        self._loop.start()

    def wake(self) -> None:
        """Look now: jobs are parked."""
        self._loop.wake()

    def stop(self) -> None:
        """Look no more. What is reserved then ends by itself."""
        self._loop.stop()

    def take_turn(self) -> None:
        """Go on with the reservation, or end it, or look for a job that needs one. Raises `StoreAway`."""
        if not self.is_taking():
            return self._end()
        if self._held is not None and self._reserve(self._held):
            return None
        self._end()
        listed = self.records.parked()
        job = admission.to_reserve(listed, self.ledger.offer, self.host, lists=self.lists(), after_s=self.after_s)
        if job is not None and self._reserve(job):
            waited_s = listed.now - job.parked_at
            log.info("room is kept for it: it is parked for %d s", waited_s, extra={"job": job.job_id})
        return None

    def _pause_s(self) -> float:
        return _RARELY_S if self._held is None else _EVERY_S

    def _reserve(self, job: Parked) -> bool:
        is_reserved = self.records.reserve(job.job_id, self.host, job.needs)
        if is_reserved:
            self._held = job
            self.ledger.reserve(job.job_id, job.needs)
        return is_reserved

    def _end(self) -> None:
        if self._held is None:
            return
        job_id, self._held = self._held.job_id, None
        self.ledger.reserve("", admission.NOTHING)
        self.records.release(job_id, self.host)
