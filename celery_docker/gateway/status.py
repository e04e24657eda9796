"""What the page shows first: the things that are wrong now, the numbers of jobs in each state, and who asks.

Invariant: what an answer costs depends on the numbers of hosts and queues, never on that of jobs, and so does its size.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from celery_docker import version
from celery_docker.client import problems, summary, views
from celery_docker.client.summary import Overall
from celery_docker.core import history, jobspec
from celery_docker.core.redishealth import Redis
from celery_docker.gateway import overview, ownership
from celery_docker.gateway.routing import Answer, Request
from celery_docker.store import redishealth
from celery_docker.store.historykeeping import HistoryKeeping
from celery_docker.store.queries import Queries
from celery_docker.store.statecounts import StateCounts

# How Redis is set up changes seldom, and a question of it is a connection of its own.
_KEPT_S = 30.0
_MOST_QUEUES = 20
# Of the jobs that wait longest in queues: others may be parked, or before them.
_LOOKED_AT = 50


@dataclass
class RedisFacts:
    """The facts about Redis, which are asked for once in a while."""

    queries: Queries
    clock: Callable[[], float] = time.monotonic
    _facts: Redis | None = None
    _until_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def now(self) -> Redis:
        """Return the facts. Raises `StoreAway`."""
        with self._lock:
            if self._facts is None or self.clock() >= self._until_s:
                self._facts = redishealth.of_link(self.queries.link)
                self._until_s = self.clock() + _KEPT_S
            return self._facts


@dataclass(frozen=True)
class Status:
    """The handlers of the summary and the history."""

    queries: Queries
    redis: RedisFacts

    def summary(self, request: Request) -> Answer:
        """Say what is wrong now, and how many jobs are in each state. Raises `StoreAway` or `StoreRefused`."""
        overall, now = summary.overall(self.queries, jobspec.DEFAULT_QUEUE), self.queries.now()
        waiting_s, late = self._waits(overall, now)
        own = problems.of_redis(self.redis.now()) if request.rights.may_everything else ()
        counts = StateCounts(self.queries.link)
        identity = overview.identity_json(request.identity, request.rights)
        alive = [row for row in overall.workers if not row.lost]
        return Answer(
            {
                "now": views.timestamp(now),
                "version": version.version(),
                # A user may be in thousands of groups.
                "identity": {name: value for name, value in identity.items() if name != "groups"},
                **problems.listed(chain(problems.of(overall), late, own)),
                "jobs": counts.of(ownership.jobs_index(request)),
                "jobs_are_complete": counts.are_complete(),
                "queues": _longest(overall),
                "oldest_wait_s": waiting_s,
                "hosts": overall.states,
                "slots": sum(int(row.about.get("slots", 0)) for row in alive),
                "slots_used": sum(row.jobs for row in alive),
            }
        )

    def history(self, request: Request) -> Answer:
        """Return the last 24 hours, of all jobs. Raises `StoreAway` or `StoreRefused`."""
        now = self.queries.now()
        table = history.document(HistoryKeeping(self.queries.link).samples(), now)
        return Answer({**table, "from": views.timestamp(table["from"]), "now": views.timestamp(now)})

    def _waits(self, overall: Overall, now: float) -> tuple[float | None, list[problems.Problem]]:
        """Return for how long the first job in a queue has waited, and what is wrong with those that wait longest."""
        put_at = StateCounts(self.queries.link).longest_waiting(_LOOKED_AT)
        if not put_at:
            return None, []
        waited_s = max(0.0, now - min(put_at.values()))
        if waited_s < problems.LATE_S:
            return round(waited_s, 1), []
        rows = self.queries.jobs.rows(list(put_at))
        found = problems.late(rows, put_at, self.queries.waits.of(rows), overall, now)
        return round(waited_s, 1), list(found)


def _longest(overall: Overall) -> dict[str, Any]:
    lengths = sorted(overall.lengths.items(), key=lambda item: (-item[1], item[0]))
    return dict(lengths[:_MOST_QUEUES])
