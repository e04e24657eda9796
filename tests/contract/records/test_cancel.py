"""Cancelling jobs."""

from __future__ import annotations

import json

from celery_docker.core import jobrecord
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, State
from tests.contract.records.worlds import (
    HOST,
    OTHER,
    QUEUE,
    RECEIPT,
    Records,
    World,
    claim,
    envelope,
    finish,
    held,
    new,
    requeue,
    submit,
    update,
)

# Cancelling


def test_a_queued_job_that_was_cancelled_is_claimed_to_be_ended(records: Records, world: World) -> None:
    submit(records)
    assert records.cancel("j1", reason="not wanted") == "queued"
    (cancelled,) = world.housekeeping.end_requests(HOST)
    assert (cancelled.job_id, cancelled.state, cancelled.request) == (
        "j1",
        "queued",
        EndRequest(Cause.CANCELLED, "not wanted"),
    )
    assert cancelled.envelope == envelope()
    answer = claim(records)
    assert (answer.verdict, answer.end_request) == (Verdict.RUN, EndRequest(Cause.CANCELLED, "not wanted"))
    finish(records, answer.fence)
    assert world.housekeeping.end_requests(HOST) == []


def test_a_job_that_waits_for_its_retry_can_be_cancelled(records: Records, world: World) -> None:
    """It is not published any more, and a claim does not wait for its time."""
    requeue(records, claim(records).fence, delay_s=3600)
    assert records.cancel("j1", reason="not wanted") == "queued"
    assert world.delayed() == {}
    assert claim(records).end_request == EndRequest(Cause.CANCELLED, "not wanted")


def test_a_job_that_is_given_back_although_it_was_cancelled_does_not_wait(records: Records, world: World) -> None:
    """The mark came while its owner was about to try it again."""
    fence = claim(records).fence
    records.cancel("j1", reason="not wanted")
    requeue(records, fence, delay_s=3600)
    answer = claim(records)
    assert (answer.verdict, answer.end_request) == (Verdict.RUN, EndRequest(Cause.CANCELLED, "not wanted"))
    assert world.delayed() == {}


def test_a_running_job_keeps_its_owner_and_is_marked(records: Records, world: World) -> None:
    update(records, claim(records).fence)
    assert records.cancel("j1", reason="first") == "running"
    assert records.cancel("j1", reason="second") == "running"
    (cancelled,) = world.housekeeping.end_requests(HOST)
    assert (cancelled.state, cancelled.request) == ("running", EndRequest(Cause.CANCELLED, "first"))
    answer = claim(records)
    assert (answer.verdict, answer.end_request) == (Verdict.ADOPT, EndRequest(Cause.CANCELLED, "first"))


def test_a_running_job_is_named_among_thousands_that_wait(records: Records, world: World) -> None:
    """Of the others there are some at a time."""
    update(records, claim(records).fence)
    job_ids = [f"w{number}" for number in range(2 * jobrecord.TO_END_AT_ONCE)]
    records.submit([jobrecord.New(job_id, QUEUE, envelope(), {}) for job_id in job_ids])
    for job_id in ("j1", *job_ids):
        records.cancel(job_id, reason="not wanted")
    jobs = world.housekeeping.end_requests(HOST)
    # It may have been drawn with the others.
    assert len(jobs) in (jobrecord.TO_END_AT_ONCE, 1 + jobrecord.TO_END_AT_ONCE)
    assert [(job.job_id, job.state) for job in jobs if job.state != "queued"] == [("j1", "running")]


def test_a_job_that_has_ended_cannot_be_cancelled(records: Records, world: World) -> None:
    finish(records, claim(records).fence)
    assert records.cancel("j1", reason="too late") == "succeeded"
    assert world.housekeeping.end_requests(HOST) == []


def test_a_job_that_only_its_message_knows_can_be_cancelled(records: Records, world: World) -> None:
    """A plain client wrote no record; when the message comes, the mark is there."""
    assert records.cancel("j1", reason="not wanted") == "unknown"
    assert world.indexed() == {"j1"}
    (cancelled,) = world.housekeeping.end_requests(HOST)
    assert (cancelled.state, cancelled.envelope) == ("queued", None)
    assert claim(records).end_request == EndRequest(Cause.CANCELLED, "not wanted")


def unread(world: World, records: Records) -> int:
    """Cancel a job of which there is no message yet, claim it for its end, and return the fence."""
    records.cancel("j1", reason="not wanted")
    (got,) = records.claim_many(world.housekeeping.end_requests(HOST), host=HOST)
    return got.fence


def arrive(world: World, records: Records, host: str) -> jobrecord.Claim:
    taken = jobrecord.Taken(QUEUE, json.dumps(envelope()).encode())
    world.hand_over(host, taken)
    return records.claim("j1", host=host, queue=QUEUE, envelope=envelope(), taken=taken)


def test_a_message_that_comes_after_the_end_of_its_job_is_reported_once(world: World, records: Records) -> None:
    """What is to follow the job, such as the body of a chord, stands only there."""
    records.finish(held(unread(world, records)), State.CANCELLED, RECEIPT)
    records.settle("j1", host=HOST, retention_s=60)
    answer = arrive(world, records, OTHER)
    assert (answer.verdict, answer.receipt) == (Verdict.REPORT, RECEIPT)
    assert records.owned(OTHER) == {"j1": envelope()}
    records.settle("j1", host=OTHER, retention_s=60)
    assert arrive(world, records, OTHER).verdict is Verdict.DROP
    assert world.owned(OTHER) == set()


def test_a_message_that_comes_while_its_job_is_ended_elsewhere_is_kept_for_that(world: World, records: Records) -> None:
    fence = unread(world, records)
    assert arrive(world, records, OTHER).verdict is Verdict.DROP
    records.finish(held(fence), State.CANCELLED, RECEIPT)
    assert records.owned(HOST) == {"j1": envelope()}


def test_many_queued_jobs_are_ended_in_a_few_calls(records: Records, world: World) -> None:
    """The one that another host has got meanwhile is left to it."""
    records.submit([new(job_id) for job_id in ("j1", "j2", "j3")])
    assert records.cancel_many(["j1", "j2", "j3"], reason="enough") == ["queued"] * 3
    jobs = world.housekeeping.end_requests(HOST)
    claim(records, OTHER, "j2")
    claims = records.claim_many(jobs, host=HOST)
    assert [answer.verdict for answer in claims] == [Verdict.RUN, Verdict.DROP, Verdict.RUN]
    assert claims[0].end_request == EndRequest(Cause.CANCELLED, "enough")
    ends = [
        jobrecord.Finished(held(claims[0].fence, job_id=job_id), State.CANCELLED, {**RECEIPT, "id": job_id})
        for job_id in ("j1", "j2", "j3")
    ]
    assert records.finish_many(ends) == [True, False, True]
    records.settle_many(["j1", "j3"], host=HOST, retention_s=60)
    assert (world.owned(HOST), world.owned(OTHER)) == (set(), {"j2"})
    assert world.kept_for_s("j1") == world.kept_for_s("j3") == 60
    assert [job.job_id for job in world.housekeeping.end_requests(HOST)] == ["j2"]
    assert records.record("j1")["state"] == "cancelled"
