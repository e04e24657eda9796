"""The counters of jobs: each start, retry and end counts once, whatever is said twice or lies in their place."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from celery_docker.core import figures, jobrecord
from celery_docker.core.figures import QueueCounts
from celery_docker.core.lifecycle import State
from celery_docker.store import keys
from tests import servers
from tests.contract.records.worlds import (
    HOST,
    LATE,
    OTHER,
    QUEUE,
    RECEIPT,
    Records,
    RedisWorld,
    World,
    claim,
    end,
    envelope,
    held,
    requeue,
    submit,
)


def finish(records: Records, fence: int, state: State = State.SUCCEEDED, **receipt: Any) -> None:
    records.finish(held(fence), state, {**RECEIPT, "state": state.value, **receipt})


def test_a_start_and_an_end_count_once_however_often_they_are_said(world: World, records: Records) -> None:
    submit(records)
    fence = claim(records).fence
    claim(records)
    for _ in range(3):
        finish(records, fence, run_s=59.5)
    counts = world.counts()[QUEUE]
    assert (counts.started, counts.retried, dict(counts.ended)) == (1, 0, {"succeeded": 1})
    assert (dict(counts.run_s.within), counts.run_s.sum_s) == ({60: 1}, 59.5)
    assert dict(counts.queue_s.within) == {1: 1}


def test_a_retry_counts_once_and_waits_for_its_first_start_only(world: World, records: Records) -> None:
    submit(records)
    fence = claim(records).fence
    for _ in range(2):
        requeue(records, fence)
    world.housekeeping.publish_due(LATE)
    finish(records, claim(records).fence, State.FAILED)
    counts = world.counts()[QUEUE]
    assert (counts.started, counts.retried, dict(counts.ended)) == (2, 1, {"failed": 1})
    assert counts.queue_s.within.total() == 1
    assert counts.run_s == figures.Histogram(), "its receipt says no seconds"


def test_a_message_that_is_dropped_counts_nothing(world: World, records: Records) -> None:
    submit(records)
    claim(records)
    claim(records, OTHER)
    assert world.counts()[QUEUE].started == 1


def test_a_job_that_is_cancelled_in_its_queue_has_an_end_and_no_start(world: World, records: Records) -> None:
    submit(records)
    records.cancel("j1", reason="by hand")
    end(records, "j1", State.CANCELLED)
    counts = world.counts()[QUEUE]
    assert (counts.started, dict(counts.ended)) == (0, {"cancelled": 1})
    assert counts.queue_s.within.total() == 0


def test_an_end_without_memory_is_a_class_of_its_own(world: World, records: Records) -> None:
    finish(records, claim(records).fence, State.FAILED, oom_killed=True)
    assert dict(world.counts()[QUEUE].ended) == {"out_of_memory": 1}


def test_a_job_of_a_plain_client_waited_nobody_knows_how_long(world: World, records: Records) -> None:
    claim(records)
    counts = world.counts()[QUEUE]
    assert (counts.started, counts.queue_s.within.total()) == (1, 0)


@pytest.mark.parametrize(("run_s", "bound"), [(0, 1), (1.0, 1), (1.001, 10), (604800, 604800), (604801, math.inf)])
def test_seconds_count_within_the_first_bound_that_holds_them(
    world: World, records: Records, run_s: float, bound: float
) -> None:
    finish(records, claim(records).fence, run_s=run_s)
    assert dict(world.counts()[QUEUE].run_s.within) == {bound: 1}


def test_a_job_of_another_priority_counts_in_its_queue(world: World, records: Records) -> None:
    records.claim("j1", host=HOST, queue=f"{QUEUE}\x06\x169", envelope=envelope())
    assert list(world.counts()) == [QUEUE]


def test_the_end_of_a_job_whose_record_was_lost_counts_in_the_queue_of_its_message(
    world: World, records: Records
) -> None:
    fence = claim(records).fence
    world.lose_everything()
    world.damage_counts()
    finish(records, fence)
    assert dict(world.counts()[QUEUE].ended) == {"succeeded": 1}


def test_so_many_queues_have_counters_of_their_own(world: World, records: Records) -> None:
    names = [f"q{number}" for number in range(figures.MOST_QUEUES + 5)]
    for number, name in enumerate([*names, names[0], "x" * 200, ""]):
        records.claim(f"j{number}", host=HOST, queue=name, envelope=envelope())
    counts = world.counts()
    assert set(counts) == {*names[: figures.MOST_QUEUES], figures.OTHER}
    assert counts["q0"].started == 2
    assert counts[figures.OTHER].started == 7


def test_what_lies_in_the_place_of_the_counters_keeps_no_job_from_its_end(world: World, records: Records) -> None:
    submit(records)
    world.damage_counts()
    fence = claim(records).fence
    world.damage_counts()
    requeue(records, fence)
    world.housekeeping.publish_due(LATE)
    fence = claim(records).fence
    world.damage_counts()
    finish(records, fence)
    assert records.record("j1")["state"] == "succeeded"
    assert world.counts() == {QUEUE: QueueCounts(ended=Counter({"succeeded": 1}))}


@pytest.mark.parametrize("damage", ["x", "nan", "inf", "-1", "1e400", ""])
def test_a_counter_that_is_no_number_begins_again(redis_server: servers.RedisServer, damage: str) -> None:
    with closing(RedisWorld(redis_server)) as world, closing(redis_server.client()) as client:
        client.hset(keys.COUNTS, mapping={f"ended:succeeded {QUEUE}": damage, "queues": damage})
        end(world.records, "j1")
        assert world.counts()[QUEUE].ended["succeeded"] == (0 if damage == "-1" else 1)


@pytest.mark.parametrize("run_s", [-1, math.nan, math.inf, 1e300, "5", None, True, [1]])
def test_seconds_that_are_none_are_not_counted(world: World, records: Records, run_s: Any) -> None:
    finish(records, claim(records).fence, run_s=run_s)
    assert records.record("j1")["state"] == "succeeded"
    assert world.counts()[QUEUE].run_s == figures.Histogram()


def test_many_ends_in_one_round_trip_count_each(world: World, records: Records) -> None:
    fences = {f"j{number}": claim(records, job_id=f"j{number}").fence for number in range(3)}
    ends = [
        jobrecord.Finished(held(fence, job_id=job_id), State.LOST, {**RECEIPT, "id": job_id})
        for job_id, fence in fences.items()
    ]
    for _ in range(2):
        records.finish_many(ends)
    assert dict(world.counts()[QUEUE].ended) == {"lost": 3}
