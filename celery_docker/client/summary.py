"""How much there is to do, and who does it: the summary of all queues and hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery_docker.core import hoststate, wording
from celery_docker.store import listing, parking
from celery_docker.store.queries import Queries

# Of the sizes of jobs that no host of a queue offers, so many are told.
_SHOWN_REASONS = 3


def of(queries: Queries, queue: str) -> dict[str, Any]:
    """Return the summary for programs; `queue` is named in it also where nothing is in it.

    Raises `StoreAway` or `StoreRefused`.
    """
    load, workers, parked = queries.jobs.load(), queries.hosts.rows(), queries.jobs.parked()
    served = {queue for row in workers for queue in row.about.get("queues", ())}
    waiting = {*queries.jobs.waiting_queues(), *(group.queue for group in parked)}
    lengths = queries.jobs.queue_lengths(sorted({queue, *served, *waiting}))
    hosts = [listing.host_facts(row) for row in workers]
    waits: dict[str, list[str]] = {}
    for name, _, wait in parking.stuck(lengths, parked, hosts):
        waits.setdefault(name, []).append(wait.reason)
    states = [listing.state_of(row) for row in workers]
    return {
        "jobs": {
            "in_hand": load.in_hand,
            "queued": load.queued,
            "delayed": load.delayed,
            "blocked": load.blocked,
        },
        "queues": lengths,
        "workers": {state.value: states.count(state) for state in hoststate.WorkerState if state in states},
        "slots": sum(int(row.about.get("slots", 0)) for row in workers if not row.lost),
        "waits": {name: _sentence(reasons) for name, reasons in waits.items()},
    }


def _sentence(reasons: Sequence[str]) -> str:
    others = len(reasons) - _SHOWN_REASONS
    more = [f"and {wording.counted(others, 'more size')}"] if others > 0 else []
    return "; ".join([*reasons[:_SHOWN_REASONS], *more])
