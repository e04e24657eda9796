"""The end of a job, its record lost in Redis, and the times before and after which nothing happens."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from celery_docker.core import jobrecord
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, Tally
from tests.contract.records.worlds import (
    HOST,
    LATE,
    LATER,
    OTHER,
    QUEUE,
    RECEIPT,
    Records,
    World,
    claim,
    envelope,
    finish,
    requeue,
    update,
)

# The end


def test_finish_writes_state_and_receipt(world: World, records: Records) -> None:
    finish(records, claim(records).fence)
    record = records.record("j1")
    assert record["state"] == "succeeded"
    assert json.loads(record["receipt"]) == RECEIPT
    assert world.owned(HOST) == {"j1"}, "until the result is stored and the container is gone"
    assert world.kept_for_s("j1") is None


def test_finish_said_twice_is_the_same_as_once_and_the_first_counts(records: Records) -> None:
    fence = claim(records).fence
    finish(records, fence)
    finish(records, fence, receipt=LATER)
    record = records.record("j1")
    assert record["state"] == "succeeded"
    assert json.loads(record["receipt"]) == RECEIPT


def test_settle_lets_go_and_the_record_ages(world: World, records: Records) -> None:
    finish(records, claim(records).fence)
    for _ in range(2):
        records.settle("j1", host=HOST, retention_s=3600)
        assert world.owned(HOST) == set()
        kept_for_s = world.kept_for_s("j1")
        assert kept_for_s is not None
        assert 3590 <= kept_for_s <= 3600


def test_settle_of_an_unknown_job_does_nothing(world: World, records: Records) -> None:
    records.settle("j1", host=HOST, retention_s=3600)
    assert records.record("j1") == {}
    assert world.indexed() == set()


# What Redis has lost


def test_a_running_job_whose_record_was_lost_goes_on(records: Records, world: World) -> None:
    fence = claim(records).fence
    world.lose("j1")
    update(records, fence)
    assert records.record("j1")["state"] == "running"
    assert records.owned(HOST) == {"j1": envelope()}, "a next process can take it over"
    finish(records, fence)
    assert json.loads(records.record("j1")["receipt"]) == RECEIPT
    records.settle("j1", host=HOST, retention_s=60)
    assert world.kept_for_s("j1") is not None
    assert claim(records).verdict is Verdict.DROP


def test_a_job_whose_record_was_lost_ends(records: Records, world: World) -> None:
    fence = claim(records).fence
    world.lose("j1")
    finish(records, fence)
    assert records.record("j1")["state"] == "succeeded"
    assert claim(records, OTHER).verdict is Verdict.DROP


def test_a_job_whose_record_was_lost_is_tried_again(records: Records, world: World) -> None:
    fence = claim(records).fence
    world.lose("j1")
    requeue(records, fence)
    assert world.housekeeping.publish_due(LATE) == 1
    assert world.queued() == [envelope("t2")]
    got = claim(records, OTHER)
    assert (got.verdict, got.tally) == (Verdict.RUN, Tally(1, 2))
    assert got.fence > fence, "the old owner must not be taken for the new one"
    assert got.attempt == 2, "a first attempt would empty the log files, and harvest the container of the real one"


def test_a_retry_that_redis_has_lost_everything_of_is_listed_again(records: Records, world: World) -> None:
    fence = claim(records).fence
    world.lose_everything()
    requeue(records, fence)
    assert world.indexed() == {"j1"}
    assert world.owned(HOST) == set()


@pytest.mark.parametrize("say", [update, finish], ids=["update", "finish"])
def test_a_redis_that_lost_everything_learns_again_whose_job_it_is(
    world: World, records: Records, say: Callable[..., None]
) -> None:
    """A restart without persistence; the job runs on, and its host must find it again after a crash."""
    fence = claim(records).fence
    world.lose_everything()
    say(records, fence)
    assert world.owned(HOST) == {"j1"}
    assert world.indexed() == {"j1"}
    assert claim(records).verdict in (Verdict.ADOPT, Verdict.REPORT)


def test_a_delayed_job_whose_record_was_lost_publishes_nothing(records: Records, world: World) -> None:
    requeue(records, claim(records).fence)
    world.lose("j1")
    assert world.housekeeping.publish_due(LATE) == 0
    assert world.queued() == []
    assert world.delayed() == {}


# Times: not before, not after


def test_a_message_with_a_time_of_its_own_waits_for_it_in_the_records(world: World, records: Records) -> None:
    at = world.housekeeping.now() + 1000
    for _ in range(2):
        got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=jobrecord.Term(not_before=at))
        assert got.verdict is Verdict.DROP
    assert world.delayed() == {"j1": pytest.approx(at)}
    assert world.owned(HOST) == set()
    assert world.housekeeping.publish_due(at - 1) == 0
    assert world.housekeeping.publish_due(at + 1) == 1
    assert world.queued() == [envelope()]
    past = jobrecord.Term(not_before=world.housekeeping.now() - 1)
    assert records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=past).verdict is Verdict.RUN


def test_a_message_that_comes_too_late_is_claimed_to_be_ended(world: World, records: Records) -> None:
    past = jobrecord.Term(not_after=world.housekeeping.now() - 1)
    got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=past)
    assert (got.verdict, got.end_request and got.end_request.cause) == (Verdict.RUN, Cause.EXPIRED)
    assert "expired" in str(got.end_request and got.end_request.reason)


def test_a_job_that_has_not_started_in_time_is_marked(world: World, records: Records) -> None:
    records.submit([jobrecord.New("j1", QUEUE, envelope(), {}, expires_s=100)])
    now = world.housekeeping.now()
    assert world.housekeeping.expire_due(now + 50) == 0
    assert [world.housekeeping.expire_due(now + 200) for _ in range(2)] == [1, 0]
    (marked,) = world.housekeeping.end_requests(HOST)
    assert (marked.job_id, marked.state, marked.request.cause) == ("j1", "queued", Cause.EXPIRED)
    got = claim(records)
    assert (got.verdict, got.end_request and got.end_request.cause) == (Verdict.RUN, Cause.EXPIRED)


def test_a_job_that_has_started_in_time_does_not_expire(world: World, records: Records) -> None:
    records.submit([jobrecord.New("j1", QUEUE, envelope(), {}, expires_s=100)])
    requeue(records, claim(records).fence)
    assert world.housekeeping.expire_due(LATE) == 0
    assert world.housekeeping.publish_due(LATE) == 1
    assert claim(records).end_request is None


def test_a_job_that_waits_for_its_time_can_expire(world: World, records: Records) -> None:
    now = world.housekeeping.now()
    term = jobrecord.Term(not_before=now + 1000, not_after=now + 500)
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=term)
    assert world.housekeeping.expire_due(now + 600) == 1
    assert world.delayed() == {}
    request = claim(records).end_request
    assert request is not None
    assert request.cause is Cause.EXPIRED
