"""The commands about the hosts that run jobs: `workers`, `drain` and `resume`."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from celery_docker import errors
from celery_docker.cli import rendering
from celery_docker.cli.call import Call
from celery_docker.cli.tables import Align, Column
from celery_docker.core import wording
from celery_docker.core.hoststate import WorkerState
from celery_docker.store.listing import WorkerRow, state_of

if TYPE_CHECKING:
    from celery_docker.store.queries import Queries

_COLUMNS = (
    Column("host", min_width=6, may_shrink=True),
    Column("state"),
    Column("slots", Align.RIGHT),
    Column("running", Align.RIGHT),
    Column("version", min_width=5, may_shrink=True),
    Column("heard", Align.RIGHT),
    Column("why", min_width=3, may_shrink=True),
)


def workers(call: Call) -> int:
    """List the hosts."""
    with call.client() as client:
        rows, now = client.queries.hosts.rows(), client.queries.now()
    if call.is_quiet:
        for row in rows:
            call.screen.data(row.host)
    elif call.wants_json:
        for row in rows:
            call.screen.line_of_json(_json(row, now))
    else:
        call.screen.table(_COLUMNS, map(_cells, rows))
    return 0


def _cells(row: WorkerRow) -> tuple[str, ...]:
    return (
        row.host,
        state_of(row).value,
        _known(row.about.get("slots")),
        str(row.jobs),
        _known(row.about.get("version")),
        wording.ago(row.heard_s),
        _why(row),
    )


def _why(row: WorkerRow) -> str:
    """Return who drained a host, or what its worker says itself where that is not the usual."""
    if row.drained is not None:
        return row.drained
    return str(row.about.get("status", "")) if state_of(row) in (WorkerState.SICK, WorkerState.STOPPING) else ""


def _known(value: object) -> str:
    return wording.UNKNOWN if value is None else str(value)


def _json(row: WorkerRow, now: float) -> dict[str, Any]:
    return {
        "host": row.host,
        "state": state_of(row).value,
        "slots": row.about.get("slots"),
        "running": row.jobs,
        "version": row.about.get("version"),
        "heard_at": rendering.timestamp(now - row.heard_s),
        "heard_s": round(row.heard_s, 3),
        "clock_ahead_s": None if row.ahead_s is None else round(row.ahead_s, 3),
        "drained": row.drained,
        "status": row.about.get("status"),
        "queues": row.about.get("queues"),
        "docker": row.about.get("docker"),
        "started_at": row.about.get("started_at"),
    }


def drain(call: Call) -> int:
    """Let hosts take no more jobs; what runs there goes on."""
    hosts, reason = _hosts(call), call.text("--reason") or "no reason given"
    with call.client() as client:
        for host in hosts:
            client.drain(host, reason)
        _tell_strangers(call, client.queries, hosts)
    if call.wants_json:
        call.screen.json([{"host": host, "drained": True} for host in hosts])
        return 0
    for host in hosts:
        call.screen.note(f"{host} takes no more jobs, until celery-docker resume {host}; those that run there go on")
    return 0


def resume(call: Call) -> int:
    """Let hosts take jobs again."""
    with call.client() as client:
        was_drained = {host: client.resume(host) for host in _hosts(call)}
        _tell_strangers(call, client.queries, was_drained)
    if call.wants_json:
        call.screen.json([{"host": host, "drained": False, "was_drained": was} for host, was in was_drained.items()])
        return 0
    for host, was in was_drained.items():
        call.screen.note(f"{host} takes jobs again" if was else f"{host} was not drained")
    return 0


def _hosts(call: Call) -> list[str]:
    if "" in call.words.operands:
        raise errors.UsageError(f"{call.words.command.name}: the name of a host is empty; leave it out for this host")
    return list(dict.fromkeys(call.words.operands)) or [socket.gethostname()]


def _tell_strangers(call: Call, queries: Queries, hosts: Iterable[str]) -> None:
    """Name the hosts of which no worker was ever heard: one may be a slip of the pen, or about to be installed."""
    known = {row.host for row in queries.hosts.rows()}
    for host in hosts:
        if host not in known:
            call.screen.note(f"{host}: no worker of this name is known; there are {', '.join(sorted(known)) or 'none'}")
