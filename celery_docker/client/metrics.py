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
    hosts: dict[str, float] = dict.fromkeys(read.queues, 0)
    slots = dict(hosts)
    for row in taking:
        for name in dict.fromkeys(_queues(row)):
            hosts[name] = hosts.get(name, 0) + 1
            slots[name] = slots.get(name, 0) + row.about.get("slots", 0)
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


@dataclass(frozen=True)
class _Host:
    """A host with what its report offers and has in use of CPUs, bytes and GPUs; None where it does not say."""

    row: WorkerRow
    state: WorkerState
    offered: tuple[float, float, float] | None
    used: tuple[float, float, float] | None

    @property
    def is_here(self) -> bool:
        return self.state in _HERE


def _host(row: WorkerRow) -> _Host:
    offer, room = hostreport.offer(row.about), hostreport.room(row.about)
    offered = None if offer is None else (offer.millicpus / 1000, float(offer.memory_bytes), float(len(offer.gpus)))
    if offered is None or room is None:
        return _Host(row, state_of(row), offered, None)
    cpus, memory, gpus = offered
    used = (cpus - room.millicpus / 1000, memory - room.memory_bytes, gpus - room.gpus)
    return _Host(row, state_of(row), offered, (max(0.0, used[0]), max(0.0, used[1]), max(0.0, used[2])))


def _of_hosts(rows: Sequence[WorkerRow], now: float) -> Iterator[Family]:
    # Those that are there come first, should there be more than have a name.
    order = sorted(map(_host, rows), key=lambda host: (not host.is_here, host.row.host))
    names = frozenset(host.row.host for host in order[:MOST_HOSTS])
    here = [host for host in order if host.is_here]
    # What a host has reported counts while it is there: its last report says nothing of now.
    columns: tuple[tuple[Metric, Sequence[_Host], _OfHost], ...] = (
        (metrictable.HOST_UP, order, lambda host: float(host.is_here)),
        (metrictable.WORKER_UP, order, lambda host: float(host.is_here)),
        (metrictable.HEARTBEAT, order, lambda host: now - host.row.heard_s),
        (metrictable.ACCEPTING, order, lambda host: float(host.state is WorkerState.READY)),
        (metrictable.DRAINED, order, lambda host: float(host.row.drained is not None)),
        (metrictable.HOST_JOBS, order, lambda host: float(host.row.jobs)),
        *((metric, here, value) for metric, value in _REPORTED),
    )
    for metric, hosts, value in columns:
        values = {(host.row.host,): value(host) for host in hosts}
        yield _bounded(metric, {key: number for key, number in values.items() if number is not None}, names)
    pulls: dict[Labels, Value] = {
        (host.row.host, result): float(count)
        for host in order
        for result, count in host.row.about.get("pulls", {}).items()
        if result in ("done", "failed")
    }
    yield _bounded(metrictable.PULLS, pulls, names)


_OfHost = Callable[[_Host], float | None]


def _is_well(part: str) -> _OfHost:
    return lambda host: float(part not in host.row.about["sick"]) if "sick" in host.row.about else None


def _offered(place: int) -> _OfHost:
    return lambda host: None if host.offered is None else host.offered[place]


def _used(place: int) -> _OfHost:
    return lambda host: None if host.used is None else host.used[place]


def _reported(name: str) -> _OfHost:
    return lambda host: float(host.row.about[name]) if name in host.row.about else None


_REPORTED: tuple[tuple[Metric, _OfHost], ...] = (
    (metrictable.DOCKER_UP, _is_well("docker")),
    (metrictable.DISK_UP, _is_well("disk")),
    (metrictable.SLOTS, _reported("slots")),
    (metrictable.SLOTS_USED, _reported("running")),
    (metrictable.ACTIVE, _reported("running")),
    (metrictable.CPUS, _offered(0)),
    (metrictable.CPUS_USED, _used(0)),
    (metrictable.MEMORY, _offered(1)),
    (metrictable.MEMORY_USED, _used(1)),
    (metrictable.GPUS, _offered(2)),
    (metrictable.GPUS_USED, _used(2)),
    (metrictable.UNKNOWN, _reported("unknown_containers")),
)


def _queues(row: WorkerRow) -> Sequence[str]:
    queues: Sequence[str] = row.about.get("queues", ())
    return queues


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
