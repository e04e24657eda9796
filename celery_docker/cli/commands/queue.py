"""The command `queue`: how many jobs wait, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import jobargs
from celery_docker.cli.call import Call
from celery_docker.cli.syntax import commandtable

if TYPE_CHECKING:
    from celery_docker.client.client import Client


def queue(call: Call) -> int:
    """Say how many jobs wait in a queue, or cancel them."""
    action = call.words.operands[0] if call.words.operands else "length"
    if action not in ("length", "purge"):
        raise errors.UsageError(f"queue: {action!r} must be length or purge")
    with call.client() as client:
        return _length(call, client) if action == "length" else _purge(call, client)


def _length(call: Call, client: Client) -> int:
    name = call.config.queue
    length = client.queries.jobs.queue_lengths([name])[name]
    if call.wants_json:
        call.screen.json({"queue": name, "length": length})
    else:
        call.screen.data(str(length))
    return 0


def _purge(call: Call, client: Client) -> int:
    name = call.config.queue
    job_ids = client.queries.jobs.in_queue(name)
    question = f"Cancel all {len(job_ids)} jobs that wait in queue {name!r}?"
    if job_ids and not call.has(commandtable.YES.key) and not call.screen.confirmed(question):
        call.screen.note("nothing was cancelled")
        return 0
    # The last first: otherwise the end of one could let go of the next.
    client.store.cancel_many(job_ids[::-1], reason=f"queue {name} purged by {jobargs.login()}")
    if call.wants_json:
        call.screen.json({"queue": name, "cancelled": job_ids})
    else:
        call.screen.note(f"{len(job_ids)} jobs of queue {name!r} are being cancelled")
    return 0
