"""The figures of all hosts and queues, for those who watch them. Reads only.

Invariant: what it costs depends on the numbers of hosts, queues, users and sizes of jobs, never on that of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from celery_docker.core import admission, figures, message
from celery_docker.core.figures import QueueCounts
from celery_docker.core.lifecycle import State
from celery_docker.store import keys, redislink
from celery_docker.store.hostqueries import HostQueries
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import WorkerRow

# Of the jobs that have waited longest in a queue, so many are asked for its name.
_ASKED = 256
_ENDS = tuple(state.value for state in State if state.is_final)
# More fields than workers of any version write.
_MOST_COUNTERS = 20_000
_MOST_MESSAGE_BYTES = 4 * 2**20


@dataclass(frozen=True)
class QueueLoad:
    """The jobs of one queue that wait: in its lists, for room, and for places of their shares.

    The first of them has waited since `oldest_at`; None: there is none, or nobody knows.
    """

    listed: int = 0
    parked: int = 0
    held: int = 0
    oldest_at: float | None = None


@dataclass(frozen=True)
class Figures:
    """All figures at the time `now`. `delayed` and `blocked` are in no queue: they wait for a time, or other jobs.

    `ended` has how many jobs that have ended have a record yet, by state.
    """

    now: float
    hosts: Sequence[WorkerRow]
    queues: Mapping[str, QueueLoad]
    delayed: int
    blocked: int
    counts: Mapping[str, QueueCounts]
    ended: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Lines:
    """The names of what holds jobs back from their queues: shares and their queue lists, and groups."""

    shares: Mapping[str, str]
    groups: Sequence[str]


@dataclass(frozen=True)
class FigureQueries:
    """The question for all figures."""

    link: redislink.Link

    def read(self) -> Figures:
        """Return all figures. Raises `StoreAway` or `StoreRefused`."""
        hosts = HostQueries(self.link).rows()
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zcard(keys.DELAYED).zcard(keys.BLOCKED).hlen(keys.COUNTS)
            pipeline.hgetall(keys.SHARES).smembers(keys.PARKED).zrange(keys.WAITING, 0, _ASKED - 1).time()
            delayed, blocked, counters, shares, groups, longest, (s, us) = redislink.answers(pipeline, ())
            for state in _ENDS:
                pipeline.zcard(keys.ended(keys.INDEX, state))
            ended = dict(zip(_ENDS, map(_count, redislink.answers(pipeline)), strict=True))
            record = self.link.client.hgetall(keys.COUNTS) if 0 < _count(counters) <= _MOST_COUNTERS else {}
        lines = _Lines(dict(shares), sorted(groups))
        counts = figures.parse(record)
        waiting = (name for (name,) in JobQueries(self.link).fields(longest, "queue") if name)
        served = {str(queue) for row in hosts for queue in row.about.get("queues", ())}
        named = {message.queue_name(name) for name in (*waiting, *lines.shares.values(), *_lists_of(lines.groups))}
        queues = self._queues(sorted(served | named | set(counts) - {figures.OTHER}), lines)
        held = sum(queue.held for queue in queues.values())
        # What shares hold back is among the delayed ones, with the time at which it is looked at again.
        return Figures(s + us / 1e6, hosts, queues, max(0, _count(delayed) - held), _count(blocked), counts, ended)

    def _queues(self, names: Sequence[str], lines: _Lines) -> dict[str, QueueLoad]:
        lists = [(name, key) for name in names for key in message.queue_keys(name)]
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for _, key in lists:
                pipeline.llen(key)
            for line in (*map(keys.share_held, lines.shares), *(keys.PARKED_GROUP + group for group in lines.groups)):
                pipeline.zcard(line).zrange(line, 0, 0, withscores=True)
            answers = redislink.answers(pipeline) if lists or lines.shares or lines.groups else []
        oldest = self.link.call("oldest", [*(key for _, key in lists), keys.WAITING], [_MOST_MESSAGE_BYTES])
        loads = dict.fromkeys(names, QueueLoad())
        for (name, _), count, since in zip(lists, answers, oldest, strict=False):
            loads[name] = _with(loads[name], "listed", _count(count), float(since) if since else None)
        queues = [*lines.shares.values(), *_lists_of(lines.groups)]
        kinds = ["held"] * len(lines.shares) + ["parked"] * len(lines.groups)
        rest = answers[len(lists) :]
        for queue_list, kind, count, first in zip(queues, kinds, rest[::2], rest[1::2], strict=True):
            name = message.queue_name(queue_list)
            loads[name] = _with(loads[name], kind, _count(count), first[0][1] if first else None)
        return loads


def _with(load: QueueLoad, kind: str, count: int, since: float | None) -> QueueLoad:
    """Return a load with so many more jobs of a kind, of which the first has waited since then."""
    times = [at for at in (load.oldest_at, since if count else None) if at is not None]
    changes: dict[str, Any] = {kind: getattr(load, kind) + count, "oldest_at": min(times, default=None)}
    return replace(load, **changes)


def _count(answer: object) -> int:
    """Return a number that Redis has answered; nothing for a key that holds something else."""
    return answer if isinstance(answer, int) else 0


def _lists_of(groups: Iterable[str]) -> list[str]:
    """Return the queue list of each group of parked jobs."""
    return [(admission.of_group(group) or (group.partition("|")[0], None))[0] for group in groups]
