"""The CPUs and the memory of the machine that these tests run on, and the part that jobs can have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker.core import settings
from celery_docker.core.admission import Offer
from celery_docker.host import capacity

MIB, GIB = 2**20, 2**30


def test_the_cpus_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert capacity.cpus() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert capacity.cpus() == len(before)


def test_the_memory_is_what_the_kernel_calls_its_total() -> None:
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    assert capacity.memory_bytes() == int(lines["MemTotal"].split()[0]) * 1024


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (128 * MIB, 64 * MIB),
        (GIB, 512 * MIB),
        (4 * GIB, 4 * GIB - 512 * MIB),
        (10 * GIB, 10 * GIB - 512 * MIB),
        (64 * GIB, 64 * GIB - 64 * GIB // 20),
        (2 * 2**40, 2 * 2**40 - 2 * 2**40 // 20),
    ],
)
def test_the_memory_for_jobs(total: int, expected: int) -> None:
    assert capacity.for_jobs(total) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Offer(capacity.cpus() * 1000, capacity.for_jobs(capacity.memory_bytes()))),
        ({"CPUS": "0.01", "MEMORY": "6m"}, Offer(10, 6 * MIB)),
        ({"CPUS": "8192", "MEMORY": "1t"}, Offer(8_192_000, 2**40)),
        ({"CPUS": "2.5"}, Offer(2500, capacity.for_jobs(capacity.memory_bytes()))),
    ],
)
def test_the_offer_is_detected_or_what_the_settings_say(values: dict[str, str], expected: Offer) -> None:
    chosen = settings.parse({settings.PREFIX + name: text for name, text in values.items()})
    assert capacity.offer(chosen) == expected


def test_more_than_the_machine_has_is_named() -> None:
    whole = capacity.machine()
    assert whole == Offer((os.cpu_count() or 0) * 1000, capacity.memory_bytes())
    assert capacity.excess(whole) == []
    (line,) = capacity.excess(Offer(whole.millicpus + 1, whole.memory_bytes))
    assert line.endswith(f" CPUs are offered to jobs, and there are {os.cpu_count()}")
    (line,) = capacity.excess(Offer(whole.millicpus, whole.memory_bytes + 1))
    assert " of memory is offered to jobs, and there is " in line
