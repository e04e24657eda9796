"""The commands about jobs that were submitted: what they are doing, what became of them, and their end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from celery_docker import cli_job, errors, exitcodes, jobspec, tables
from celery_docker.cli_call import Call
from celery_docker.cli_types import PROGRAM

if TYPE_CHECKING:
    from celery_docker.store import Store

PAUSE_S = 0.2
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def cancel(call: Call) -> int:
    """End jobs wherever they are; those that are not known are named when the others have been told."""
    from celery_docker import store

    reason = call.text("--reason") or f"cancelled by {cli_job.login()}"
    with call.link() as link:
        records = store.Store(link)
        told = {name: _cancelled(records, name, reason) for name in call.named}
    known = [{"id": name, "state": state} for name, state in told.items() if state is not None]
    if call.wants_json:
        call.screen.json(known)
    for one in known:
        if call.is_quiet:
            call.screen.data(one["id"])
        elif not call.wants_json:
            call.screen.note(f"{one['id']}: {exitcodes.cancel_told(one['state'])}")
    missing = [name for name, state in told.items() if state is None]
    for name in missing:
        call.screen.note(f"{PROGRAM}: {name}: no job has this id; list the jobs with: {PROGRAM} ps --all")
    return exitcodes.NO_SUCH_JOB if missing else 0


def ps(call: Call) -> int:
    """List jobs."""
    raise call.unfinished()


def status(call: Call) -> int:
    """Say where jobs and batches are."""
    raise call.unfinished()


def results(call: Call) -> int:
    """List how the jobs of a batch ended."""
    raise call.unfinished()


def logs(call: Call) -> int:
    """Show a job's output."""
    raise call.unfinished()


def wait(call: Call) -> int:
    """Wait for the end of jobs; return the code that they came to, the highest of several."""
    from celery_docker import store

    limit_s = call.words.flags.get("--timeout")
    deadline = None if limit_s is None else time.monotonic() + limit_s
    receipts = []
    with call.detaching(f"wait {' '.join(call.words.operands)}"), call.link() as link:
        for job_id in call.named:
            receipt = _awaited(store.Store(link), job_id, deadline)
            if receipt is None:
                call.screen.note(f"{PROGRAM}: {job_id} has not ended after {tables.duration(limit_s)}; it goes on")
                return exitcodes.TIMED_OUT
            receipts.append(receipt)
    if call.wants_json:
        call.screen.json(receipts)
    for receipt in receipts:
        problem = exitcodes.explain(receipt)
        if problem and not call.is_quiet:
            call.screen.note(f"{PROGRAM}: {tables.short_id(receipt['id'])}: {problem}")
    return exitcodes.highest(map(exitcodes.exit_status, receipts))


def _awaited(records: Store, job_id: str, deadline: float | None) -> Mapping[str, Any] | None:
    """Return the receipt of a job at its end, None where that does not come in time."""
    while (receipt := receipt_of(records, job_id)) is None:
        if deadline is not None and time.monotonic() >= deadline:
            return None
        time.sleep(PAUSE_S)
    return receipt


def receipt_of(records: Store, job_id: str) -> Mapping[str, Any] | None:
    """Return the receipt of a job, None before its end. Raises `NoSuchJob` where there is no record of it."""
    record = records.record(jobspec.check_job_id(job_id))
    if not record:
        raise errors.NoSuchJob(f"{job_id}: no job has this id; list the jobs with: {PROGRAM} ps --all")
    receipt: Mapping[str, Any] | None = json.loads(record["receipt"]) if "receipt" in record else None
    return receipt


def inspect(call: Call) -> int:
    """Print all that is known of jobs."""
    raise call.unfinished()


def _cancelled(records: Store, name: str, reason: str) -> str | None:
    """Return the state that a job was in, None where there is no such job.

    One that a plain Celery client has sent has no record before it is claimed: a whole id is marked all the same.
    """
    job_id = jobspec.check_job_id(name)
    if not _WHOLE_ID.fullmatch(job_id) and not records.record(job_id):
        return None
    return records.cancel(job_id, reason=reason)
