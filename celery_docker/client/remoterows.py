"""Rows of listings, made again from the JSON of a gateway, and checked. Pure; the other way round is `client.views`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from celery_docker.client import understood
from celery_docker.core.lifecycle import State
from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.store.listing import BatchRow, JobRow, WorkerRow


def job(document: Mapping[str, Any]) -> JobRow:
    """Return the row of a job."""
    row = JobRow(
        job_id=document["id"],
        state=State(document["state"]),
        name=document["name"],
        image=document["image"],
        host=document["host"],
        queue=document["queue"],
        batch_id=document["batch_id"],
        batch_index=document["batch_index"],
        submitted_at=moment(document["submitted_at"]),
        claimed_at=moment(document["claimed_at"]),
        finished_at=moment(document["finished_at"]),
        exit_code=document["exit_code"],
        attempt=document["attempt"],
        reason=document["reason"],
        run_s=document["run_s"],
        submitted_by=document["submitted_by"],
        labels=document["labels"],
        retry_of=document["retry_of"],
        waits_for=document["waits_for"],
        held=document["held"],
        cancel_reason=document["cancel_reason"],
        uid=document["uid"],
    )
    return understood.checked(row)


def wait(document: Mapping[str, Any]) -> Wait | None:
    """Return the wait of a job, None if it has none."""
    part = document.get("wait")
    # One that only a newer version knows has no place here; the job is shown without it.
    if part is None or part["kind"] not in list(WaitKind):
        return None
    return understood.checked(
        Wait(WaitKind(part["kind"]), part["reason"], moment(part["next_try_at"]), part["jobs_before"])
    )


def batch(document: Mapping[str, Any]) -> BatchRow:
    """Return the row of a batch."""
    row = BatchRow(
        batch_id=document["id"],
        name=document["name"],
        created_at=moment(document["submitted_at"]) or 0.0,
        size=document["size"],
        limit=document["limit"],
        submitted_by=document["submitted_by"],
        counts=document["counts"],
        uid=document["uid"],
    )
    return understood.checked(row)


def host(document: Mapping[str, Any]) -> WorkerRow:
    """Return the row of a host."""
    row = WorkerRow(
        host=document["host"],
        heard_s=document["heard_s"],
        ahead_s=document["clock_ahead_s"],
        jobs=document["running"],
        about=document["report"],
        drained=document["drained"],
        lost=document["lost"],
    )
    return understood.checked(row)


def moment(text: str | None) -> float | None:
    """Return a time as seconds since the epoch."""
    return None if text is None else datetime.fromisoformat(text).timestamp()
