"""Parked jobs, and the room that hosts reserve for those that are parked for long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import admission, incoming
from celery_docker.core.admission import Listed, Needs, Parked
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

    def reserve(self, job_id: str, host: str, needs: Needs) -> bool:
        """Reserve a host's room for a parked job, or go on doing so; False if it is not parked with these needs now."""
        touched = [keys.job(job_id), keys.RESERVED + job_id]
        return bool(self.link.call("reserve", touched, [host, _KEPT_S, str(needs)]))

    def release(self, job_id: str, host: str) -> None:
        """End the reservation that a host has for a job; another's is left alone."""
        self.link.call("release", [keys.RESERVED + job_id], [host])

    def groups(self) -> list[str]:
        """Return the names of the groups of parked jobs."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.smembers(keys.PARKED)
            (names,) = redislink.answers(pipeline, ())
        return sorted(names)

    def jobs_of(self, group: str) -> list[str]:
        """Return the ids of the jobs of a group, parked for longest first."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(keys.PARKED_GROUP + group, 0, -1)
            (job_ids,) = redislink.answers(pipeline, ())
        return list(job_ids)

    def envelopes(self, job_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the envelope of each of the jobs whose record has one."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hget(keys.job(job_id), "message")
            texts = zip(job_ids, redislink.answers(pipeline), strict=True)
        read = ((job_id, incoming.of_record(job_id, text or None)) for job_id, text in texts)
        return {job_id: envelope for job_id, envelope in read if envelope is not None}

    def repark(self, job_id: str, queue_list: str, before: Needs, needs: Needs) -> bool:
        """Move a parked job to the group of other needs; False if it is not parked as before any more."""
        args = [job_id, queue_list, str(before), str(needs), keys.PARKED_GROUP]
        return bool(self.link.call("repark", [keys.job(job_id), keys.PARKED], args))
