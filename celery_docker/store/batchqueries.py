"""Questions about batches: their jobs, how many are in each state, how they ended. Reads only.

Invariant: the counts of a batch are one question, which keeps Redis busy for about 3 ms for each thousand jobs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.store import idlookup, keys, listing, redislink
from celery_docker.store.listing import BatchRow


@dataclass(frozen=True)
class BatchQueries:
    """Questions about batches. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def row(self, batch_id: str) -> BatchRow:
        """Return a batch with the number of its jobs in each state. Raises `NoSuchJob`."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.batch(batch_id))
            (record,) = redislink.answers(pipeline)
        if not record:
            raise errors.NoSuchJob(f"no batch has the id {batch_id!r}")
        return listing.batch(batch_id, record, self.link.call("counts", [keys.batch_jobs(batch_id)], [keys.JOB]))

    def count(self, batch_id: str) -> int:
        """Return the number of jobs in a batch; this costs nothing, however many these are."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(keys.batch_jobs(batch_id))
            (count,) = redislink.answers(pipeline, 0)
        return int(count)

    def ends(self, batch_id: str, failures: Iterable[str]) -> tuple[float | None, list[str]]:
        """Return the time of the latest end in a batch, and the jobs that ended in one of these states, in order."""
        last, *failed = self.link.call("ends", [keys.batch_jobs(batch_id)], [keys.JOB, *failures])
        return (float(last) if last else None), failed

    def of_template(self, template_id: str, limit: int = 1000) -> list[str]:
        """Return the batches that were made of this template, the newest first."""
        with self.link.translated():
            batch_ids: list[str] = self.link.client.zrange(keys.BATCHES, 0, limit - 1, desc=True)
            with self.link.client.pipeline(transaction=False) as pipeline:
                for batch_id in batch_ids:
                    pipeline.hget(keys.batch(batch_id), "template")
                templates = redislink.answers(pipeline)
        return [batch_id for batch_id, template in zip(batch_ids, templates, strict=True) if template == template_id]

    def field(self, batch_id: str, name: str) -> str | None:
        """Return one field of the record of a batch, None if it has no such field."""
        value: str | None
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hget(keys.batch(batch_id), name)
            (value,) = redislink.answers(pipeline)
        return value

    def job_ids(self, batch_id: str) -> list[str]:
        """Return the jobs of a batch in its order; where one was tried again, the latest."""
        with self.link.translated():
            job_ids: list[str] = self.link.client.zrange(keys.batch_jobs(batch_id), 0, -1)
        return job_ids

    def resolve(self, text: str) -> str:
        """Return the id of the batch named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        try:
            return idlookup.resolve(self.link, text, keys.BATCHES, keys.batch)
        except errors.NoSuchJob as exc:
            raise errors.NoSuchJob(f"no batch has an id that begins with {text!r}") from exc
