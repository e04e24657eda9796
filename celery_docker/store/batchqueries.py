"""Questions about batches: their jobs, how many are in each state, how they ended. Reads only.

Invariant: a large batch is looked at part by part, so that Redis is busy with it for some milliseconds at a time. A job
that ends meanwhile is counted once, as it was or as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.core.lifecycle import State
from celery_docker.store import idlookup, keys, listing, redislink
from celery_docker.store.jobfilter import JobFilter
from celery_docker.store.jobpages import JobPages
from celery_docker.store.listing import BatchRow

_AT_ONCE = 2000
_LIVE = tuple(state for state in State if not state.is_final)


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
        return listing.batch(batch_id, record, [part for answer in self._each("counts", batch_id) for part in answer])

    def count(self, batch_id: str) -> int:
        """Return the number of jobs in a batch; this costs nothing, however many these are."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(keys.batch_jobs(batch_id))
            (count,) = redislink.answers(pipeline, 0)
        return int(count)

    def going(self, batch_id: str) -> tuple[int, int]:
        """Return how many jobs of a batch have not ended, of how many."""
        return sum(1 for _ in self.each_job(batch_id, "state", states=_LIVE)), self.count(batch_id)

    def ends(self, batch_id: str, failures: Iterable[str]) -> tuple[float | None, list[str]]:
        """Return the time of the latest end in a batch, and the jobs that ended in one of these states, in order."""
        answers = list(self._each("ends", batch_id, *failures))
        last = max((float(answer[0]) for answer in answers if answer[0]), default=None)
        return last, [job_id for answer in answers for job_id in answer[1:]]

    def _each(self, script: str, batch_id: str, *words: str) -> Iterator[list[Any]]:
        """Yield what a script answers about each part of the jobs of a batch."""
        for first in range(0, self.count(batch_id), _AT_ONCE):
            args = [keys.JOB, first, first + _AT_ONCE - 1, *words]
            yield self.link.call(script, [keys.batch_jobs(batch_id)], args)

    def each_job(
        self, batch_id: str, *names: str, states: Iterable[State] = ()
    ) -> Iterator[tuple[str, list[str | None]]]:
        """Yield the jobs of a batch in its order with these fields of their records; those in some states, or all."""
        return JobPages(self.link, JobFilter(tuple(states)), batch_id, newest_first=False).cells(*names)

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
        job_ids: list[str] = []
        for first in range(0, self.count(batch_id), _AT_ONCE):
            with self.link.translated():
                job_ids += self.link.client.zrange(keys.batch_jobs(batch_id), first, first + _AT_ONCE - 1)
        return job_ids

    def resolve(self, text: str) -> str:
        """Return the id of the batch named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        try:
            return idlookup.resolve(self.link, text, keys.BATCHES, keys.batch)
        except errors.NoSuchJob as exc:
            raise errors.NoSuchJob(f"no batch has an id that begins with {text!r}") from exc
