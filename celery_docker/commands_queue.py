"""The command `queue`: how many jobs wait, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_docker import cli_job, cli_table, errors
from celery_docker.cli_call import Call

if TYPE_CHECKING:
    from celery_docker.queuelists import QueueLists
    from celery_docker.redislink import Link


def queue(call: Call) -> int:
    """Say how many jobs wait in a queue, or cancel them."""
    action = call.words.operands[0] if call.words.operands else "length"
    if action not in ("length", "purge"):
        raise errors.UsageError(f"queue: {action!r} must be length or purge")
    from celery_docker import queuelists

    with call.link() as link:
        lists = queuelists.QueueLists(link)
        if action == "length":
            return _length(call, lists)
        return _purge(call, lists, link)


def _length(call: Call, lists: QueueLists) -> int:
    name = call.config.queue
    length = lists.length(name)
    if call.wants_json:
        call.screen.json({"queue": name, "length": length})
    else:
        call.screen.data(str(length))
    return 0


def _purge(call: Call, lists: QueueLists, link: Link) -> int:
    from celery_docker import store

    name = call.config.queue
    job_ids = lists.job_ids(name)
    question = f"Cancel all {len(job_ids)} jobs that wait in queue {name!r}?"
    if job_ids and not call.has(cli_table.YES.key) and not call.screen.confirmed(question):
        call.screen.note("nothing was cancelled")
        return 0
    records, reason = store.Store(link), f"queue {name} purged by {cli_job.login()}"
    for job_id in job_ids:
        records.cancel(job_id, reason=reason)
    if call.wants_json:
        call.screen.json({"queue": name, "cancelled": job_ids})
    else:
        call.screen.note(f"{len(job_ids)} jobs of queue {name!r} are being cancelled")
    return 0
