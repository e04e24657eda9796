"""The command `queue`: the number of jobs that wait, their cancel, and the messages that were refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_docker import errors
from celery_docker.cli import jobargs
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import flagtable
from celery_docker.cli.tables import Align, Column
from celery_docker.core import kinds, message, wording

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.store.refused import RefusedRow

_ALL = "all"
_COLUMNS = (
    Column("number", Align.RIGHT),
    Column("refused", Align.RIGHT),
    Column("queue", min_width=5, may_shrink=True),
    Column("job", min_width=8, may_shrink=True),
    Column("from", min_width=4, may_shrink=True),
    Column("size", Align.RIGHT),
    Column("reason", min_width=20, may_shrink=True),
)


def queue(context: Context) -> int:
    """Say how many jobs wait in a queue, cancel them, or look after the refused messages."""
    action, *numbers = context.arguments.operands or ["length"]
    act = _ACTIONS.get(action)
    if act is None:
        raise errors.UsageError(f"queue: {kinds.shown(action)} must be {', '.join(_ACTIONS)}")
    takes_numbers = act in (_put_back, _throw_away)
    if takes_numbers and not numbers:
        raise errors.UsageError(f"queue {action}: name the numbers of messages, or all; list them with: {_LIST}")
    if numbers and not takes_numbers:
        raise errors.UsageError(f"queue {action}: {kinds.shown(numbers[0])} is one word too many")
    with context.client() as client:
        return act(context, client)


def _length(context: Context, client: Client) -> int:
    name = context.config.queue
    summary = client.summary(name)
    length, wait = summary["queues"][name], summary["waits"].get(name)
    if context.wants_json:
        context.screen.json({"queue": name, "length": length, "wait": wait})
        return 0
    context.screen.data(str(length))
    if wait is not None:
        context.screen.note(f"queue {name!r}: {wait}")
    return 0


def _purge(context: Context, client: Client) -> int:
    name = context.config.queue
    job_ids = client.queries.jobs.in_queue(name)
    question = f"Cancel all that waits in queue {name!r}, {wording.counted(len(job_ids), 'job')}?"
    if job_ids and not context.has(flagtable.YES.key) and not context.screen.confirmed(question):
        context.screen.note("nothing was cancelled")
        return 0
    client.cancel_many(job_ids, reason=f"queue {name} purged by {jobargs.login()}")
    if context.wants_json:
        context.screen.json({"queue": name, "cancelled": job_ids})
    else:
        context.screen.note(f"cancelling {wording.counted(len(job_ids), 'job')} of queue {name!r}")
    return 0


def _refused(context: Context, client: Client) -> int:
    rows, now = client.refused.rows(), client.queries.now()
    if context.is_quiet:
        for row in rows:
            context.screen.data(row.number)
    elif context.wants_json:
        for row in rows:
            context.screen.line_of_json(_json(row))
    else:
        context.screen.table(_COLUMNS, [_cells(row, now) for row in rows], whole=context.is_whole)
    return 0


def _put_back(context: Context, client: Client) -> int:
    status = 0
    for row in _chosen(context, client):
        try:
            client.refused.put_back(row)
        except errors.NotPutBack as exc:
            context.screen.note(str(exc))
            status = 1
        else:
            context.screen.data(row.number)
    return status


def _throw_away(context: Context, client: Client) -> int:
    for row in _chosen(context, client):
        client.refused.throw_away(row.number)
        context.screen.data(row.number)
    return 0


def _chosen(context: Context, client: Client) -> list[RefusedRow]:
    numbers = list(context.arguments.operands[1:])
    rows = {row.number: row for row in client.refused.rows()}
    if numbers == [_ALL]:
        return list(rows.values())
    for number in numbers:
        if number not in rows:
            raise errors.UsageError(f"no refused message has the number {kinds.shown(number)}; list them with: {_LIST}")
    return [rows[number] for number in dict.fromkeys(numbers)]


def _cells(row: RefusedRow, now: float) -> tuple[str, ...]:
    return (
        row.number,
        wording.ago(now - row.refused_at) if row.refused_at else wording.UNKNOWN,
        message.queue_name(row.queue) or wording.UNKNOWN,
        wording.short_id(row.job_id) or wording.UNKNOWN,
        row.origin or wording.UNKNOWN,
        wording.size(row.size),
        row.reason,
    )


def _json(row: RefusedRow) -> dict[str, Any]:
    return {
        "number": row.number,
        "reason": row.reason,
        "queue": message.queue_name(row.queue) or None,
        "id": row.job_id or None,
        "task": row.task or None,
        "origin": row.origin or None,
        "host": row.host or None,
        "refused_at": row.refused_at or None,
        "bytes": row.size,
        "can_be_put_back": row.whole,
    }


_LIST = "celery-docker queue refused"
_ACTIONS = {
    "length": _length,
    "purge": _purge,
    "refused": _refused,
    "put-back": _put_back,
    "throw-away": _throw_away,
}
