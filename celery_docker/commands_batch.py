"""The command `batch`: a job for each file, number or line of a table."""

from __future__ import annotations

from celery_docker import cli_batch, cli_job
from celery_docker.cli_call import Call


def batch(call: Call) -> int:
    """Queue the jobs of a batch, and print its id; or show them, a line of JSON each."""
    caller = cli_job.of_process(call.environ)
    expanded, limit = cli_batch.jobs(call.words, caller, call.config.queue)
    if not call.has("--dry-run"):
        raise call.unfinished()
    for job in expanded:
        call.screen.line_of_json({"index": job.row.index, **job.kwargs, **job.options})
    at_once = "as many at once as there are slots" if limit is None else f"{limit} at once"
    call.screen.note(f"{len(expanded)} jobs, {at_once}; none was queued")
    return 0
