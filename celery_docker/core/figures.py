"""The counters of all jobs: how many were started, retried and ended, and after how long, by queue. Pure.

`lua/count.lua` writes them, as one hash with a field for each figure of each queue. Invariant: what is there in another
form counts as nothing. Bounds and names never change: workers of two versions count in one hash.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core.lifecycle import State

# The jobs of those queues that have no counters of their own, and the ends of a class that this version does not know.
OTHER = "other"
MOST_QUEUES = 50
OUT_OF_MEMORY = "out_of_memory"
CLASSES = (*(state.value for state in State if state.is_final), OUT_OF_MEMORY)
QUEUE_S_BOUNDS = (1, 5, 15, 60, 300, 900, 3600, 14400, 86400)
RUN_S_BOUNDS = (1, 10, 60, 300, 1800, 7200, 28800, 86400, 604800)
_INF = "inf"
_MOST_S = 1e12


@dataclass
class Histogram:
    """Observations of seconds by the bound within which each is, `math.inf` for the longest, and their sum."""

    within: Counter[float] = field(default_factory=Counter)
    sum_s: float = 0.0


@dataclass
class QueueCounts:
    """The counters of a queue: `ended` by class, seconds in the queue before the first start, seconds of containers."""

    started: int = 0
    retried: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    queue_s: Histogram = field(default_factory=Histogram)
    run_s: Histogram = field(default_factory=Histogram)


def end_class(state: State, receipt: Mapping[str, Any]) -> str:
    """Return the class in which the end of a job counts: its state, or that it ran out of memory."""
    return OUT_OF_MEMORY if state is State.FAILED and receipt.get("oom_killed") is True else state.value


def run_s(receipt: Mapping[str, Any]) -> float | str:
    """Return the seconds that the last container of a job ran; empty where there was none."""
    seconds: Any = receipt.get("run_s")
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return float(seconds) if is_number and 0 <= seconds < _MOST_S else ""


def parse(record: Mapping[str, str]) -> dict[str, QueueCounts]:
    """Return the counters of each queue, from the hash."""
    counts: dict[str, QueueCounts] = {}
    for name, text in record.items():
        figure, _, queue = name.partition(" ")
        value = _number(text)
        if queue and value is not None and figure != "queue":
            _add(counts.setdefault(queue, QueueCounts()), figure, value)
    return counts


def _add(counts: QueueCounts, figure: str, value: float) -> None:
    kind, _, part = figure.partition(":")
    if kind == "started":
        counts.started += int(value)
    elif kind == "retried":
        counts.retried += int(value)
    elif kind == "ended":
        counts.ended[part if part in CLASSES else OTHER] += int(value)
    elif kind == "queue_s":
        _observe(counts.queue_s, QUEUE_S_BOUNDS, part, value)
    elif kind == "run_s":
        _observe(counts.run_s, RUN_S_BOUNDS, part, value)


def _observe(histogram: Histogram, bounds: tuple[int, ...], part: str, value: float) -> None:
    if part == "sum":
        histogram.sum_s += value
    elif part == _INF or part in map(str, bounds):
        histogram.within[math.inf if part == _INF else float(part)] += int(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < 2**53 else None
