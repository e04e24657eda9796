"""Job documents as the Python API takes them: `after` may name jobs by their handles. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery_docker.client.handles import Job
from celery_docker.client.submission import JobBuilder, Place
from celery_docker.core import batch, batchinputs, jobspec
from celery_docker.core.batch import Expanded
from celery_docker.core.jobrecord import New
from celery_docker.core.jobspec import JobSpec, Submission


def parsed(document: Mapping[str, Any]) -> tuple[JobSpec, Submission]:
    """Return what a job document describes; `after` may name a single job, by its id or its handle.

    Raises `SpecError`.
    """
    after = document.get("after")
    if isinstance(after, str | Job):
        after = [after]
    if after is not None:
        document = {**document, "after": [str(job) for job in after]}
    return jobspec.parse_document(document)


def expanded(results: Sequence[JobSpec | Mapping[str, Any]]) -> list[Expanded]:
    """Return the jobs that a function has made of the inputs of a batch. Raises `SpecError`."""
    documents = [job.to_kwargs() if isinstance(job, JobSpec) else job for job in results]
    return [_expanded(index, document) for index, document in enumerate(documents, 1)]


def of_batch(
    builder: JobBuilder, jobs: Sequence[Expanded], batch_id: str, size: int, job_ids: Sequence[str | None]
) -> list[New]:
    """Return the jobs of a batch of so many, ready for the queue; they get these ids, or new ones.

    Raises `SpecError` or `NotAllowed`.
    """
    options: dict[str, Submission] = {}
    new_jobs = []
    for job, job_id in zip(jobs, job_ids, strict=True):
        key = repr(job.options)
        if key not in options:
            options[key] = parsed({"image": job.kwargs["image"], **job.options})[1]
        kwargs = batch.with_batch_env(job.kwargs, batch_id, job.row.index, size)
        new_jobs.append(builder.job(kwargs, options[key], Place(batch_id, job.row.index), job_id))
    return new_jobs


def _expanded(index: int, document: Mapping[str, Any]) -> Expanded:
    spec, _ = parsed(document)
    options = {name: value for name, value in document.items() if name in batch.OPTION_KEYS}
    return Expanded(batchinputs.Row(index, batchinputs.Source.ARRAY, {}), spec.to_kwargs(), options)
