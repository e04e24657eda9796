"""Claiming jobs: whose a job is, who may change it, and messages on their way."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from celery_docker import errors
from celery_docker.core import jobrecord
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Tally
from tests.contract.records.worlds import (
    HOST,
    LATE,
    OTHER,
    QUEUE,
    RECEIPT,
    Records,
    World,
    claim,
    envelope,
    finish,
    held,
    requeue,
    submit,
    update,
)

# The owner of a job


def owners(records: Records, host: str = HOST) -> list[tuple[str, str, bool, bool] | None]:
    """Return state, owner, `has_ended` and `in_hand` of `j1`."""
    rows = records.ownerships(["j1"], host=host).values()
    return [(row.state, row.owner, row.has_ended, row.in_hand) if row else None for row in rows]


def test_the_owner_of_a_job_from_its_queue_to_its_end(records: Records) -> None:
    assert owners(records) == [None]
    submit(records)
    assert owners(records) == [("queued", "", False, False)]
    fence = claim(records).fence
    assert owners(records) == [("starting", HOST, False, True)]
    assert owners(records, OTHER) == [("starting", HOST, False, False)]
    update(records, fence)
    assert owners(records) == [("running", HOST, False, True)]
    finish(records, fence)
    assert owners(records) == [("succeeded", HOST, True, True)]
    records.settle("j1", host=HOST, retention_s=60)
    assert owners(records) == [("succeeded", HOST, True, False)]


def test_a_claim_tells_the_batch_of_its_job(records: Records) -> None:
    """For people: a job of no batch has none."""
    submit(records)
    records.begin_batch("b1", {"size": 1})
    records.submit([jobrecord.New("j2", QUEUE, envelope(job_id="j2"), {}, batch_id="b1", batch_index=1)])
    assert claim(records).batch_id == ""
    assert claim(records, job_id="j2").batch_id == "b1"


def test_the_owner_of_a_job_that_was_given_back(records: Records) -> None:
    requeue(records, claim(records).fence)
    assert owners(records) == [("queued", "", False, False)]
    ownership = records.ownerships(["j1"], host=HOST)["j1"]
    assert ownership is not None
    assert ownership.envelope == envelope("t2")


def test_the_owners_of_several_jobs(records: Records) -> None:
    submit(records)
    claim(records, job_id="j2")
    rows = records.ownerships(["j2", "nobody", "j1"], host=HOST)
    states = {job_id: row and row.state for job_id, row in rows.items()}
    assert states == {"j2": "starting", "nobody": None, "j1": "queued"}
    assert records.ownerships([], host=HOST) == {}


# Claiming


def test_a_queued_job_is_run_by_who_claims_it(world: World, records: Records) -> None:
    submit(records)
    got = claim(records)
    assert (got.verdict, got.fence, got.attempt, got.tally) == (Verdict.RUN, 1, 1, Tally())
    assert got.submitted_at == float(records.record("j1")["submitted_at"])
    assert (got.attempts, got.receipt) == ((), None)
    assert records.record("j1")["state"] == "starting"
    assert records.record("j1")["owner"] == HOST
    assert world.owned(HOST) == {"j1"}


def test_a_job_of_a_plain_celery_client_gets_its_record_at_the_claim(world: World, records: Records) -> None:
    got = claim(records)
    assert (got.verdict, got.fence, got.attempt) == (Verdict.RUN, 1, 1)
    assert got.submitted_at is None, "nobody wrote down when"
    assert json.loads(records.record("j1")["message"]) == envelope()
    assert records.record("j1")["queue"] == QUEUE
    assert world.indexed() == {"j1"}
    assert world.owned(HOST) == {"j1"}


def test_a_second_delivery_to_the_owner_is_adopted_under_the_same_fence(records: Records) -> None:
    """Also what a claim gets whose first answer was lost."""
    first = claim(records)
    second = claim(records)
    assert (second.verdict, second.fence, second.attempt) == (Verdict.ADOPT, first.fence, first.attempt)
    update(records, first.fence)
    assert claim(records).verdict is Verdict.ADOPT


def test_a_second_delivery_to_another_host_is_dropped(world: World, records: Records) -> None:
    first = claim(records)
    assert claim(records, OTHER).verdict is Verdict.DROP
    assert world.owned(OTHER) == set()
    assert records.record("j1")["owner"] == HOST
    update(records, first.fence)
    assert claim(records, OTHER).verdict is Verdict.DROP


def test_a_job_that_ended_and_is_not_settled_is_reported_by_its_owner(records: Records) -> None:
    """The host died between the record and Celery's result."""
    finish(records, claim(records).fence)
    got = claim(records)
    assert got.verdict is Verdict.REPORT
    assert got.receipt == RECEIPT
    assert claim(records, OTHER).verdict is Verdict.DROP


def test_a_settled_job_is_dropped_by_everybody(records: Records) -> None:
    finish(records, claim(records).fence)
    records.settle("j1", host=HOST, retention_s=3600)
    assert claim(records).verdict is Verdict.DROP
    assert claim(records, OTHER).verdict is Verdict.DROP
    assert records.record("j1")["state"] == "succeeded"


def test_while_a_job_waits_for_its_retry_every_copy_is_dropped(records: Records) -> None:
    requeue(records, claim(records).fence)
    assert claim(records).verdict is Verdict.DROP
    assert claim(records, OTHER).verdict is Verdict.DROP
    assert records.record("j1")["state"] == "queued"


