"""The command `queue`: the number of jobs that wait, and their cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import jobargs
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import commandtable

if TYPE_CHECKING:
    from celery_docker.client.client import Client


def queue(context: Context) -> int:
    """Say how many jobs wait in a queue, or cancel them."""
    action = context.arguments.operands[0] if context.arguments.operands else "length"
    if action not in ("length", "purge"):
        raise errors.UsageError(f"queue: {action!r} must be length or purge")
    with context.client() as client:
        return _length(context, client) if action == "length" else _purge(context, client)


def _length(context: Context, client: Client) -> int:
    name = context.config.queue
    length = client.queries.jobs.queue_lengths([name])[name]
    if context.wants_json:
        context.screen.json({"queue": name, "length": length})
    else:
        context.screen.data(str(length))
    return 0


def _purge(context: Context, client: Client) -> int:
    name = context.config.queue
    job_ids = client.queries.jobs.in_queue(name)
    question = f"Cancel all {len(job_ids)} jobs that wait in queue {name!r}?"
    if job_ids and not context.has(commandtable.YES.key) and not context.screen.confirmed(question):
        context.screen.note("nothing was cancelled")
        return 0
    client.cancel_many(job_ids, reason=f"queue {name} purged by {jobargs.login()}")
    if context.wants_json:
        context.screen.json({"queue": name, "cancelled": job_ids})
    else:
        context.screen.note(f"{len(job_ids)} jobs of queue {name!r} are being cancelled")
    return 0
