"""Whose a job or a batch is, by its record. Another's is answered as one that is not there."""

from __future__ import annotations

from collections.abc import Sequence

from celery_docker import errors
from celery_docker.core import access, jobrecord, kinds
from celery_docker.gateway.routing import Request
from celery_docker.store import keys
from celery_docker.store.listing import JobRow
from celery_docker.store.queries import Queries


def of_jobs(queries: Queries, request: Request, job_ids: Sequence[str]) -> dict[str, str]:
    """Return those of the jobs that somebody may see, with their states. Raises `StoreAway` or `StoreRefused`."""
    rows = zip(job_ids, queries.jobs.fields(job_ids, "state", "uid"), strict=True)
    return {
        job_id: state
        for job_id, (state, uid) in rows
        if state is not None and access.may_see(request.identity, request.rights, uid)
    }


def whole_job(queries: Queries, request: Request, job_id: str) -> tuple[JobRow, dict[str, str]]:
    """Return the row and the record of a job. Raises `NoSuchJob` where somebody may not see it."""
    try:
        row, record = queries.jobs.whole(job_id)
    except errors.NoSuchJob:
        raise no_job(job_id) from None
    if not access.may_see(request.identity, request.rights, record.get(jobrecord.UID)):
        raise no_job(job_id)
    return row, record


def check_jobs(queries: Queries, request: Request, job_ids: Sequence[str]) -> None:
    """Raise `NoSuchJob` where somebody may not see one of the jobs."""
    own = of_jobs(queries, request, job_ids)
    for job_id in job_ids:
        if job_id not in own:
            raise no_job(job_id)


def has_batch(queries: Queries, request: Request, batch_id: str) -> bool:
    """Tell whether a batch is there. Raises `NoSuchJob` for one that somebody may not see."""
    is_there = queries.batches.field(batch_id, "created_at") is not None
    uid = queries.batches.field(batch_id, "uid")
    if is_there and not access.may_see(request.identity, request.rights, uid):
        raise no_batch(batch_id)
    return is_there


def check_batch(queries: Queries, request: Request, batch_id: str) -> None:
    """Raise `NoSuchJob` where somebody may not see a batch."""
    if not has_batch(queries, request, batch_id):
        raise no_batch(batch_id)


def no_job(job_id: str) -> errors.NoSuchJob:
    """Return the error of a job that is not there, or another's."""
    return errors.NoSuchJob(f"no job of yours has the id {kinds.shown(job_id)}; list them with: celery-docker ps --all")


def no_batch(batch_id: str) -> errors.NoSuchJob:
    """Return the error of a batch that is not there, or another's."""
    return errors.NoSuchJob(f"no batch of yours has the id {kinds.shown(batch_id)}")


def jobs_index(request: Request) -> str:
    """Return the key of the index of the jobs that somebody may see."""
    return keys.INDEX if request.rights.may_everything else keys.user_jobs(str(request.identity.uid))


def batches_index(request: Request) -> str:
    """Return the key of the index of the batches that somebody may see."""
    return keys.BATCHES if request.rights.may_everything else keys.user_batches(str(request.identity.uid))
