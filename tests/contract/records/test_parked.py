"""Parked jobs: those that need more room than a host had wait in groups, and go to hosts that have it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.core import admission, jobrecord, message
from celery_docker.core.admission import NOTHING, FreeRoom, Lease, Needs, Offer, Use
from celery_docker.core.jobrecord import JobToEnd, Taken, Verdict
from celery_docker.core.lifecycle import Cause, EndRequest
from celery_docker.store import keys
from celery_docker.store.reservations import ReservationStore
from tests import servers
from tests.contract.records.worlds import (
    HOST,
    LATE,
    OTHER,
    QUEUE,
    Records,
    RedisWorld,
    World,
    claim,
    envelope,
    new,
    published,
    requeue,
    submit,
)

GIB = 2**30
OFFER = Offer(8000, 4 * GIB, ("0", "1"))
SMALL, LARGE = Needs(0, GIB), Needs(0, 3 * GIB)


def room(taken: Needs = NOTHING, reserved_id: str = "", reserved: Needs = NOTHING, offer: Offer = OFFER) -> FreeRoom:
    return admission.free_room(offer, Use({"running": Lease(taken)}, reserved_id, reserved))


EMPTY, FULL = room(), room(Needs(8000, 4 * GIB))
HALF = room(Needs(0, 2 * GIB))


def queue(records: Records, job_id: str, needs: Needs, **options: Any) -> None:
    """Submit a job as our own client does, with its needs."""
    about = {} if needs == NOTHING else {"needs": str(needs)}
    records.submit([new(job_id, about=about, **options)])


def park(records: Records, job_id: str, needs: Needs = SMALL, host: str = HOST) -> Verdict:
    """Claim a job as a host does that has no room for it."""
    sent = envelope(job_id=job_id)
    return records.claim(job_id, host=host, queue=QUEUE, envelope=sent, needs=needs, fits=False).verdict


def taken_ids(world: World, free: FreeRoom, host: str = HOST) -> list[str]:
    """Return the jobs that a host is given, one after the other, until it is given none."""
    job_ids = []
    while answer := world.take(free, host):
        if isinstance(answer, Taken):
            job_ids.append(message.job_id(answer.text.decode()) or "")
    return job_ids


# Parking


def test_a_job_without_room_is_parked_by_its_claim(world: World, records: Records) -> None:
    submit(records)
    assert park(records, "j1") is Verdict.PARK
    record = records.record("j1")
    assert (record["state"], record["needs"], record["attempt"]) == ("queued", str(SMALL), "0")
    assert float(record["parked_at"]) >= float(record["submitted_at"])
    assert world.parked() == {admission.group(QUEUE, SMALL): ["j1"]}
    assert world.owned(HOST) == set()


def test_its_message_is_done_with(world: World, records: Records) -> None:
    taken = Taken(QUEUE, b"{}")
    world.hand_over(HOST, taken)
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), taken=taken, needs=SMALL, fits=False)
    assert world.taken(HOST) == []
    assert records.record("j1")["message"], "a plain client's message: the record begins here"
    assert world.parked() == {admission.group(QUEUE, SMALL): ["j1"]}


def test_it_is_parked_since_the_first_time(records: Records, world: World) -> None:
    """However often a host takes it and has no room after all, and whatever that host says it needs."""
    submit(records)
    park(records, "j1")
    since = records.record("j1")["parked_at"]
    park(records, "j1", LARGE, OTHER)
    assert records.record("j1")["parked_at"] == since
    assert world.parked() == {admission.group(QUEUE, LARGE): ["j1"]}


def test_a_second_copy_of_the_message_of_a_parked_job(records: Records, world: World) -> None:
    submit(records)
    park(records, "j1")
    park(records, "j1", host=OTHER)
    assert world.parked() == {admission.group(QUEUE, SMALL): ["j1"]}
    assert claim(records, OTHER).verdict is Verdict.RUN
    assert claim(records, HOST).verdict is Verdict.DROP


def test_a_parked_job_that_is_claimed_is_parked_no_more(records: Records, world: World) -> None:
    submit(records)
    park(records, "j1")
    assert claim(records).verdict is Verdict.RUN
    assert world.parked() == {}
    assert "parked_at" not in records.record("j1")
    assert records.record("j1")["needs"] == str(SMALL)


def test_a_job_that_is_this_hosts_already_is_never_parked(records: Records) -> None:
    claim(records)
    assert park(records, "j1") is Verdict.ADOPT
    assert park(records, "j1", host=OTHER) is Verdict.DROP


def test_a_retry_is_parked_anew(records: Records, world: World) -> None:
    submit(records)
    requeue(records, claim(records).fence, delay_s=0)
    world.housekeeping.publish_due(LATE)
    assert park(records, "j1") is Verdict.PARK
    assert claim(records).attempt == 2


def test_a_job_whose_time_has_not_come_is_delayed_and_not_parked(records: Records, world: World) -> None:
    term = jobrecord.Term(not_before=LATE)
    got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=term, needs=SMALL, fits=False)
    assert (got.verdict, world.parked(), set(world.delayed())) == (Verdict.DROP, {}, {"j1"})


# Taking


def test_a_host_with_room_is_given_the_job_that_is_parked_for_longest(records: Records, world: World) -> None:
    for job_id, needs in [("j1", LARGE), ("j2", SMALL), ("j3", SMALL)]:
        queue(records, job_id, needs)
        park(records, job_id, needs)
    world.empty()
    assert taken_ids(world, HALF) == ["j2", "j3"]
    assert world.parked() == {admission.group(QUEUE, LARGE): ["j1"]}
    assert taken_ids(world, EMPTY) == ["j1"]
    assert world.parked() == {}


def test_a_taken_job_is_in_the_hosts_list_until_its_claim(records: Records, world: World) -> None:
    """So that it returns to its queue if the host dies."""
    queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    answer = world.take(EMPTY)
    assert isinstance(answer, Taken)
    assert world.taken(HOST) == [answer.text]
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), taken=answer, needs=SMALL)
    assert (world.taken(HOST), world.owned(HOST)) == ([], {"j1"})


def test_what_is_parked_comes_before_what_was_sent_later(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    queue(records, "j2", SMALL)
    assert taken_ids(world, EMPTY) == ["j1", "j2"]


def test_a_more_urgent_list_comes_before_what_is_parked(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    records.submit([jobrecord.New("j2", "urgent", envelope(job_id="j2"), {})])
    answers = [world.take(EMPTY, lists=["urgent", QUEUE]) for _ in range(2)]
    assert [message.job_id(answer.text.decode()) or "" for answer in answers if isinstance(answer, Taken)] == [
        "j2",
        "j1",
    ]


def test_smaller_jobs_pass_one_without_room(records: Records, world: World) -> None:
    """Its message goes no further than Redis: no slot is taken for it."""
    queue(records, "j1", LARGE)
    queue(records, "j2", NOTHING)
    queue(records, "j3", SMALL)
    assert taken_ids(world, HALF) == ["j2", "j3"]
    assert world.parked() == {admission.group(QUEUE, LARGE): ["j1"]}
    assert records.record("j1")["parked_at"]
    assert published(world) == []


def test_a_host_without_room_should_ask_again_soon(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    assert [world.take(FULL), world.take(FULL)] == [1, 0]


def test_a_host_that_could_never_hold_a_job_may_wait_for_others(records: Records, world: World) -> None:
    huge = Needs(0, 64 * GIB)
    queue(records, "j1", huge)
    assert [world.take(EMPTY), world.take(EMPTY)] == [1, None]
    assert world.parked() == {admission.group(QUEUE, huge): ["j1"]}


def test_jobs_of_other_queues_are_left_alone(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    assert world.take(EMPTY, lists=["night"]) is None


@pytest.mark.parametrize(
    ("needs", "is_taken"),
    [
        (Needs(8000, 4 * GIB, 2), True),
        (Needs(8001), False),
        (Needs(0, 4 * GIB + 1), False),
        (Needs(gpus=3), False),
        (Needs(gpus=1, devices=("1",)), True),
        (Needs(gpus=2, devices=("0", "1")), True),
        (Needs(gpus=1, devices=("7",)), False),
        (Needs(gpus=1, devices=("10",)), False),
    ],
)
def test_each_part_of_the_needs_has_to_fit(records: Records, world: World, needs: Needs, is_taken: bool) -> None:
    queue(records, "j1", needs)
    assert taken_ids(world, EMPTY) == (["j1"] if is_taken else [])


def test_room_that_is_reserved_is_for_one_job(records: Records, world: World) -> None:
    for job_id, needs in [("j1", SMALL), ("j2", LARGE), ("j3", LARGE)]:
        queue(records, job_id, needs)
        park(records, job_id, needs)
    world.empty()
    assert taken_ids(world, room(SMALL, "j3", LARGE)) == ["j3"]
    assert taken_ids(world, room(LARGE, "", NOTHING)) == ["j1"]


def test_a_message_of_the_job_that_room_is_reserved_for(records: Records, world: World) -> None:
    """The host that had taken it before died, and its message is in the list again."""
    queue(records, "j1", LARGE)
    assert taken_ids(world, room(SMALL, "j1", LARGE)) == ["j1"]


def test_a_message_that_is_not_the_records_is_for_the_claim_to_judge(records: Records, world: World) -> None:
    queue(records, "j1", LARGE)
    world.write("j1", message="{}")
    assert taken_ids(world, HALF) == ["j1"]


# Jobs that end, or are lost, while they are parked


def test_a_parked_job_that_is_cancelled_is_not_given_to_a_host(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    records.cancel("j1", reason="too late")
    assert taken_ids(world, EMPTY) == []
    assert [job.job_id for job in world.housekeeping.end_requests(HOST)] == ["j1"]


def test_a_parked_job_ends_on_request_without_room(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    records.cancel("j1", reason="too late")
    job = JobToEnd("j1", "queued", QUEUE, envelope(), EndRequest(Cause.CANCELLED, "too late"))
    (got,) = records.claim_many([job], host=OTHER)
    assert (got.verdict, world.parked()) == (Verdict.RUN, {})


def test_a_job_that_is_to_end_is_not_parked(records: Records) -> None:
    submit(records)
    records.cancel("j1", reason="too late")
    assert park(records, "j1") is Verdict.RUN


def test_a_parked_job_of_a_plain_client_expires(records: Records, world: World) -> None:
    """Only its message says when."""
    term = jobrecord.Term(not_after=LATE)
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=term, needs=SMALL, fits=False)
    assert world.housekeeping.expire_due(LATE) == 1
    (to_end,) = world.housekeeping.end_requests(HOST)
    assert (to_end.job_id, to_end.request.cause) == ("j1", Cause.EXPIRED)


def test_a_parked_job_is_not_published_again(records: Records, world: World) -> None:
    queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    assert world.housekeeping.republish(LATE) == 0


def test_many_parked_jobs_hide_no_lost_message(records: Records, world: World, mocker: MockerFixture) -> None:
    """However many no host has room for, and for how long."""
    mocker.patch("celery_docker.store.housekeeping._AT_ONCE", 2)
    for number in range(5):
        queue(records, f"huge{number}", LARGE)
        park(records, f"huge{number}", LARGE)
    world.empty()
    queue(records, "j1", SMALL)
    world.empty()
    assert world.housekeeping.republish(LATE) == 1
    assert published(world) == ["j1"]


@pytest.mark.parametrize("is_plain", [False, True])
def test_a_job_of_a_lost_group_is_published_again(records: Records, world: World, is_plain: bool) -> None:
    if not is_plain:
        queue(records, "j1", SMALL)
    park(records, "j1")
    world.empty()
    world.lose_groups()
    assert world.housekeeping.republish(LATE) == 1
    assert published(world) == ["j1"]
    assert taken_ids(world, EMPTY) == ["j1"]


def test_a_job_that_a_host_of_an_older_version_has_claimed_is_passed_over(records: Records, world: World) -> None:
    """Such a host published it again, and left it in its group."""
    for job_id in ("j1", "j2"):
        queue(records, job_id, SMALL)
        park(records, job_id)
    world.empty()
    world.write("j1", state="running", owner=OTHER)
    assert taken_ids(world, EMPTY) == ["j2"]
    assert world.parked() == {}


# Counted anew


@pytest.fixture
def real(redis_server: servers.RedisServer) -> Iterator[RedisWorld]:
    world = RedisWorld(redis_server)
    yield world
    world.close()


def test_a_parked_job_waits_for_other_needs(real: RedisWorld) -> None:
    """It keeps its time, and its old group ends with its last job."""
    park(real.records, "j1", LARGE)
    before, store = real.records.record("j1")["parked_at"], ReservationStore(real.records.link)
    assert (store.groups(), store.jobs_of(store.groups()[0])) == ([admission.group(QUEUE, LARGE)], ["j1"])
    assert store.envelopes(["j1", "unknown"]) == {"j1": envelope(job_id="j1")}
    assert store.repark("j1", QUEUE, LARGE, SMALL)
    assert not store.repark("j1", QUEUE, LARGE, SMALL)
    assert (real.parked(), store.groups()) == ({admission.group(QUEUE, SMALL): ["j1"]}, [admission.group(QUEUE, SMALL)])
    (job,) = store.parked().jobs
    assert (job.needs, str(job.parked_at)) == (SMALL, str(float(before)))
    assert taken_ids(real, HALF) == ["j1"]


def test_a_job_that_is_parked_no_more_keeps_its_needs(real: RedisWorld) -> None:
    """A host has just taken it, it has begun, or it is to end."""
    store = ReservationStore(real.records.link)
    for job_id in ("j1", "j2", "j3"):
        park(real.records, job_id)
    real.records.cancel("j3", reason="by alice")
    real.take(HALF)
    claim(real.records, job_id="j2")
    assert [store.repark(job_id, QUEUE, SMALL, LARGE) for job_id in ("j1", "j2", "j3")] == [False] * 3
    assert admission.group(QUEUE, LARGE) not in real.parked()


# Reserved room


def test_room_is_reserved_for_what_a_job_needs_now(real: RedisWorld) -> None:
    store, reservation = ReservationStore(real.records.link), keys.RESERVED + "j1"
    park(real.records, "j1", SMALL)
    assert store.reserve("j1", HOST, SMALL)
    assert not store.reserve("j1", OTHER, SMALL)
    park(real.records, "j1", LARGE)
    assert not store.reserve("j1", HOST, SMALL)
    assert not real.records.link.client.exists(reservation)
    assert store.reserve("j1", OTHER, LARGE)
    claim(real.records)
    assert not store.reserve("j1", OTHER, LARGE)
    assert not real.records.link.client.exists(reservation)
