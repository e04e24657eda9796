"""Questions about the hosts: which take jobs, which are silent, drained or lost. Reads only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from celery_docker.core import hostreport
from celery_docker.core.waiting import HostFacts
from celery_docker.store import keys, listing, redislink
from celery_docker.store.listing import WorkerRow


@dataclass(frozen=True)
class HostQueries:
    """Questions about the hosts. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def rows(self) -> list[WorkerRow]:
        """Return the hosts that take jobs, and those that were lost in the last 16 days, by name."""
        touched = [keys.HOSTS, keys.LOST_HOSTS, keys.DRAINED]
        now, *hosts = json.loads(self.link.call("hosts", touched, list(keys.HOST)))
        rows = []
        for host, score, lost, text, jobs, drained in hosts:
            report, heard_at = hostreport.parse(text or None), _time(score, float(now))
            ahead_s = listing.ahead_s(report.get("clock"), heard_at)
            heard_s = float(now) - heard_at
            rows.append(WorkerRow(host, heard_s, ahead_s, jobs or 0, report, drained or None, bool(lost)))
        return sorted(rows, key=lambda row: row.host)


@dataclass
class LatestHosts:
    """The hosts as far as waits depend on them, for any number of threads; they are told again for `keep_s` seconds.

    Where one process answers many, each would have Redis look through all hosts, and parse their reports once more.
    """

    link: redislink.Link
    keep_s: float = 0.0
    clock: Callable[[], float] = time.monotonic
    _kept: tuple[float, Sequence[HostFacts]] | None = None

    def facts(self) -> Sequence[HostFacts]:
        """Return the facts about each host. Raises `StoreAway` or `StoreRefused`."""
        now_s, kept = self.clock(), self._kept
        if kept is not None and now_s - kept[0] < self.keep_s:
            return kept[1]
        facts = [listing.host_facts(row) for row in HostQueries(self.link).rows()]
        self._kept = (now_s, facts) if self.keep_s else None
        return facts


def _time(score: str, now: float) -> float:
    """Return the time of a heartbeat; one that no clock of Redis can have shown counts as the earliest, or as now."""
    return min(max(float(score), 0.0), now)
