"""Submitting jobs, and the index of them by time."""

from __future__ import annotations

import json
import time

from tests.contract.records.worlds import (
    Records,
    World,
    claim,
    envelope,
    finish,
    new,
    published,
    submit,
)

# Submitting


def test_a_submitted_job_has_a_record_and_a_message(world: World, records: Records) -> None:
    before = time.time()
    assert submit(records) is True
    assert world.queued() == [envelope()]
    assert world.indexed() == {"j1"}
    record = records.record("j1")
    assert record["state"] == "queued"
    assert json.loads(record["message"]) == envelope()
    assert json.loads(record["spec"]) == {"image": "busybox"}
    assert before <= float(record["submitted_at"]) <= time.time()


def test_the_same_id_is_not_submitted_twice(world: World, records: Records) -> None:
    """A submitter who got no answer may ask again."""
    submit(records)
    assert submit(records) is False
    assert len(world.queued()) == 1


def test_an_id_that_is_running_or_over_is_not_submitted_again(world: World, records: Records) -> None:
    submit(records)
    fence = claim(records).fence
    assert submit(records) is False
    finish(records, fence)
    assert submit(records) is False
    assert records.record("j1")["state"] == "succeeded"
    assert len(world.queued()) == 1


def test_jobs_that_are_submitted_together_have_their_order(world: World, records: Records) -> None:
    """Also where that of their ids is another."""
    job_ids = [f"j{number}" for number in range(90, 20, -1)]
    assert records.submit([new(job_id) for job_id in job_ids]) == [True] * 70
    assert published(world) == job_ids
    times = [float(records.record(job_id)["submitted_at"]) for job_id in job_ids]
    assert times == sorted(set(times))


def test_of_jobs_that_are_submitted_together_the_known_one_is_left_alone(world: World, records: Records) -> None:
    submit(records, "j3")
    together = [new("j1"), new("j2", about={"name": "two", "image": "busybox"}), new("j3"), new("j4", expires_s=60)]
    assert records.submit(together) == [True, True, False, True]
    assert published(world) == ["j3", "j1", "j2", "j4"]
    described = [(record.get("name"), "expires_at" in record) for record in map(records.record, ("j1", "j2", "j4"))]
    assert described == [(None, False), ("two", False), (None, True)]


def test_an_unknown_job_has_an_empty_record(records: Records) -> None:
    assert records.record("nobody") == {}


# The index


def test_index_entries_are_dropped_once_their_records_have_expired(records: Records, world: World) -> None:
    for job_id in ("j1", "j2"):
        submit(records, job_id)
    world.lose("j1")
    assert world.housekeeping.forget_expired(time.time() - 60) == 0, "too young to look at"
    assert world.housekeeping.forget_expired(time.time() + 60) == 1
    assert world.indexed() == {"j2"}
    assert world.housekeeping.forget_expired(time.time() + 60) == 0


def test_an_index_of_any_length_is_cleaned_behind_jobs_that_wait_for_long(records: Records, world: World) -> None:
    """It is done once an hour: what one turn leaves piles up where more jobs come than a turn takes away."""
    waiting, expired = ([f"{name}{number:04}" for number in range(1200)] for name in ("waits", "gone"))
    records.submit([new(job_id) for job_id in (*waiting, *expired)])
    for job_id in expired:
        world.lose(job_id)
    assert world.housekeeping.forget_expired(time.time() + 60) == len(expired)
    assert world.indexed() == set(waiting)
