"""The samples of 24 hours: what is stored of one, what cannot be read, and where there is a gap."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker.core import history
from celery_docker.core.admission import Offer, Room
from celery_docker.core.history import Sample

# In the middle of a step.
NOW = 1_800_000_100.0
STEP = 1_800_000_000
GIB = 2**30


def sample(steps_ago: int = 0, **values: Any) -> Sample:
    return Sample(STEP - steps_ago * 300, **values)


def test_a_sample_is_read_as_it_was_written() -> None:
    whole = sample(queued=3, running=2, in_queues=1, ended={"failed": 7}, hosts={"node1": [50, None, 100]})
    assert history.parse(whole.text()) == whole
    assert history.parse(Sample(0).text()) == Sample(0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "null",
        "[]",
        "{}",
        '{"at": "1800000000"}',
        '{"at": 1800000001}',
        '{"at": -300}',
        '{"at": true}',
        '{"at": 1e300}',
        '{"at": 300' + "0" * 400 + "}",
        "[" * 10_000,
        json.dumps({"at": STEP, "x": "y" * 9000}),
    ],
)
def test_what_is_no_sample(text: str) -> None:
    assert history.parse(text) is None


@pytest.mark.parametrize("value", [None, -1, 1.5, "1", True, [], {}, 2**60])
def test_a_number_that_cannot_be_is_a_gap(value: Any) -> None:
    table = {"at": STEP, "queued": value, "running": 4, "ended": {"a": value, "b": 1}, "hosts": {"h": [value, 1, 101]}}
    read = history.parse(json.dumps(table))
    assert read == sample(queued=None, running=4, ended={"b": 1}, hosts={"h": [None, 1, None]})
    for other in (value, {"h": value}, {"h": [1, 2]}):
        read = history.parse(json.dumps({"at": STEP, "ended": value, "hosts": other}))
        assert read == sample()


def test_the_places_are_the_last_24_hours() -> None:
    table = history.document([sample(0, queued=1), sample(287, queued=2), sample(288, queued=3)], NOW)
    assert (table["step_s"], table["from"]) == (300, STEP - 287 * 300)
    assert table["queued"] == [2, *[None] * 286, 1]
    assert history.document([sample(-1, queued=9), sample(400, queued=9)], NOW)["queued"] == [None] * 288
    assert history.document([], NOW)["hosts"] == []


def test_what_ended_is_counted_between_two_samples() -> None:
    samples = [
        sample(288, ended={"failed": 5}),
        sample(287, ended={"failed": 7, "succeeded": 4}),
        sample(2, ended={"failed": 9}),
        sample(1, ended={"failed": 9, "succeeded": 1}),
        # Redis was emptied.
        sample(0, ended={"failed": 1, "succeeded": 1}),
    ]
    ended = history.document(samples, NOW)["ended"]
    assert ended == {
        "failed": [2, *[None] * 285, 0, None],
        "succeeded": [4, *[None] * 285, 1, 0],
    }


def test_hosts_have_a_list_each() -> None:
    samples = [sample(1, hosts={"b": [10, 20, 30], "a": [1, None, 3]}), sample(0, hosts={"b": [11, 21, 31]})]
    assert [
        (row["host"], row["slots"][-2:], row["cpus"][-2:], row["memory"][-2:])
        for row in history.document(samples, NOW)["hosts"]
    ] == [
        ("a", [1, None], [None, None], [3, None]),
        ("b", [10, 11], [20, 21], [30, 31]),
    ]


def test_of_many_hosts_some_are_sampled() -> None:
    hosts = {f"host{number:03}": (number % 7, [number % 100, None, None]) for number in range(200)}
    kept = history.chosen({**hosts, "x" * 65: (9, [1, 1, 1])})
    assert len(kept) == 16
    assert {int(name.removeprefix("host")) % 7 for name in kept} == {6}
    # Over a day with other hosts each time, too.
    samples = [sample(place, hosts={f"h{place}-{number}": [1, 1, 1] for number in range(16)}) for place in range(288)]
    assert len(history.document(samples, NOW)["hosts"]) == 16


def test_all_samples_are_few_bytes() -> None:
    ended = {f"class{number}": 10**12 for number in range(10)}
    hosts = {f"{number:064}": [100, 100, 100] for number in range(16)}
    samples = [
        sample(place, queued=10**6, running=10**6, in_queues=10**6, ended=ended, hosts=hosts) for place in range(289)
    ]
    assert max(len(one.text()) for one in samples) < 2000
    assert len(json.dumps(history.document(samples, NOW), separators=(",", ":"))) < 100_000


@pytest.mark.parametrize(
    ("jobs", "slots", "offer", "room", "expected"),
    [
        (1, 4, None, None, [25, None, None]),
        (9, 4, Offer(4000, 8 * GIB), Room(1000, 8 * GIB, 0), [100, 75, 0]),
        (0, 0, Offer(0, 0), Room(0, 0, 0), [None, None, None]),
        # More was given to jobs than there is now, and more is free than is offered.
        (0, 4, Offer(4000, 8 * GIB), Room(-1000, 16 * GIB, 0), [0, 100, 0]),
    ],
)
def test_the_use_of_a_host(
    jobs: int, slots: int, offer: Offer | None, room: Room | None, expected: list[int | None]
) -> None:
    assert history.use(jobs, slots, offer, room) == expected