def test_fence_and_attempt_grow_with_each_run(world: World, records: Records) -> None:
    submit(records)
    for number, host in enumerate([HOST, OTHER, HOST], start=1):
        got = claim(records, host)
        assert (got.verdict, got.fence, got.attempt) == (Verdict.RUN, number, number)
        requeue(records, got.fence, host, exits=number)
        assert world.housekeeping.publish_due(LATE) == 1


def test_a_claim_brings_what_earlier_attempts_left(world: World, records: Records) -> None:
    submit(records)
    requeue(records, claim(records).fence)
    world.housekeeping.publish_due(LATE)
    got = claim(records, OTHER)
    assert got.tally == Tally(exits=1, host_faults=2)
    assert got.attempts == ({"attempt": 1, "host": HOST},)
    assert got.submitted_at is not None


def test_of_many_that_claim_at_once_one_runs(world: World, records: Records) -> None:
    """Twenty slots on four hosts get copies of one message."""
    submit(records)
    barrier = threading.Barrier(20)

    def race(number: int) -> tuple[str, Verdict]:
        host = f"node{number % 4}"
        barrier.wait(10)
        return host, claim(records, host).verdict

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(race, range(20)))
    verdicts = Counter(verdict for _, verdict in answers)
    assert verdicts == {Verdict.RUN: 1, Verdict.ADOPT: 4, Verdict.DROP: 15}
    (winner,) = [host for host, verdict in answers if verdict is Verdict.RUN]
    assert {host for host, verdict in answers if verdict is Verdict.ADOPT} == {winner}
    assert world.owned(winner) == {"j1"}
    assert records.record("j1")["fence"] == "1"


# Owner and stranger


def test_the_owner_adds_to_the_record(records: Records) -> None:
    fence = claim(records).fence
    update(records, fence)
    update(records, fence)
    record = records.record("j1")
    assert (record["state"], record["container_id"], record["pid"]) == ("running", "c" * 64, "7")


STATEMENTS: dict[str, Callable[..., None]] = {"update": update, "finish": finish, "requeue": requeue}


@pytest.mark.parametrize("say", STATEMENTS.values(), ids=STATEMENTS)
@pytest.mark.parametrize(
    ("host", "late_by"), [(OTHER, 0), (HOST, 1), (HOST, -1), (OTHER, 1)], ids=["host", "old", "future", "both"]
)
def test_a_stranger_is_fenced(
    world: World, records: Records, say: Callable[..., None], host: str, late_by: int
) -> None:
    """Another host, or this one with an old claim: what it says does not count, and changes nothing."""
    fence = claim(records).fence
    before = records.record("j1")
    with pytest.raises(errors.Fenced, match="j1"):
        say(records, fence - late_by, host)
    assert records.record("j1") == before
    assert world.delayed() == {}
    assert world.owned(HOST) == {"j1"}


@pytest.mark.parametrize("say", STATEMENTS.values(), ids=STATEMENTS)
def test_the_earlier_owner_is_fenced_once_somebody_else_runs_the_job(
    world: World, records: Records, say: Callable[..., None]
) -> None:
    """A host that comes back finds that its job went on without it."""
    requeue(records, claim(records).fence)
    world.housekeeping.publish_due(LATE)
    second = claim(records, OTHER)
    requeue(records, second.fence, OTHER)
    world.housekeeping.publish_due(LATE)
    claim(records, OTHER)
    with pytest.raises(errors.Fenced):
        say(records, 1)
    assert records.record("j1")["owner"] == OTHER


@pytest.mark.parametrize("say", [update, requeue], ids=["update", "requeue"])
def test_after_the_end_nothing_changes_any_more(world: World, records: Records, say: Callable[..., None]) -> None:
    fence = claim(records).fence
    finish(records, fence)
    before = records.record("j1")
    with pytest.raises(errors.Fenced):
        say(records, fence)
    assert records.record("j1") == before
    assert world.delayed() == {}


# Messages on their way


def test_the_claim_takes_the_message_off_the_hosts_list(world: World, records: Records) -> None:
    taken = jobrecord.Taken(QUEUE, json.dumps(envelope()).encode())
    for verdict in (Verdict.RUN, Verdict.ADOPT):
        world.hand_over(HOST, taken)
        got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), taken=taken)
        assert got.verdict is verdict
        assert world.taken(HOST) == []


def test_a_claim_forgets_the_pull_of_the_attempt_before(records: Records, world: World) -> None:
    """Otherwise the next attempt would look as if it pulled, before it does."""
    fence = claim(records).fence
    records.update(held(fence), {"pulled_bytes": 5, "pull_size_bytes": 7})
    requeue(records, fence, delay_s=0.0)
    assert records.record("j1")["pulled_bytes"] == "5"
    world.housekeeping.publish_due(LATE)
    assert claim(records).verdict is Verdict.RUN
    assert {"pulled_bytes", "pull_size_bytes"} & records.record("j1").keys() == set()


def test_the_image_of_an_attempt_is_known_to_the_next(records: Records, world: World) -> None:
    """On whatever host; a job without a record, or without that, has none."""
    assert records.image_pin("j1") == ""
    fence = claim(records).fence
    assert records.image_pin("j1") == ""
    records.update(held(fence), {"image_pin": "sha256:1"})
    requeue(records, fence, delay_s=0.0)
    world.housekeeping.publish_due(LATE)
    assert claim(records).verdict is Verdict.RUN
    assert records.image_pin("j1") == "sha256:1"
