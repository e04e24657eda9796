"""Reading the owner of jobs from their records."""

from __future__ import annotations

from collections.abc import Sequence

from celery_docker.core import incoming
from celery_docker.core.jobrecord import Ownership
from celery_docker.core.recordfields import Fields
from celery_docker.store import keys, redislink

_FIELDS = ("state", "owner", "fence", "receipt", "message")


def read(link: redislink.Link, job_ids: Sequence[str], *, host: str) -> dict[str, Ownership | None]:
    """Return the ownership of each job as `host` sees it; None where there is no record."""
    with link.translated(), link.client.pipeline(transaction=True) as pipeline:
        for job_id in job_ids:
            pipeline.hmget(keys.job(job_id), _FIELDS)
            pipeline.sismember(keys.host_jobs(host), job_id)
        answers = redislink.answers(pipeline, [None] * len(_FIELDS))
    rows = zip(answers[::2], answers[1::2], strict=True)
    return {job_id: _ownership(job_id, *row) for job_id, row in zip(job_ids, rows, strict=True)}


def _ownership(job_id: str, values: Sequence[str | None], in_hand: object) -> Ownership | None:
    state, owner, fence, receipt, text = values
    if state is None:
        return None
    return Ownership(
        state,
        owner or "",
        fence=Fields({"fence": fence or ""}).whole("fence"),
        has_ended=bool(receipt),
        in_hand=bool(in_hand),
        envelope=incoming.of_record(job_id, text or None),
    )
