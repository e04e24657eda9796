"""How much there is to do, and who does it: the summary of all queues and hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import hoststate, wording
from celery_docker.core.redishealth import StuckQueue
from celery_docker.store import listing, parking
from celery_docker.store.listing import Load, WorkerRow
from celery_docker.store.queries import Queries

# Of the sizes of jobs that no host of a queue offers, so many are told.
_SHOWN_REASONS = 3


@dataclass(frozen=True)
class Overall:
    """All hosts and queues: the lengths of queues, and those in which jobs wait that no host takes."""

    jobs: Load
    workers: Sequence[WorkerRow]
    lengths: Mapping[str, int]
    stuck: Sequence[StuckQueue]

    @property
    def states(self) -> dict[str, int]:
        """The number of hosts in each state that one is in."""
        states = [listing.state_of(row) for row in self.workers]
        return {state.value: states.count(state) for state in hoststate.WorkerState if state in states}


def overall(queries: Queries, queue: str) -> Overall:
    """Return what there is to do, and who does it; `queue` is among the queues also where nothing is in it.

    Raises `StoreAway` or `StoreRefused`.
    """
    jobs, workers, parked = queries.jobs.load(), queries.hosts.rows(), queries.jobs.parked()
    served = {queue for row in workers for queue in row.about.get("queues", ())}
    waiting = {*queries.jobs.waiting_queues(), *(group.queue for group in parked)}
    lengths = queries.jobs.queue_lengths(sorted({queue, *served, *waiting}))
    hosts = [listing.host_facts(row) for row in workers]
    return Overall(jobs, workers, lengths, [StuckQueue(*row) for row in parking.stuck(lengths, parked, hosts)])


def of(queries: Queries, queue: str) -> dict[str, Any]:
    """Return the summary for programs, as `overall` does."""
    whole = overall(queries, queue)
    waits: dict[str, list[str]] = {}
    for stuck in whole.stuck:
        waits.setdefault(stuck.name, []).append(stuck.wait.reason)
    return {
        "jobs": {
            "in_hand": whole.jobs.in_hand,
            "queued": whole.jobs.queued,
            "delayed": whole.jobs.delayed,
            "blocked": whole.jobs.blocked,
        },
        "queues": whole.lengths,
        "workers": whole.states,
        "slots": sum(int(row.about.get("slots", 0)) for row in whole.workers if not row.lost),
        "waits": {name: _sentence(reasons) for name, reasons in waits.items()},
    }


def _sentence(reasons: Sequence[str]) -> str:
    others = len(reasons) - _SHOWN_REASONS
    more = [f"and {wording.counted(others, 'more size')}"] if others > 0 else []
    return "; ".join([*reasons[:_SHOWN_REASONS], *more])
