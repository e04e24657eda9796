"""The commands about jobs that were submitted: what they are doing, what became of them, and their end."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from celery_docker import cli_job, exitcodes, jobspec
from celery_docker.cli_call import Call

if TYPE_CHECKING:
    from celery_docker.store import Store

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
        call.screen.note(f"celery-docker: {name}: no job has this id; list the jobs with: celery-docker ps --all")
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
    """Wait for the end of jobs and batches; return the code that they came to."""
    raise call.unfinished()


def watch(call: Call) -> int:
    """Show the progress of a batch until its end."""
    raise call.unfinished()


def retry(call: Call) -> int:
    """Queue jobs that have ended once more, under new ids."""
    raise call.unfinished()


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
