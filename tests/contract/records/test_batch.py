"""Jobs that run after others, and batches with a limit."""

from __future__ import annotations

import pytest

from celery_docker import errors
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, State
from tests.contract.records.worlds import (
    HOST,
    LATE,
    Records,
    World,
    claim,
    end,
    finish,
    new,
    published,
    requeue,
    submit,
)

# Jobs that run after others


def test_a_job_waits_in_no_list_for_the_success_of_others(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2"), new("j3", after=("j1", "j2", "j1"))])
    assert published(world) == ["j1", "j2"]
    assert records.record("j3")["state"] == "queued"
    end(records, "j1")
    world.empty()
    end(records, "j2")
    assert published(world) == ["j3"]
    assert claim(records, job_id="j3").verdict is Verdict.RUN


def test_nobody_runs_after_a_job_that_is_not_known(world: World, records: Records) -> None:
    with pytest.raises(errors.NoSuchJob, match="'j9'"):
        records.submit([new("j1"), new("j2", after=("j1", "j9"))])
    assert records.record("j2") == {}
    assert published(world) == ["j1"]


def test_what_has_succeeded_already_is_not_waited_for(world: World, records: Records) -> None:
    submit(records)
    end(records, "j1")
    world.empty()
    records.submit([new("j2", after=("j1",))])
    assert published(world) == ["j2"]


@pytest.mark.parametrize("is_over", [False, True])
@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED, State.EXPIRED, State.ERROR])
def test_after_a_job_without_success_nothing_runs(world: World, records: Records, state: State, is_over: bool) -> None:
    """It ends as cancelled, with the reason; and so does what was to run after that."""
    submit(records)
    if is_over:
        end(records, "j1", state)
    records.submit([new("j2", after=("j1",)), new("j3", after=("j2",))])
    if not is_over:
        end(records, "j1", state)
    world.empty()
    for job_id, earlier, how in (("j2", "j1", state), ("j3", "j2", State.CANCELLED)):
        (marked,) = world.housekeeping.end_requests(HOST)
        reason = f"job {earlier}, after which it was to run, ended as {how.value}"
        assert (marked.job_id, marked.request) == (job_id, EndRequest(Cause.CANCELLED, reason))
        end(records, job_id, State.CANCELLED)
    assert list(world.housekeeping.end_requests(HOST)) == []
    assert published(world) == []


def test_an_end_that_is_said_twice_counts_once(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2"), new("j3", after=("j1", "j2"))])
    fence = claim(records).fence
    for _ in range(2):
        finish(records, fence)
    world.empty()
    assert published(world) == []
    end(records, "j2")
    assert published(world) == ["j3"]


def test_a_job_that_waits_for_another_is_neither_missing_nor_published(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2", after=("j1",))])
    world.empty()
    assert world.housekeeping.republish(LATE) == 1
    assert published(world) == ["j1"]


def test_a_job_that_waits_for_another_can_be_cancelled(world: World, records: Records) -> None:
    """Its predecessor's end then changes nothing any more."""
    records.submit([new("j1"), new("j2", after=("j1",))])
    assert records.cancel("j2", reason="enough") == "queued"
    assert claim(records, job_id="j2").end_request == EndRequest(Cause.CANCELLED, "enough")
    end(records, "j1")
    assert published(world) == ["j1"]
    assert records.record("j2")["state"] == "starting"


def test_a_job_that_waits_for_another_can_expire(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2", after=("j1",), expires_s=60)])
    assert world.housekeeping.expire_due(LATE) == 1
    (marked,) = world.housekeeping.end_requests(HOST)
    reason = "the jobs after which it was to run had not succeeded before it expired"
    assert marked.request == EndRequest(Cause.EXPIRED, reason)


# Batches


def begin(records: Records, count: int, limit: int) -> None:
    records.begin_batch("b1", {"size": count, "limit": limit})
    records.submit([new(f"j{number}", batch_id="b1", batch_index=number) for number in range(1, count + 1)])


def test_a_batch_with_a_limit_publishes_one_for_each_that_ends(world: World, records: Records) -> None:
    begin(records, 4, limit=2)
    assert published(world) == ["j1", "j2"]
    end(records, "j2", State.FAILED)
    assert published(world) == ["j1", "j2", "j3"]
    end(records, "j1")
    assert published(world) == ["j1", "j2", "j3", "j4"]
    for job_id in ("j3", "j4"):
        end(records, job_id)
    assert len(published(world)) == 4


def test_a_retry_gives_no_place_in_a_batch_away(world: World, records: Records) -> None:
    begin(records, 2, limit=1)
    requeue(records, claim(records).fence)
    assert published(world) == ["j1"]


def test_an_end_in_a_batch_that_is_said_twice_lets_one_go(world: World, records: Records) -> None:
    begin(records, 3, limit=1)
    fence = claim(records).fence
    for _ in range(2):
        finish(records, fence)
    assert published(world) == ["j1", "j2"]


def test_a_held_job_that_is_cancelled_lets_no_other_go(world: World, records: Records) -> None:
    """Nor does its turn come; the next one's does."""
    begin(records, 4, limit=1)
    records.cancel("j2", reason="enough")
    end(records, "j2", State.CANCELLED)
    records.cancel("j3", reason="enough")
    assert published(world) == ["j1"]
    end(records, "j1")
    assert published(world) == ["j1", "j4"]


def test_a_held_job_is_neither_missing_nor_published(world: World, records: Records) -> None:
    begin(records, 2, limit=1)
    world.empty()
    assert world.housekeeping.republish(LATE) == 1
    assert published(world) == ["j1"]


def test_a_held_job_that_waits_for_another_is_published_when_neither_holds_it(world: World, records: Records) -> None:
    submit(records)
    records.begin_batch("b1", {"size": 2, "limit": 1})
    records.submit([new(f"k{number}", batch_id="b1", batch_index=number, after=("j1",)) for number in (1, 2)])
    assert published(world) == ["j1"]
    end(records, "j1")
    assert published(world) == ["j1", "k1"]
    end(records, "k1")
    assert published(world) == ["j1", "k1", "k2"]


def test_a_job_that_is_submitted_to_a_full_batch_is_held(world: World, records: Records) -> None:
    """A repetition of one that has ended keeps to the limit too."""
    begin(records, 1, limit=1)
    records.submit([new("j2", batch_id="b1", batch_index=1)])
    assert published(world) == ["j1"]
    end(records, "j1")
    assert published(world) == ["j1", "j2"]
