"""The counters of jobs as Redis has them, and the class in which an end counts."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path

import pytest

import celery_docker
from celery_docker.core import figures
from celery_docker.core.figures import Histogram, QueueCounts
from celery_docker.core.lifecycle import State

COUNT_LUA = Path(celery_docker.__file__).parent / "store" / "lua" / "count.lua"


def test_the_script_has_the_same_bounds_and_as_many_queues() -> None:
    text = COUNT_LUA.read_text()
    bounds = {name: tuple(map(int, numbers.split(", "))) for name, numbers in re.findall(r"(\w+_s) = \{(.*)\}", text)}
    assert bounds == {"queue_s": figures.QUEUE_S_BOUNDS, "run_s": figures.RUN_S_BOUNDS}
    assert f"= {figures.MOST_QUEUES}, 128, '{figures.OTHER}'" in text


def test_counters_are_read_by_queue() -> None:
    record = {
        "queues": "2",
        "queue celery": "1",
        "queue night run": "1",
        "started celery": "3",
        "retried celery": "1",
        "ended:failed celery": "2",
        "ended:out_of_memory night run": "1",
        "queue_s:60 celery": "2",
        "queue_s:inf celery": "1",
        "queue_s:sum celery": "90061.5",
        "run_s:1 night run": "4",
    }
    celery = QueueCounts(3, 1, Counter(failed=2), Histogram(Counter({60.0: 2, math.inf: 1}), 90061.5))
    night = QueueCounts(ended=Counter(out_of_memory=1), run_s=Histogram(Counter({1.0: 4})))
    assert figures.parse(record) == {"celery": celery, "night run": night}


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e400", str(2**53)])
def test_what_is_no_count_counts_as_nothing(text: str) -> None:
    assert figures.parse({"started celery": text}) == {}


@pytest.mark.parametrize("name", ["", " ", "started", "celery", "queue celery", "queues"])
def test_what_is_no_figure_of_a_queue_is_passed_over(name: str) -> None:
    assert figures.parse({name: "1"}) == {}


def test_figures_of_a_newer_version_are_passed_over_but_no_end_is() -> None:
    record = {"paused celery": "1", "run_s:2 celery": "1", "queue_s: celery": "1", "ended:vanished celery": "2"}
    assert figures.parse(record) == {"celery": QueueCounts(ended=Counter(other=2))}


@pytest.mark.parametrize(
    ("state", "oom_killed", "name"),
    [
        (State.FAILED, True, "out_of_memory"),
        (State.FAILED, False, "failed"),
        (State.FAILED, None, "failed"),
        (State.FAILED, "yes", "failed"),
        (State.SUCCEEDED, True, "succeeded"),
        (State.TIMED_OUT, True, "timed_out"),
    ],
)
def test_the_class_of_an_end(state: State, oom_killed: object, name: str) -> None:
    assert figures.end_class(state, {"oom_killed": oom_killed}) == name
    assert name in figures.CLASSES
