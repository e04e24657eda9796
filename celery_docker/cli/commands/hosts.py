"""The commands about the hosts that run jobs: `workers`, `drain` and `resume`."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.cli.tables import Align, Column
from celery_docker.client import views
from celery_docker.core import hostreport, roomwords, wording
from celery_docker.core.hoststate import WorkerState
from celery_docker.doctor import hostfacts
from celery_docker.store.listing import WorkerRow, state_of

if TYPE_CHECKING:
    from celery_docker.client.ports import Queries

_COLUMNS = (
    Column("host", min_width=6, may_shrink=True),
    Column("state"),
    Column("slots", Align.RIGHT),
    Column("running", Align.RIGHT),
    Column("free", min_width=4, may_shrink=True),
    Column("version", min_width=5, may_shrink=True),
    Column("heard", Align.RIGHT),
    Column("why", min_width=3, may_shrink=True),
)


def workers(context: Context) -> int:
    """List the hosts."""
    with context.client() as client:
        rows, now = client.queries.hosts.rows(), client.queries.now()
    if context.is_quiet:
        for row in rows:
            context.screen.data(row.host)
    elif context.wants_json:
        for row in rows:
            context.screen.line_of_json(views.host_json(row, now))
    else:
        context.screen.table(_COLUMNS, map(_cells, rows))
    return 0


def _cells(row: WorkerRow) -> tuple[str, ...]:
    return (
        row.host,
        state_of(row).value,
        _or_unknown(row.about.get("slots")),
        str(row.jobs),
        _free(row),
        _or_unknown(row.about.get("version")),
        wording.ago(row.heard_s),
        _why(row),
    )


def _why(row: WorkerRow) -> str:
    """Return the reason of a drained host, or the status of a worker that is sick or stopping."""
    if row.drained is not None:
        return row.drained
    return str(row.about.get("status", "")) if state_of(row) in (WorkerState.SICK, WorkerState.STOPPING) else ""


def _free(row: WorkerRow) -> str:
    """Return the room that is free of what a host offers; unknown of one of an older version."""
    offer, room = hostreport.offer(row.about), hostreport.room(row.about)
    return wording.UNKNOWN if offer is None or room is None else roomwords.free(room, offer)


def _or_unknown(value: object) -> str:
    return wording.UNKNOWN if value is None else str(value)


def drain(context: Context) -> int:
    """Let hosts take no more jobs; what runs there goes on."""
    reason = context.text("--reason") or "no reason given"
    with context.client() as client:
        hosts = _hosts(context, client.queries)
        for host in hosts:
            client.drain(host, reason)
        _note_unknown(context, client.queries, hosts)
    if context.wants_json:
        context.screen.json([{"host": host, "drained": True} for host in hosts])
        return 0
    for host in hosts:
        context.screen.note(f"{host} takes no more jobs, until celery-docker resume {host}; those that run there go on")
    return 0


def resume(context: Context) -> int:
    """Let hosts take jobs again."""
    with context.client() as client:
        was_drained = {host: client.resume(host) for host in _hosts(context, client.queries)}
        _note_unknown(context, client.queries, was_drained)
    if context.wants_json:
        context.screen.json([{"host": host, "drained": False, "was_drained": was} for host, was in was_drained.items()])
        return 0
    for host, was in was_drained.items():
        context.screen.note(f"{host} takes jobs again" if was else f"{host} was not drained")
    return 0


def _hosts(context: Context, queries: Queries) -> list[str]:
    """Return the hosts that were named; without a name those of this machine, which may have several workers."""
    if "" in context.arguments.operands:
        raise errors.UsageError(
            f"{context.arguments.command.name}: the name of a host is empty; leave it out for this host"
        )
    if context.arguments.operands:
        return list(dict.fromkeys(context.arguments.operands))
    machine = hostfacts.machine_id()
    here = [row.host for row in queries.hosts.rows() if machine and row.about.get("machine") == machine]
    return here or [socket.gethostname()]


def _note_unknown(context: Context, queries: Queries, hosts: Iterable[str]) -> None:
    """Name the hosts that no worker has reported from: a name may be mistyped, or the host not installed yet."""
    names = {row.host for row in queries.hosts.rows()}
    for host in hosts:
        if host not in names:
            context.screen.note(f"{host}: no worker has this name; known are {', '.join(sorted(names)) or 'none'}")
