"""One host among the others, with Redis in memory and a clock that the tests turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background.heartbeat import Heartbeat
from celery_docker.core import journal, message
from celery_docker.core.jobrecord import Claim, Verdict
from celery_docker.core.journal import JobFacts, JournalEvent
from celery_docker.core.receipt import Attempt
from celery_docker.run.job import Delivery, Job
from tests.fakes.hosts import FakeHosts
from tests.fakes.records import FakeRecords
from tests.waiting import eventually

HOST, OTHER, THIRD = "node1", "node2", "node3"
LOST_AFTER_S = 60
TURN_S = 5.0


@dataclass
class Hands:
    """As much of a runner as the heartbeat looks at."""

    host: str
    records: FakeRecords
    held: list[Job] = field(default_factory=list)
    fenced: dict[str, str] = field(default_factory=dict)

    def jobs(self) -> list[Job]:
        return self.held

    def fence(self, job: Job, reason: str) -> None:
        self.fenced[job.job_id] = reason

    def left_behind(self) -> list[Mapping[str, Any]]:
        here = {job.job_id for job in self.held}
        return [{"headers": {"id": job_id}} for job_id in sorted(self.records.in_hand.get(self.host, set()) - here)]


class World:
    """Some hosts on one Redis, and its clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.records = FakeRecords(clock=lambda: self.now)
        self.hosts = FakeHosts(self.records)
        self.members: dict[str, Heartbeat] = {}
        self.hands: dict[str, Hands] = {}
        self.delivered: list[str] = []
        self.quits: list[str] = []

    def member(
        self,
        host: str = HOST,
        machine: str = "m1",
        sleep: Callable[[float], None] | None = None,
        interval_s: float = TURN_S,
    ) -> Heartbeat:
        self.hands[host] = Hands(host, self.records)
        self.members[host] = Heartbeat(
            self.hosts,
            self.hands[host],
            host=host,
            machine=machine,
            lost_after_s=LOST_AFTER_S,
            about=lambda: {"machine": machine, "started_at": "2026-01-01T00:00:00.000Z"},
            deliver=lambda envelope: self.delivered.append(envelope["headers"]["id"]),
            quit_=lambda: self.quits.append(host),
            sleep=sleep or self.sleep,
            interval_s=interval_s,
        )
        return self.members[host]

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def turn(self, *hosts: str, times: int = 1) -> None:
        """Let time pass, in which these hosts send heartbeats and take over; a failure is theirs to get over."""
        for _ in range(times):
            self.now += TURN_S
            for host in hosts:
                try:
                    self.members[host].beat_once()
                    self.members[host].take_over_once()
                except errors.CeleryDockerError:
                    pass

    def run(self, host: str, job_id: str = "j1", **kwargs: Any) -> Job:
        """Let a host take a job."""
        envelope = message.task_message(job_id, kwargs, queue="celery", tag="t1", origin="1@here")
        claim = self.records.claim(job_id, host=host, queue="celery", envelope=envelope)
        assert claim.verdict is Verdict.RUN
        job = made(job_id, claim, host)
        self.hands[host].held.append(job)
        return job

    def state(self, job_id: str = "j1") -> tuple[str, str]:
        record = self.records.jobs[job_id]
        return record["state"], record["owner"]


def made(job_id: str, claim: Claim, host: str) -> Job:
    return Job(Delivery(job_id, (), {}, "celery", {}), claim, Attempt(claim.attempt, host, datetime.now(UTC)))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def pair(world: World) -> World:
    """Two hosts, one of which has the job j1."""
    for host in (HOST, OTHER):
        world.member(host).arrive()
    world.run(HOST)
    return world


FULL_PERIOD = int(LOST_AFTER_S / TURN_S)


# Judging


