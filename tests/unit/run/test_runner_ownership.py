"""Second deliveries of a message, and jobs that have another owner."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.jobrecord import Claim, Holding
from celery_docker.core.lifecycle import Cause, EndRequest, State, Tally
from celery_docker.run.runner import LetGo
from tests.unit.run.workbench import (
    FAILING,
    HOST,
    JOB,
    LATE,
    LONG,
    NAME,
    OTHER,
    Background,
    Bench,
    make_bench,
)
from tests.waiting import eventually

# Second deliveries


def test_a_second_delivery_while_the_job_is_in_a_slot_is_dropped(bench: Bench) -> None:
    job = bench.claimed()
    assert bench.runner.claim(bench.delivery()) is None
    assert bench.records.calls.count("claim") == 1
    assert bench.runner.jobs() == [job]
    assert bench.engine.calls == []


def test_a_second_delivery_after_the_end_is_dropped(bench: Bench) -> None:
    bench.run()
    calls = list(bench.engine.calls)
    assert bench.runner.claim(bench.delivery()) is None
    assert bench.engine.calls == calls
    assert bench.runner.jobs() == []


def test_a_delivery_of_a_job_that_another_host_has_is_dropped(bench: Bench) -> None:
    delivery = bench.delivery()
    bench.records.claim(JOB, host=OTHER, queue="celery", envelope=delivery.envelope)
    assert bench.runner.claim(delivery) is None
    assert bench.runner.jobs() == []
    assert bench.records.record(JOB)["owner"] == OTHER


def test_a_dropped_delivery_does_not_block_the_job_for_later(bench: Bench) -> None:
    """The other host gave the job back, and now it is this host's turn."""
    delivery = bench.delivery()
    claim = bench.records.claim(JOB, host=OTHER, queue="celery", envelope=delivery.envelope)
    assert bench.runner.claim(delivery) is None
    bench.records.requeue(
        Holding(JOB, OTHER, claim.fence, "celery", delivery.envelope),
        delay_s=0,
        tally=Tally(exits=1),
        attempts=({"attempt": 1, "host": OTHER, "started_at": "2026-11-22T10:00:00.000Z"},),
    )
    bench.records.publish_due(LATE)
    assert [entry["host"] for entry in bench.ended().receipt["attempts"]] == [OTHER, HOST]


# Another owner


@pytest.mark.parametrize("call", ["update", "finish"])
def test_who_is_not_the_owner_any_more_stops_his_container_and_says_nothing(bench: Bench, call: str) -> None:
    bench.records.failures[call] = [errors.Fenced(f"job {JOB} belongs to another host now")]
    assert bench.run() == LetGo(f"job {JOB} belongs to another host now")
    assert bench.engine.names() == []
    assert "receipt" not in bench.records.record(JOB)
    assert bench.announced.reasons == []
    assert bench.runner.jobs() == []


