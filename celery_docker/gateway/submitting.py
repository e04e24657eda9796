"""Jobs that are queued for their submitter, and jobs that he wants to run again.

Invariant: a job's user is decided by `core.access`, for a new job and for one that runs again; its record says whose it
is. A request that is repeated with the same ids queues nothing twice.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from celery_docker import errors
from celery_docker.client import documents, signing, submission
from celery_docker.client.submission import JobBuilder
from celery_docker.core import access, jobspec, lifecycle, sharedlogs
from celery_docker.core.batch import OPTION_KEYS, Expanded
from celery_docker.core.batchinputs import Row, Source
from celery_docker.core.jobrecord import New
from celery_docker.gateway import bodies, ownership
from celery_docker.gateway.routing import Answer, Refusal, Request
from celery_docker.gateway.shared import Shared
from celery_docker.host.keyfile import KeyFile
from celery_docker.store.jobstore import Store
from celery_docker.store.queries import Queries


@dataclass(frozen=True)
class Submitting:
    """The handlers that queue jobs. Each raises `StoreAway`, `StoreRefused` and what stands with it."""

    store: Store
    queries: Queries
    key_file: KeyFile
    shared: Shared = field(default_factory=Shared)

    def submit(self, request: Request) -> Answer:
        """Queue a job, or up to a thousand; return their ids. Raises `SpecError`, `NotAllowed`, `NoSuchJob`."""
        asked = bodies.submission(request.body)
        parsed = _parsed(asked)
        self._check_after(request, parsed)
        if asked.batch is not None:
            return self._submit_batch(request, asked, asked.batch, parsed)
        builder = self._builder(request)
        pairs = zip(parsed, asked.job_ids, strict=True)
        new_jobs = [builder.job(spec.to_kwargs(), options, job_id=job_id) for (spec, options), job_id in pairs]
        self._queue(request, new_jobs)
        listed = _listed(new_jobs)
        return Answer(listed[0] if asked.is_single else {"jobs": listed}, 201)

    def _submit_batch(
        self, request: Request, asked: bodies.Submission, part: bodies.BatchPart, parsed: Sequence[_Parsed]
    ) -> Answer:
        builder = self._builder(request)
        batch_id = part.batch_id or str(uuid.uuid4())
        jobs = [
            Expanded(
                Row(index, Source.ARRAY, {}),
                spec.to_kwargs(),
                {name: value for name, value in document.items() if name in OPTION_KEYS},
            )
            for index, document, (spec, _) in zip(part.indexes, asked.documents, parsed, strict=True)
        ]
        # By their words alone: this service looks at no path.
        sharedlogs.check(jobs, lambda path: str(PurePosixPath(path)))
        new_jobs = documents.of_batch(builder, jobs, batch_id, part.size, asked.job_ids)
        if not ownership.has_batch(self.queries, request, batch_id):
            facts: dict[str, str | int] = {**part.about, "size": part.size, **builder.owner}
            facts |= {"limit": part.limit} if part.limit is not None else {}
            facts |= {"name": part.name} if part.name is not None else {}
            self.store.begin_batch(batch_id, facts)
        self._queue(request, new_jobs)
        return Answer({"batch": {"id": batch_id, "size": part.size}, "jobs": _listed(new_jobs)}, 201)

    def retry(self, request: Request) -> Answer:
        """Queue a job that has ended once more. Raises `NoSuchJob` and, while it has not ended, `NotEnded`."""
        job_id = request.names["id"]
        return Answer(self._again(request, [job_id], [None])[0], 201)

    def retry_many(self, request: Request) -> Answer:
        """Queue jobs that have ended once more. Raises as `retry` does, before any is queued."""
        return Answer({"jobs": self._again(request, *bodies.retries(request.body))}, 201)

    def retry_failed(self, request: Request) -> Answer:
        """Queue the jobs of a batch once more that failed and have not been, up to a thousand, if they are as many.

        The number is what somebody has confirmed. Raises `Refusal`, `Busy` and as `retry` does, before any is queued.
        """
        batch_id, expected = request.names["id"], bodies.expected(request.body)
        ownership.check_batch(self.queries, request, batch_id)
        # As they are now, and not as they were counted for somebody: one that runs again has the place of the old one.
        with self.shared.turn(self.queries.batches.count(batch_id)):
            failed = [
                job_id for job_id, _ in self.queries.batches.each_job(batch_id, "state", states=lifecycle.FAILURES)
            ]
        if len(failed) != expected:
            raise Refusal(409, f"expected: {expected:,} is not the number of jobs to run again, now {len(failed):,}")
        job_ids = failed[: bodies.MOST_JOBS]
        # Of two who ask this at the same time, both name the same new jobs, and one queues them.
        jobs = self._again(request, job_ids, [_next_id(batch_id, job_id) for job_id in job_ids]) if job_ids else []
        self.shared.forget(batch_id)
        return Answer({"batch": batch_id, "count": len(jobs), "remaining": len(failed) - len(jobs), "jobs": jobs}, 201)

    def _again(self, request: Request, job_ids: Sequence[str], new_ids: Sequence[str | None]) -> list[dict[str, Any]]:
        ownership.check_jobs(self.queries, request, job_ids)
        records = self.queries.jobs.fields(job_ids, *submission.RETRIED)
        owners = [row.uid for row in self.queries.jobs.rows(job_ids)]
        new_jobs = []
        for job_id, new_id, record, uid in zip(job_ids, new_ids, records, owners, strict=True):
            # An administrator's retry of a user's job stays the user's.
            builder = self._builder(request) if uid is None else replace(self._builder(request), uid=uid)
            new_jobs.append(builder.again(job_id, *record, new_id=new_id))
        self._queue(request, new_jobs)
        return [{"id": new.job_id, "retry_of": job_id} for new, job_id in zip(new_jobs, job_ids, strict=True)]

    def _queue(self, request: Request, new_jobs: Sequence[New]) -> None:
        """Queue jobs; one that is known already must be the submitter's, from a request whose answer was lost."""
        is_new = self.store.submit(new_jobs)
        known = [new.job_id for new, was_new in zip(new_jobs, is_new, strict=True) if not was_new]
        if known and ownership.of_jobs(self.queries, request, known).keys() < {*known}:
            raise Refusal(409, "ids: one of them is another job's; leave ids out, or choose random ones")

    def _builder(self, request: Request) -> JobBuilder:
        identity, host = request.identity, socket.gethostname()
        return JobBuilder(
            f"{identity.name}@{host}",
            f"{os.getpid()}@{host}",
            signing.Signer(self.key_file, identity),
            uid=identity.uid,
            user_of=partial(access.job_user, identity, request.rights),
        )

    def _check_after(self, request: Request, parsed: Sequence[_Parsed]) -> None:
        """Raise `NoSuchJob` for a job that is to run after another's: it would tell how that one ends."""
        earlier = list(dict.fromkeys(job_id for _, options in parsed for job_id in options.after))
        if earlier:
            ownership.check_jobs(self.queries, request, earlier)


_Parsed = tuple[jobspec.JobSpec, jobspec.Submission]


def _parsed(asked: bodies.Submission) -> list[_Parsed]:
    """Return what the documents of a request describe. Raises `SpecError` with the problems of all, in one line."""
    parsed, problems = [], []
    for place, document in enumerate(asked.documents):
        try:
            parsed.append(jobspec.parse_document(document))
        except errors.SpecError as exc:
            problems.append(str(exc) if asked.is_single else f"jobs[{place}]: {exc}")
    jobspec.refuse(problems)
    return parsed


def _next_id(batch_id: str, job_id: str) -> str:
    """Return the id of the job that follows one which failed: always the same, and a secret as those of both are."""
    digest = hashlib.sha256(f"after {job_id} of {batch_id}".encode("utf-8", "surrogateescape")).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _listed(new_jobs: Sequence[New]) -> list[dict[str, Any]]:
    return [{"id": new.job_id, "name": new.spec.get("name"), "state": "queued"} for new in new_jobs]
