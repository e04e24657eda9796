"""The way to the jobs for who has the URL of Redis: records and messages are written here."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from celery_docker import errors
from celery_docker.client import configfiles, documents, submission, views
from celery_docker.core.batch import Expanded
from celery_docker.core.jobspec import JobSpec, Submission
from celery_docker.store import jobstore, livelog, redislink
from celery_docker.store.jobstore import Store
from celery_docker.store.queries import Queries


class Direct:
    """Jobs in the Redis of a URL. Nothing is sent before the first call."""

    def __init__(self, url: str) -> None:
        self.url = url

    @cached_property
    def store(self) -> Store:
        """The writer of records."""
        return jobstore.connect(self.url)

    @cached_property
    def queries(self) -> Queries:
        """The reader of jobs, batches, queues and workers."""
        return Queries(self.store.link)

    @cached_property
    def builder(self) -> submission.JobBuilder:
        """The maker of jobs for the user of this process."""
        return submission.of_process(configfiles.key_file(os.environ))

    @cached_property
    def _bytes(self) -> redislink.Link:
        return redislink.connect(self.url, text=False)

    @property
    def log(self) -> livelog.RedisLog:
        """The output of jobs."""
        return livelog.RedisLog(self._bytes)

    def submit(self, spec: JobSpec, options: Submission, before: Callable[[str], object] | None) -> str:
        """Queue a job and return its id, with which `before` is called first."""
        job = self.builder.job(spec.to_kwargs(), options)
        if before is not None:
            before(job.job_id)
        self.store.submit([job])
        return job.job_id

    def submit_batch(
        self, jobs: Sequence[Expanded], limit: int | None, name: str | None, about: Mapping[str, str]
    ) -> str:
        """Queue the jobs of a batch and return its id; `about` is stored with it."""
        batch_id = str(uuid.uuid4())
        new_jobs = documents.of_batch(self.builder, jobs, batch_id, len(jobs), [None] * len(jobs))
        facts: dict[str, str | int] = {**about, "size": len(new_jobs), **self.builder.owner}
        facts |= {"limit": limit} if limit is not None else {}
        facts |= {"name": name} if name is not None else {}
        try:
            self.store.begin_batch(batch_id, facts)
            self.store.submit(new_jobs)
        except (errors.StoreAway, errors.StoreRefused, errors.NoSuchJob) as exc:
            raise type(exc)(f"{exc}; some jobs of batch {batch_id} may be queued, cancel it") from exc
        except KeyboardInterrupt as exc:
            note = f"some jobs of batch {batch_id} may be queued; cancel it with: celery-docker cancel {batch_id}"
            exc.add_note(note)
            raise
        return batch_id

    def cancel_many(self, job_ids: Sequence[str], reason: str) -> list[str]:
        """Cancel jobs, the last first; return the state that each was in, in the order given."""
        return self.store.cancel_many(job_ids[::-1], reason=reason)[::-1]

    def retry_many(self, job_ids: Sequence[str]) -> list[str]:
        """Queue jobs that have ended once more; return their new ids."""
        records = self.queries.jobs.fields(job_ids, *submission.RETRIED)
        new_jobs = [self.builder.again(job_id, *record) for job_id, record in zip(job_ids, records, strict=True)]
        self.store.submit(new_jobs)
        return [new.job_id for new in new_jobs]

    def documents(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return all that is known of jobs."""
        found = [self.queries.jobs.whole(job_id) for job_id in job_ids]
        waits = self.queries.waits.of([row for row, _ in found])
        return [views.record_json(row, waits.get(row.job_id), record) for row, record in found]

    def summary(self, queue: str) -> dict[str, Any]:
        """Return how much there is to do, and who does it."""
        # As in `client`: a submission does not need it.
        from celery_docker.client import summary

        return summary.of(self.queries, queue)

    def submitter(self) -> None:
        """Return nobody: a job's user is the one that it names."""

    def close(self) -> None:
        """Close the connections."""
        for name in ("store", "_bytes"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        self.__dict__.pop("queries", None)