def test_who_is_not_the_owner_any_more_cannot_give_the_job_back(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.records.failures["requeue"] = [errors.Fenced()]
    assert isinstance(bench.run(), LetGo)
    assert bench.engine.names() == []
    assert bench.records.delayed == {}


def take_over(bench: Bench, owner: str = OTHER) -> dict[str, str]:
    """Let the job be another host's, as it is after this one was silent for too long; return its record."""
    state = "starting" if owner else "queued"
    bench.records.jobs[JOB] |= {"state": state, "owner": owner, "fence": "2" if owner else "1"}
    bench.records.in_hand[HOST].discard(JOB)
    return dict(bench.records.jobs[JOB])


def running(bench: Bench) -> Background:
    """Let a job run in a slot."""
    slot = Background(bench.run)
    eventually(lambda: bench.records.jobs.get(JOB, {}).get("state") == "running" and "start" in bench.engine.calls)
    return slot


def test_a_running_job_that_is_anothers_is_stopped_and_nothing_is_said(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, LONG)
    slot = running(bench)
    as_before = take_over(bench)
    (job,) = bench.runner.jobs()
    bench.runner.fence(job, "it is another's")
    assert slot.answer() == LetGo("it is another's")
    assert bench.engine.calls.index("stop") < bench.engine.calls.index("remove"), "it gets its grace"
    assert bench.records.record(JOB) == as_before
    assert bench.announced.reasons == []
    assert bench.nothing_is_left()


def test_a_container_that_is_found_running_and_is_anothers_gets_its_grace_too(before: Bench) -> None:
    before.container()
    job = before.claimed()
    as_before = take_over(before)
    assert isinstance(before.runner.run(job, before.announced), LetGo)
    before.runner.done(job, settled=False)
    assert before.engine.calls.index("stop") < before.engine.calls.index("remove")
    assert before.records.record(JOB) == as_before
    assert before.nothing_is_left()


def test_a_failure_of_a_job_that_is_anothers_is_not_announced(tmp_path: Path) -> None:
    """The other host may have told its success already."""
    bench = make_bench(tmp_path, replace(FAILING, until_released=True))
    slot = running(bench)
    as_before = take_over(bench)
    bench.engine.release(NAME)
    assert isinstance(slot.answer(), LetGo)
    assert bench.announced.reasons == []
    assert bench.records.record(JOB) == as_before
    assert bench.nothing_is_left()


@pytest.mark.parametrize("earlier", [None, Cause.CANCELLED, Cause.TIMEOUT, Cause.INTERRUPTED])
def test_a_job_that_is_anothers_before_it_began_does_not_begin(bench: Bench, earlier: Cause | None) -> None:
    """An earlier end request does not count any more, either."""
    job = bench.claimed()
    if earlier is not None:
        bench.runner.end(job, EndRequest(earlier, "so be it"))
    as_before = take_over(bench)
    bench.runner.fence(job, "it is another's")
    assert bench.runner.run(job, bench.announced) == LetGo("it is another's")
    bench.runner.done(job, settled=False)
    assert "create" not in bench.engine.calls
    assert bench.announced.reasons == []
    assert bench.records.record(JOB) == as_before


def test_a_job_that_was_taken_away_may_come_back(tmp_path: Path) -> None:
    """Its message reaches this host before this host has seen that it had lost the job."""
    bench = make_bench(tmp_path, LONG)
    slot = running(bench)
    take_over(bench, owner="")
    job = bench.runner.claim(bench.delivery())
    assert job is not None, "its message was dropped as a second delivery; nobody will ever run it"
    assert (job.attempt.number, job.claim.fence) == (2, 2)
    assert isinstance(slot.answer(), LetGo)
    assert bench.engine.names() == [], "the container of the attempt that does not count"


def test_a_job_that_has_left_its_slot_cannot_be_fenced(bench: Bench) -> None:
    job = bench.claimed()
    bench.runner.done(job, settled=False)
    take_over(bench, owner="")
    bench.runner.fence(job, "it is another's")
    assert job.end_request is None
    assert bench.runner.claim(bench.delivery()) is not None


def test_what_this_host_owns_and_has_in_no_slot(bench: Bench) -> None:
    bench.claimed()
    bench.records.claim("j2", host=HOST, queue="celery", envelope=bench.delivery("j2").envelope)
    assert [envelope["headers"]["id"] for envelope in bench.runner.left_behind()] == ["j2"]


@pytest.mark.parametrize(
    ("cause", "state"), [(Cause.CANCELLED, State.CANCELLED), (Cause.LOST, State.LOST), (Cause.EXPIRED, State.EXPIRED)]
)
def test_a_job_that_is_only_to_be_ended(bench: Bench, cause: Cause, state: State) -> None:
    original = bench.records.claim

    def claim(job_id: str, **arguments: Any) -> Claim:
        return replace(original(job_id, **arguments), end_request=EndRequest(cause, "so be it"))

    bench.records.claim = claim  # type: ignore[method-assign]
    end = bench.ended()
    assert (end.state, end.receipt["reason"]) == (state, "so be it")
    assert "create" not in bench.engine.calls