def test_the_jobs_of_a_silent_host_are_queued_again(pair: World, caplog: pytest.LogCaptureFixture) -> None:
    pair.turn(OTHER, times=FULL_PERIOD - 1)
    assert pair.state() == ("starting", HOST), "it is not silent for long enough yet"
    with caplog.at_level(logging.WARNING):
        pair.turn(OTHER, times=2)
    assert pair.state() == ("queued", "")
    assert caplog.messages == ["host node1 was silent for 60 s: 1 job queued again"]
    (about,) = [vars(record) for record in caplog.records]
    assert (about["event"], about["jobs"], about["facts"]) == (JournalEvent.TAKEOVER, ("j1",), JobFacts(host=HOST))
    assert [row.host for row in pair.hosts.workers() if row.lost] == [HOST]


def test_a_host_that_is_heard_keeps_its_jobs(pair: World) -> None:
    pair.turn(HOST, OTHER, times=3 * FULL_PERIOD)
    assert pair.state() == ("starting", HOST)


def test_the_takeover_is_logged_once(pair: World, caplog: pytest.LogCaptureFixture) -> None:
    pair.turn(OTHER, times=3 * FULL_PERIOD)
    assert len([line for line in caplog.messages if "silent" in line]) == 1


def test_the_line_of_a_takeover_names_each_job_in_its_fields(
    pair: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More lines only where one entry of the journal has no room for all."""
    monkeypatch.setattr(journal, "MOST_JOBS", 2)
    for job_id in ("j2", "j3"):
        pair.run(HOST, job_id)
    pair.turn(OTHER, times=2 * FULL_PERIOD)
    named = [vars(record)["jobs"] for record in caplog.records if "silent" in record.getMessage()]
    assert named == [("j1", "j2"), ("j3",)]


def test_one_of_many_takes_over(pair: World) -> None:
    pair.member(THIRD).arrive()
    pair.turn(OTHER, THIRD, times=2 * FULL_PERIOD)
    assert pair.hosts.takeover_lock[0] == OTHER
    assert pair.records.jobs["j1"]["host_faults"] == "1"


def test_another_takes_over_when_the_first_dies(pair: World) -> None:
    pair.member(THIRD).arrive()
    pair.turn(HOST, OTHER, THIRD, times=FULL_PERIOD)
    pair.turn(THIRD, times=2 * FULL_PERIOD)
    assert pair.state() == ("queued", "")
    assert [row.host for row in pair.hosts.workers() if row.lost] == [HOST, OTHER]


def test_nobody_is_taken_over_by_a_newcomer(pair: World) -> None:
    """Everybody looks dead to whoever comes after an outage of all."""
    pair.now += 10_000
    pair.member(THIRD).arrive()
    pair.turn(THIRD, times=FULL_PERIOD - 1)
    assert pair.state() == ("starting", HOST)
    pair.turn(THIRD, times=2)
    assert pair.state() == ("queued", "")


def test_nobody_is_taken_over_right_after_redis_was_away(pair: World) -> None:
    pair.turn(HOST, OTHER, times=2 * FULL_PERIOD)
    pair.hosts.failures["beat"] = [errors.StoreAway() for _ in range(4 * FULL_PERIOD)]
    pair.turn(HOST, OTHER, times=2 * FULL_PERIOD)
    assert pair.hosts.failures["beat"] == []
    pair.turn(OTHER, times=FULL_PERIOD - 1)
    pair.turn(HOST, OTHER, times=2 * FULL_PERIOD)
    assert pair.state() == ("starting", HOST)
    assert not [row for row in pair.hosts.workers() if row.lost]


def test_nobody_is_taken_over_right_after_one_heartbeat_failed(pair: World) -> None:
    """Too short for a gap, and yet not all is well."""
    pair.turn(OTHER, times=FULL_PERIOD - 1)
    pair.hosts.failures["beat"] = [errors.StoreAway()]
    pair.turn(OTHER, times=FULL_PERIOD)
    assert pair.state() == ("starting", HOST)
    pair.turn(OTHER, times=2)
    assert pair.state() == ("queued", "")


def test_nobody_is_taken_over_when_redis_clock_is_set(pair: World) -> None:
    pair.turn(HOST, OTHER, times=2 * FULL_PERIOD)
    pair.now += 10_000
    pair.turn(OTHER, HOST, times=2 * FULL_PERIOD)
    assert pair.state() == ("starting", HOST)


def test_nobody_is_taken_over_by_an_old_copy_of_redis(pair: World) -> None:
    pair.turn(HOST, OTHER, times=2 * FULL_PERIOD)
    for host in (HOST, OTHER):
        pair.hosts.heard[host] -= 10_000
    pair.turn(OTHER, HOST, times=2 * FULL_PERIOD)
    assert pair.state() == ("starting", HOST)


def test_a_job_that_is_not_to_be_queued_again(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for host in (HOST, OTHER):
        world.member(host).arrive()
    world.run(HOST, "once", requeue=False)
    world.run(HOST, "again", requeue=True)
    world.turn(OTHER, times=FULL_PERIOD + 1)
    assert "host node1 was silent for 60 s: 1 job queued again, 1 lost" in caplog.messages
    assert world.records.marked == {"once"}
    assert world.records.jobs["once"]["cancel_cause"] == "lost"
    assert len(world.records.queues["celery"]) == 1


def test_what_had_ended_is_reported_by_the_new_host(pair: World) -> None:
    """The host died between the record and Celery's result."""
    pair.records.jobs["j1"] |= {"state": "succeeded", "receipt": "{}"}
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    assert pair.state() == ("succeeded", OTHER)
    assert pair.delivered[0] == "j1"


def test_what_is_to_be_reported_is_delivered_until_it_is_done(pair: World) -> None:
    """The event loop that takes it may be reconnecting just now."""
    pair.records.jobs["j1"] |= {"state": "succeeded", "receipt": "{}"}
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    already = len(pair.delivered)
    pair.turn(OTHER, times=2)
    assert pair.delivered[already:] == ["j1", "j1"]
    pair.records.in_hand[OTHER].clear()
    pair.turn(OTHER, times=2)
    assert len(pair.delivered) == already + 2


# Being taken over


def fenced(world: World, host: str = HOST) -> dict[str, str]:
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name == "fence"])
    return world.hands[host].fenced


