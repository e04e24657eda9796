"""The metrics of all hosts and queues, made of what Redis says. Pure.

Invariant: a label has a bound. So many hosts and queues have a name, all others are together in `other`; no metric says
anything of one job, nor of a user.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from celery_docker.client import metrictable
from celery_docker.client.metrictable import Labels, Metric
from celery_docker.core import figures, hostreport, jobspec
from celery_docker.core.figures import OTHER, Histogram, QueueCounts
from celery_docker.core.hoststate import WorkerState
from celery_docker.store.figurequeries import Figures, QueueLoad
from celery_docker.store.listing import WorkerRow, state_of

MOST_HOSTS = 256
MOST_QUEUES = figures.MOST_QUEUES
_HERE = (WorkerState.READY, WorkerState.DRAINED, WorkerState.SICK, WorkerState.STOPPING)
# What Celery is told of a job that has failed.
_EXCEPTION = "JobFailed"

Value = float | Histogram


@dataclass(frozen=True)
class Family:
    """A metric with its samples, by the values of its labels."""

    metric: Metric
    samples: Mapping[Labels, Value] = field(default_factory=dict)


def of(read: Figures | None) -> list[Family]:
    """Return all metrics; of a Redis that does not answer there is only that."""
    if read is None:
        return [Family(metrictable.UP, {(): 0.0})]
    return [
        Family(metrictable.UP, {(): 1.0}),
        Family(metrictable.JOBS, {("delayed",): read.delayed, ("blocked",): read.blocked}),
        Family(metrictable.ENDED_JOBS, {(state,): float(count) for state, count in read.ended.items()}),
        *_of_queues(read),
        *_of_counts(read.counts, _queue_names(read)),
        *_of_hosts(read.hosts, read.now),
    ]


def _queue_names(read: Figures) -> frozenset[str]:
    """Return the queues that have a name here: first those that hosts serve, then those that have counters."""
    served = {queue for row in read.hosts for queue in _queues(row)}
    order = [*sorted(served), *sorted(read.counts), *sorted(read.queues)]
    return frozenset(list(dict.fromkeys(name for name in order if name != OTHER))[:MOST_QUEUES])


def _of_queues(read: Figures) -> Iterator[Family]:
    names = _queue_names(read)
    taking = [row for row in read.hosts if state_of(row) is WorkerState.READY]
    queues = {name: 0 for row in taking for name in _queues(row)} | dict.fromkeys(read.queues, 0)
    hosts = {name: sum(name in _queues(row) for row in taking) for name in queues}
    slots = {name: sum(_number(row, "slots") for row in taking if name in _queues(row)) for name in queues}
    in_slots = _in_slots(read.hosts)
    states: dict[Labels, Value] = {
        **{(name, state): value for name, load in read.queues.items() for state, value in _waiting(load).items()},
        **{(name, "in_slots"): float(in_slots.get(name, 0)) for name in {*read.queues, *in_slots}},
    }
    lengths = {name: sum(_waiting(load).values()) for name, load in read.queues.items()}
    ages = {name: max(0.0, read.now - (load.oldest_at or read.now)) for name, load in read.queues.items()}
    yield _bounded(metrictable.QUEUE_JOBS, states, names)
    yield _bounded(metrictable.OLDEST, _keyed(ages), names)
    for metric, values in (
        (metrictable.QUEUE_HOSTS, hosts),
        (metrictable.QUEUE_SLOTS, slots),
        (metrictable.WORKERS, hosts),
        (metrictable.PROCESSES, slots),
        (metrictable.LENGTH, lengths),
    ):
        yield _bounded(metric, _keyed(values), names)


def _waiting(load: QueueLoad) -> dict[str, float]:
    return {"listed": load.listed, "parked": load.parked, "held_back": load.held}


def _in_slots(hosts: Iterable[WorkerRow]) -> dict[str, int]:
    total: dict[str, int] = {}
    for row in hosts:
        if state_of(row) in _HERE:
            for name, count in row.about.get("running_by_queue", {}).items():
                total[name] = total.get(name, 0) + count
    return total


def _of_counts(counts: Mapping[str, QueueCounts], names: frozenset[str]) -> Iterator[Family]:
    def by_queue(metric: Metric, value: Callable[[QueueCounts], Value], *before: str) -> Family:
        return _bounded(metric, {(*before, name): value(row) for name, row in counts.items()}, names, len(before))

    ends: dict[Labels, Value] = {
        (name, kind): row.ended[kind] for name, row in counts.items() for kind in (*figures.CLASSES, OTHER)
    }
    task = jobspec.TASK_NAME
    yield by_queue(metrictable.STARTED, lambda row: row.started)
    yield by_queue(metrictable.RETRIED, lambda row: row.retried)
    yield _bounded(metrictable.ENDED, ends, names)
    yield by_queue(metrictable.WAITED, lambda row: row.queue_s)
    yield by_queue(metrictable.RAN, lambda row: row.run_s)
    yield by_queue(metrictable.TASK_RECEIVED, lambda row: row.started, task)
    yield by_queue(metrictable.TASK_STARTED, lambda row: row.started, task)
    yield by_queue(metrictable.TASK_RETRIED, lambda row: row.retried, task)
    yield by_queue(metrictable.TASK_SUCCEEDED, lambda row: row.ended["succeeded"], task)
    yield by_queue(metrictable.TASK_REVOKED, lambda row: row.ended["cancelled"], task)
    yield by_queue(metrictable.TASK_FAILED, _failed, task, _EXCEPTION)
    yield by_queue(metrictable.TASK_RUNTIME, lambda row: row.run_s, task)


def _failed(row: QueueCounts) -> float:
    return row.ended.total() - row.ended["succeeded"] - row.ended["cancelled"]


def _of_hosts(rows: Sequence[WorkerRow], now: float) -> Iterator[Family]:
    # Those that are there come first, should there be more than have a name.
    order = sorted(rows, key=lambda row: (state_of(row) not in _HERE, row.host))
    names = frozenset(row.host for row in order[:MOST_HOSTS])
    for metric, value in (
        (metrictable.HOST_UP, _is_up),
        (metrictable.WORKER_UP, _is_up),
        (metrictable.HEARTBEAT, lambda row: now - row.heard_s),
        (metrictable.ACCEPTING, lambda row: float(state_of(row) is WorkerState.READY)),
        (metrictable.DRAINED, lambda row: float(row.drained is not None)),
        (metrictable.HOST_JOBS, lambda row: float(row.jobs)),
        *_REPORTED,
    ):
        values = {(row.host,): value(row) for row in order}
        yield _bounded(metric, {key: number for key, number in values.items() if number is not None}, names)
    pulls: dict[Labels, Value] = {
        (row.host, result): float(count)
        for row in order
        for result, count in row.about.get("pulls", {}).items()
        if result in ("done", "failed")
    }
    yield _bounded(metrictable.PULLS, pulls, names)


def _is_up(row: WorkerRow) -> float:
    return float(state_of(row) in _HERE)


def _if_here(value: Callable[[WorkerRow], float | None]) -> Callable[[WorkerRow], float | None]:
    """Return what a host has reported only while it is there: its last report says nothing of now."""
    return lambda row: value(row) if state_of(row) in _HERE else None


def _is_well(part: str) -> Callable[[WorkerRow], float | None]:
    return lambda row: float(part not in row.about["sick"]) if "sick" in row.about else None


def _offered(row: WorkerRow) -> tuple[float, float, float] | None:
    offer = hostreport.offer(row.about)
    return None if offer is None else (offer.millicpus / 1000, float(offer.memory_bytes), float(len(offer.gpus)))


def _used(row: WorkerRow) -> tuple[float, float, float] | None:
    offered, room = _offered(row), hostreport.room(row.about)
    if offered is None or room is None:
        return None
    free = (room.millicpus / 1000, float(room.memory_bytes), float(room.gpus))
    return max(0.0, offered[0] - free[0]), max(0.0, offered[1] - free[1]), max(0.0, offered[2] - free[2])


def _part(
    sizes: Callable[[WorkerRow], tuple[float, float, float] | None], place: int
) -> Callable[[WorkerRow], float | None]:
    def value(row: WorkerRow) -> float | None:
        known = sizes(row)
        return None if known is None else known[place]

    return value


def _reported(name: str) -> Callable[[WorkerRow], float | None]:
    return lambda row: float(row.about[name]) if name in row.about else None


_REPORTED: tuple[tuple[Metric, Callable[[WorkerRow], float | None]], ...] = tuple(
    (metric, _if_here(value))
    for metric, value in (
        (metrictable.DOCKER_UP, _is_well("docker")),
        (metrictable.DISK_UP, _is_well("disk")),
        (metrictable.SLOTS, _reported("slots")),
        (metrictable.SLOTS_USED, _reported("running")),
        (metrictable.ACTIVE, _reported("running")),
        (metrictable.CPUS, _part(_offered, 0)),
        (metrictable.CPUS_USED, _part(_used, 0)),
        (metrictable.MEMORY, _part(_offered, 1)),
        (metrictable.MEMORY_USED, _part(_used, 1)),
        (metrictable.GPUS, _part(_offered, 2)),
        (metrictable.GPUS_USED, _part(_used, 2)),
        (metrictable.UNKNOWN, _reported("unknown_containers")),
    )
)


def _queues(row: WorkerRow) -> Sequence[str]:
    queues: Sequence[str] = row.about.get("queues", ())
    return queues


def _number(row: WorkerRow, name: str) -> float:
    return float(row.about.get(name, 0))


def _keyed(values: Mapping[str, float]) -> dict[Labels, Value]:
    return {(name,): value for name, value in values.items()}


def _bounded(metric: Metric, values: Mapping[Labels, Value], names: frozenset[str], place: int = 0) -> Family:
    """Return the samples of a metric; at `place` stands the host or queue, which is `other` where it has no name."""
    samples: dict[Labels, Value] = {}
    rest: dict[Labels, list[Value]] = {}
    for labels, value in values.items():
        if labels[place] in names:
            samples[labels] = value
        else:
            rest.setdefault((*labels[:place], OTHER, *labels[place + 1 :]), []).append(value)
    for labels, several in rest.items():
        samples[labels] = _merged(metric, several)
    return Family(metric, samples)


def _merged(metric: Metric, values: Sequence[Value]) -> Value:
    histograms = [value for value in values if isinstance(value, Histogram)]
    if not histograms:
        return metric.merge(value for value in values if not isinstance(value, Histogram))
    total = Histogram()
    for histogram in histograms:
        total.within.update(histogram.within)
        total.sum_s += histogram.sum_s
    return total


def cumulative(metric: Metric, histogram: Histogram) -> list[tuple[str, float]]:
    """Return the buckets of a histogram as Prometheus has them: each counts what is in those before it too."""
    buckets, total = [], 0
    for bound in (*metric.bounds, math.inf):
        total += histogram.within[float(bound)]
        buckets.append(("+Inf" if bound == math.inf else f"{float(bound)}", float(total)))
    return buckets
