"""Parked jobs, and the room that hosts reserve for those that are parked for long."""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.core import admission
from celery_docker.core.admission import Listed, Parked
from celery_docker.store import keys, redislink

# A host that died keeps nothing from a job for longer.
_KEPT_S = 30
# Of each group, so many jobs may have room reserved at a time.
_OF_A_GROUP = 10


@dataclass(frozen=True)
class ReservationStore:
    """Reservations in one Redis. Each call raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def parked(self) -> Listed:
        """Return the jobs that are parked for longest: the first few of each group."""
        args = [keys.PARKED_GROUP, keys.RESERVED, _OF_A_GROUP]
        now, *values = self.link.call("parked", [keys.PARKED], args)
        jobs = []
        for group, job_id, parked_at, holder in zip(*[iter(values)] * 4, strict=True):
            parts = admission.of_group(group)
            if parts is not None:
                jobs.append(Parked(job_id, parts[1], float(parked_at), parts[0], holder))
        return Listed(float(now), tuple(jobs))

    def reserve(self, job_id: str, host: str) -> bool:
        """Reserve a host's room for a parked job, or go on doing so; False if there is no need any more."""
        touched = [keys.job(job_id), keys.RESERVED + job_id]
        return bool(self.link.call("reserve", touched, [host, _KEPT_S]))

    def release(self, job_id: str, host: str) -> None:
        """End the reservation that a host has for a job; another's is left alone."""
        self.link.call("release", [keys.RESERVED + job_id], [host])