def test_a_host_that_comes_back_ends_what_is_anothers(pair: World) -> None:
    job_id = pair.run(HOST, "kept")
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    # It has no job of that name in hand any more, but one that it has taken since.
    pair.hands[HOST].held.remove(job_id)
    new = pair.run(HOST, "new")
    assert new.claim.fence == 1
    pair.turn(HOST)
    assert fenced(pair) == {"j1": "job j1 belongs to another host now"}


def test_a_host_looks_after_it_could_not_look(pair: World) -> None:
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    pair.hosts.failures["ownerships"] = [errors.StoreAway()]
    pair.turn(HOST)
    assert fenced(pair) == {}
    pair.turn(HOST)
    assert list(fenced(pair)) == ["j1"]


def test_a_host_looks_now_and_then_without_a_reason(pair: World) -> None:
    pair.records.jobs["j1"]["owner"] = OTHER
    pair.turn(HOST, times=12)
    assert list(fenced(pair)) == ["j1"]


def test_a_host_that_was_heard_all_the_time_does_not_look(pair: World) -> None:
    pair.turn(HOST, times=6)
    assert "ownerships" not in pair.hosts.calls


def test_a_job_that_was_taken_between_two_losses_of_its_host(pair: World) -> None:
    """It came back, took a job, and was gone before its next heartbeat."""
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    pair.run(HOST, "new")
    pair.turn(OTHER, times=FULL_PERIOD - 1)
    assert pair.state("new") == ("starting", HOST)
    pair.turn(OTHER, times=3)
    assert pair.state("new") == ("queued", "")


def test_a_host_that_was_recalled_looks_all_the_same(pair: World) -> None:
    pair.turn(OTHER, times=FULL_PERIOD + 1)
    pair.run(HOST, "new")
    pair.turn(OTHER)
    assert HOST in pair.hosts.heard
    pair.turn(HOST)
    assert list(fenced(pair)) == ["j1"]


