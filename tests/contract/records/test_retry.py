"""Retries, and messages that went missing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from celery_docker.core import message
from celery_docker.core.jobrecord import Holding, Verdict
from celery_docker.core.lifecycle import Tally
from tests.contract.records.worlds import (
    HOST,
    LATE,
    OTHER,
    Records,
    World,
    claim,
    envelope,
    requeue,
    submit,
)

# Retries


def test_requeue_gives_the_job_back(world: World, records: Records) -> None:
    before = world.housekeeping.now()
    requeue(records, claim(records).fence, delay_s=1234.5)
    record = records.record("j1")
    assert record["state"] == "queued"
    assert (record["exits"], record["host_faults"]) == ("1", "2")
    assert before + 1233 < world.delayed()["j1"] <= world.housekeeping.now() + 1234.5
    assert world.owned(HOST) == set()
    assert world.queued() == []


def test_requeue_said_twice_is_the_same_as_once(world: World, records: Records) -> None:
    fence = claim(records).fence
    requeue(records, fence)
    before = world.delayed()
    requeue(records, fence, delay_s=5000.0, exits=7)
    assert world.delayed() == before
    assert records.record("j1")["exits"] == "1"


def test_requeue_repeated_after_its_message_was_published_does_not_delay_it_again(
    world: World, records: Records
) -> None:
    """The first answer was lost, and the repetition came late: the retry may be running already."""
    fence = claim(records).fence
    requeue(records, fence)
    world.housekeeping.publish_due(LATE)
    requeue(records, fence)
    assert world.delayed() == {}
    got = claim(records, OTHER)
    assert got.verdict is Verdict.RUN
    requeue(records, fence)
    assert records.record("j1")["owner"] == OTHER
    assert world.delayed() == {}


@pytest.mark.parametrize(("after_s", "published"), [(-0.1, 0), (0, 1), (0.1, 1)])
def test_a_delayed_job_is_published_when_it_is_due(
    world: World, records: Records, after_s: float, published: int
) -> None:
    requeue(records, claim(records).fence)
    assert world.housekeeping.publish_due(world.delayed()["j1"] + after_s) == published
    assert world.queued() == [envelope("t2")] * published
    assert ("j1" in world.delayed()) is not bool(published)


def test_publishing_twice_publishes_once(world: World, records: Records) -> None:
    """Every worker does it, all the time."""
    requeue(records, claim(records).fence)
    assert [world.housekeeping.publish_due(LATE) for _ in range(3)] == [1, 0, 0]
    assert len(world.queued()) == 1


def test_workers_that_publish_at_once_publish_once(world: World, records: Records) -> None:
    requeue(records, claim(records).fence)
    barrier = threading.Barrier(8)

    def race(_number: int) -> int:
        barrier.wait(10)
        return world.housekeeping.publish_due(LATE)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
    assert len(world.queued()) == 1


def test_the_message_goes_back_to_the_queue_it_came_from(world: World, records: Records) -> None:
    key = message.queue_key("night", 6)
    got = records.claim("j1", host=HOST, queue=key, envelope=envelope())
    holding = Holding("j1", HOST, got.fence, key, envelope("t2"))
    records.requeue(holding, delay_s=0.0, tally=Tally(), attempts=())
    world.housekeeping.publish_due(LATE)
    assert world.queued(key) == [envelope("t2")]
    assert world.queued() == []


# Messages that went missing


def test_a_job_whose_message_is_in_no_list_is_published_again(world: World, records: Records) -> None:
    for job_id in ("j1", "j2", "j3"):
        submit(records, job_id)
    claim(records, job_id="j3")
    world.empty()
    assert world.housekeeping.republish(world.housekeeping.now() - 60) == 0, "it may be on its way"
    assert world.housekeeping.republish(LATE) == 2
    assert len(world.queued()) == 2
    assert world.housekeeping.republish(LATE) == 0


def test_a_job_whose_message_is_in_its_list_is_left_alone(world: World, records: Records) -> None:
    submit(records)
    assert world.housekeeping.republish(LATE) == 0
    assert len(world.queued()) == 1


def test_a_job_that_waits_for_its_retry_is_not_missing(world: World, records: Records) -> None:
    submit(records)
    requeue(records, claim(records).fence)
    world.empty()
    assert world.housekeeping.republish(LATE) == 0
    assert world.housekeeping.publish_due(LATE) == 1
    world.empty()
    assert world.housekeeping.republish(LATE) == 1