def test_a_host_whose_record_redis_has_lost_runs_on(pair: World) -> None:
    pair.records.jobs.clear()
    pair.hosts.heard.clear()
    pair.turn(HOST)
    assert fenced(pair) == {}


# The name


def test_a_name_in_use_on_another_machine(world: World) -> None:
    """The other goes on sending heartbeats: it is alive, and there is nothing to wait for."""
    world.member(HOST, "m1").arrive()

    def sleep(seconds: float) -> None:
        world.now += seconds
        world.hosts.beat(HOST, machine="m1", about={"machine": "m1", "started_at": "then"})

    with pytest.raises(errors.IdentityTaken) as caught:
        world.member(HOST, "m2", sleep).arrive()
    assert str(caught.value) == (
        "another machine (m1) works under the name node1 since then; "
        "give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
    )
    assert world.now == 1_000_001.0


def test_a_name_whose_machine_has_died_is_taken_over(world: World) -> None:
    world.member(HOST, "m1").arrive()
    world.member(HOST, "m2").arrive()
    assert world.hosts.reports[HOST][0] == "m2"
    assert world.now == 1_000_030.0


def test_a_name_that_stays_in_use_is_given_up(world: World) -> None:
    """Redis' clock stands still, or nearly: the wait has an end all the same."""
    world.member(HOST, "m1").arrive()
    waits: list[float] = []
    with pytest.raises(errors.IdentityTaken):
        world.member(HOST, "m2", waits.append).arrive()
    assert sum(waits) < 40


def test_a_restart_on_the_same_machine_does_not_wait(world: World) -> None:
    world.member(HOST, "m1").arrive()
    world.member(HOST, "m1").arrive()
    assert world.now == 1_000_000.0


def test_a_machine_whose_name_was_taken_leaves_its_jobs_and_ends(world: World) -> None:
    world.member(HOST, "m1").arrive()
    world.run(HOST)
    first, hands = world.members[HOST], world.hands[HOST]
    world.now += 31
    world.member(HOST, "m2").arrive()
    first.beat_once()
    first.take_over_once()
    eventually(lambda: hands.fenced)
    assert "another machine (m2) works under the name node1" in hands.fenced["j1"]
    assert world.quits == [], "its container may need its grace"
    hands.held.clear()
    first.beat_once()
    assert world.quits == [HOST]


# Coming and going


def test_a_host_that_leaves_is_not_missed(pair: World) -> None:
    pair.members[OTHER].leave()
    assert [row.host for row in pair.hosts.workers()] == [HOST]


def test_a_host_that_leaves_with_a_job_in_hand_is_missed(pair: World) -> None:
    pair.members[HOST].leave()
    assert [row.host for row in pair.hosts.workers()] == [HOST, OTHER]


def test_leaving_while_redis_is_away(pair: World) -> None:
    pair.hosts.failures["leave"] = [errors.StoreAway()]
    pair.members[OTHER].leave()


def test_the_thread_gives_signs_of_life_whatever_happens(world: World, caplog: pytest.LogCaptureFixture) -> None:
    member = world.member(interval_s=0.001)
    member.arrive()
    world.hosts.failures["beat"] = [errors.StoreAway(), RuntimeError("a bug")]
    member.start()
    eventually(lambda: world.hosts.calls.count("beat") > 5)
    member.leave()
    beats = world.hosts.calls.count("beat")
    assert world.hosts.heard == {}
    assert world.hosts.calls.count("beat") == beats
    assert "heartbeat: its turn failed and is repeated: RuntimeError('a bug')" in caplog.messages


def test_a_change_is_told_at_once() -> None:
    """Not with the next regular heartbeat, which is seconds away."""
    world = World()
    member = world.member(interval_s=3600)
    member.arrive()
    member.start()
    member.wake()
    eventually(lambda: world.hosts.calls.count("beat") == 2)
    member.leave()
