"""The promises of the list of hosts: the same suite on the fake and on the real one over a real Redis."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pytest

from celery_docker import errors
from celery_docker.background import heartbeat
from celery_docker.core import admission, hostloss, jobrecord, message
from celery_docker.core.hostloss import Loss, Silence, Takeover
from celery_docker.core.jobrecord import Holding, Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, State
from celery_docker.run import ports
from celery_docker.store import hosts, jobstore, keys, taking
from celery_docker.store.listing import WorkerRow
from celery_docker.store.queries import Queries
from tests import servers
from tests.fakes.hosts import FakeHosts
from tests.fakes.records import FakeRecords
from tests.waiting import eventually

HOST, JUDGE, OTHER = "node1", "node2", "node3"
MACHINE, ELSEWHERE = "m1", "m2"
ABOUT = {"machine": MACHINE, "started_at": "2026-01-01T00:00:00.000Z", "slots": 2}
QUEUE = "celery"
RECEIPT: dict[str, Any] = {"id": "j1", "state": "succeeded", "output": "", "attempts": [{"attempt": 1}]}


class Records(ports.Records, Protocol):
    """The part of the job records that the tests need."""

    def submit(self, jobs: Sequence[jobrecord.New]) -> list[bool]: ...
    def record(self, job_id: str) -> dict[str, str]: ...


class World(Protocol):
    """The hosts under test, the job records beside them, and a hand on what is in Redis."""

    @property
    def hosts(self) -> heartbeat.Hosts: ...
    @property
    def records(self) -> Records: ...
    def workers(self) -> list[WorkerRow]: ...
    def age(self, host: str, seconds: float) -> None: ...
    def take(self, host: str, source: str, texts: list[str]) -> None: ...
    def queued(self, queue: str = QUEUE) -> list[str]: ...
    def waiting(self) -> set[str]: ...
    def cancelling(self) -> set[str]: ...
    def owned(self, host: str) -> set[str]: ...
    def kept_for_s(self, host: str) -> int | None: ...
    def lose(self, job_id: str) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.records = FakeRecords()
        self.hosts = FakeHosts(self.records)

    def workers(self) -> list[WorkerRow]:
        return self.hosts.workers()

    def age(self, host: str, seconds: float) -> None:
        self.hosts.heard[host] -= seconds

    def take(self, host: str, source: str, texts: list[str]) -> None:
        self.hosts.taken.setdefault(host, {}).setdefault(source, [])[:0] = reversed(texts)

    def queued(self, queue: str = QUEUE) -> list[str]:
        return list(self.records.queues.get(queue, []))

    def waiting(self) -> set[str]:
        return set(self.hosts.waiting)

    def cancelling(self) -> set[str]:
        return set(self.records.marked)

    def owned(self, host: str) -> set[str]:
        return set(self.records.in_hand.get(host, set()))

    def kept_for_s(self, host: str) -> int | None:
        return self.hosts.expiry.get(host)

    def lose(self, job_id: str) -> None:
        del self.records.jobs[job_id]


class RedisWorld:
    def __init__(self, server: servers.RedisServer) -> None:
        self.records = jobstore.connect(server.url)
        self.hosts = hosts.HostStore(self.records.link)
        self._client: Any = server.client(decode_responses=True)

    def workers(self) -> list[WorkerRow]:
        return Queries(self.records.link).hosts.rows()

    def age(self, host: str, seconds: float) -> None:
        self._client.zincrby(keys.HOSTS, -seconds, host)

    def take(self, host: str, source: str, texts: list[str]) -> None:
        self._client.sadd(keys.host_sources(host), source)
        self._client.lpush(keys.taken(host, source), *texts)

    def queued(self, queue: str = QUEUE) -> list[str]:
        return list(self._client.lrange(queue, 0, -1))

    def waiting(self) -> set[str]:
        return set(self._client.zrange(keys.WAITING, 0, -1))

    def cancelling(self) -> set[str]:
        return set(self._client.smembers(keys.CANCELLING))

    def owned(self, host: str) -> set[str]:
        return set(self._client.smembers(keys.host_jobs(host)))

    def kept_for_s(self, host: str) -> int | None:
        seconds = int(self._client.ttl(keys.host_about(host)))
        return None if seconds < 0 else seconds

    def lose(self, job_id: str) -> None:
        self._client.delete(keys.job(job_id))

    def close(self) -> None:
        self._client.flushdb()
        self._client.close()
        self.records.close()


@pytest.fixture(params=["fake", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    real = RedisWorld(request.getfixturevalue("redis_server"))
    yield real
    real.close()


def beat(world: World, host: str = HOST, machine: str = MACHINE) -> hostloss.Beat:
    return world.hosts.beat(host, machine=machine, about={**ABOUT, "machine": machine})


def envelope(job_id: str = "j1") -> dict[str, Any]:
    return message.task_message(job_id, {"image": "busybox"}, queue=QUEUE, tag="t1", origin="1@here")


def run(world: World, host: str = HOST, job_id: str = "j1") -> jobrecord.Claim:
    """Let a host take a job, as if its message had come."""
    world.records.submit([jobrecord.New(job_id, QUEUE, envelope(job_id), {"image": "busybox"})])
    return world.records.claim(job_id, host=host, queue=QUEUE, envelope=envelope(job_id))


def silence(world: World, for_s: float = 600) -> Silence:
    """Make the host silent, and return what the judge sees of it."""
    beat(world)
    world.age(HOST, for_s)
    (host_silence,) = world.hosts.silent(now=beat(world, JUDGE).now, for_s=for_s)
    return host_silence


def loss(ends: bool = False) -> Loss:
    return Loss(ends, "its host node1 was silent for 600 s", 1, ({"attempt": 1},), {"headers": {"id": "j1"}})


def lose(world: World, host_silence: Silence, *, ends: bool = False, job_id: str = "j1") -> Takeover:
    record = world.hosts.jobs(HOST).get(job_id, {})
    return world.hosts.lose(job_id, host_silence, to_host=JUDGE, record=record, loss=loss(ends))


# Signs of life


def test_a_sign_of_life_tells_of_the_one_before(world: World) -> None:
    first = beat(world)
    second = beat(world)
    assert first.before is None
    assert second.before == first.now, "exactly: a difference means that Redis has forgotten"
    assert second.now >= first.now
    assert second.rival is None


def test_another_machine_cannot_have_a_name_that_is_in_use(world: World) -> None:
    first = beat(world)
    for _ in range(2):
        refused = beat(world, machine=ELSEWHERE)
        assert refused.rival == ABOUT
        assert refused.before == first.now, "what is refused is no sign of life"


def test_another_machine_can_have_a_name_that_is_not_in_use(world: World) -> None:
    beat(world)
    world.age(HOST, hosts.NAME_KEPT_S + 1)
    assert beat(world, machine=ELSEWHERE).rival is None
    returned = beat(world)
    assert returned.rival == {**ABOUT, "machine": ELSEWHERE}


def test_a_machine_may_be_silent_and_come_back(world: World) -> None:
    first = beat(world)
    world.age(HOST, 100)
    again = beat(world)
    assert again.before == pytest.approx(first.now - 100)
    assert again.rival is None


# Leaving


def test_a_host_that_leaves_is_not_known_any_more(world: World) -> None:
    beat(world)
    assert world.hosts.leave(HOST) is True
    assert world.workers() == []
    assert beat(world).before is None


def test_a_host_with_a_job_in_hand_stays(world: World) -> None:
    beat(world)
    run(world)
    assert world.hosts.leave(HOST) is False
    assert [row.host for row in world.workers()] == [HOST]


def test_a_host_with_a_message_in_hand_stays(world: World) -> None:
    beat(world)
    world.take(HOST, QUEUE, ["a"])
    assert world.hosts.leave(HOST) is False
    assert [row.host for row in world.workers()] == [HOST]


# The judge


def test_one_host_judges_at_a_time(world: World) -> None:
    assert world.hosts.hold(JUDGE, for_s=20)
    assert not world.hosts.hold(OTHER, for_s=20)
    assert world.hosts.hold(JUDGE, for_s=1), "it goes on for as long as it says so"
    eventually(lambda: world.hosts.hold(OTHER, for_s=20), 10, "another judge after the first has died")
    assert not world.hosts.hold(JUDGE, for_s=20)


def test_silent_hosts(world: World) -> None:
    for host, seconds in ((HOST, 700), (OTHER, 650), ("young", 500)):
        beat(world, host)
        world.age(host, seconds)
    now = beat(world, JUDGE).now
    silences = world.hosts.silent(now=now, for_s=600)
    assert [silence.host for silence in silences] == [HOST, OTHER]
    assert [silence.for_s for silence in silences] == pytest.approx([700, 650], abs=5)
    assert all(silence.heard_at + silence.for_s == pytest.approx(now) for silence in silences)


# What becomes of its jobs


def test_a_job_is_queued_again_and_is_the_next_that_is_taken(world: World) -> None:
    run(world)
    world.records.submit([jobrecord.New("later", QUEUE, envelope("later"), {})])
    assert lose(world, silence(world)) is Takeover.QUEUED
    record = world.records.record("j1")
    assert (record["state"], record["owner"], record["host_faults"]) == ("queued", "", "1")
    assert json.loads(record["attempts"]) == [{"attempt": 1}]
    assert json.loads(world.queued()[-1]) == {"headers": {"id": "j1"}} == json.loads(record["message"])
    assert "j1" in world.waiting()
    assert world.owned(HOST) == world.cancelling() == set()


def test_another_host_runs_it_as_the_next_attempt(world: World) -> None:
    before = run(world)
    lose(world, silence(world))
    after = world.records.claim("j1", host=JUDGE, queue=QUEUE, envelope=envelope())
    assert after.verdict is Verdict.RUN
    assert (after.fence, after.attempt) == (before.fence + 1, 2)
    assert after.tally.host_faults == 1
    assert after.attempts == ({"attempt": 1},)


def test_what_the_lost_host_says_later_does_not_count(world: World) -> None:
    claim = run(world)
    lose(world, silence(world))
    as_before = world.records.record("j1")
    with pytest.raises(errors.Fenced):
        world.records.finish(Holding("j1", HOST, claim.fence), State.SUCCEEDED, RECEIPT)
    with pytest.raises(errors.Fenced):
        world.records.update(Holding("j1", HOST, claim.fence, QUEUE), {"attempt": 1})
    assert world.records.record("j1") == as_before


def test_a_host_that_was_heard_again_keeps_its_jobs(world: World) -> None:
    run(world)
    host_silence = silence(world)
    beat(world)
    as_before = world.records.record("j1")
    assert lose(world, host_silence) is Takeover.KEPT
    assert world.hosts.bury(host_silence) is False
    assert world.records.record("j1") == as_before
    assert world.owned(HOST) == {"j1"}


def test_a_job_that_has_changed_since_it_was_read_is_left_for_later(world: World) -> None:
    run(world)
    host_silence = silence(world)
    record = {**world.hosts.jobs(HOST)["j1"], "fence": "7"}
    assert world.hosts.lose("j1", host_silence, to_host=JUDGE, record=record, loss=loss()) is Takeover.KEPT
    assert world.owned(HOST) == {"j1"}


def test_a_job_that_had_ended_is_the_judges_to_report(world: World) -> None:
    claim = run(world)
    world.records.finish(Holding("j1", HOST, claim.fence), State.SUCCEEDED, RECEIPT)
    as_before = world.records.record("j1")
    queued = world.queued()
    assert lose(world, silence(world), ends=True) is Takeover.ENDED
    assert world.records.record("j1") == {**as_before, "owner": JUDGE}
    assert (world.owned(HOST), world.owned(JUDGE)) == (set(), {"j1"})
    assert world.queued() == queued, "it must not run again"
    claim = world.records.claim("j1", host=JUDGE, queue=QUEUE, envelope=envelope())
    assert (claim.verdict, claim.receipt) == (Verdict.REPORT, RECEIPT)
    assert world.records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope()).verdict is Verdict.DROP


def test_a_job_that_was_cancelled_is_left_to_be_ended(world: World) -> None:
    run(world)
    world.records.cancel("j1", reason="not wanted")
    queued = world.queued()
    assert lose(world, silence(world)) is Takeover.CANCELLED
    record = world.records.record("j1")
    assert (record["state"], record["owner"], record["cancel_reason"]) == ("queued", "", "not wanted")
    assert "cancel_cause" not in record
    assert world.cancelling() == {"j1"}
    assert world.queued() == queued


def test_a_job_that_ends_with_its_host(world: World) -> None:
    run(world)
    queued = world.queued()
    assert lose(world, silence(world), ends=True) is Takeover.LOST
    record = world.records.record("j1")
    assert (record["state"], record["owner"], record["cancel_cause"]) == ("queued", "", "lost")
    assert record["cancel_reason"] == "its host node1 was silent for 600 s"
    assert json.loads(record["attempts"]) == [{"attempt": 1}]
    assert world.cancelling() == {"j1"}
    assert world.queued() == queued
    taken = world.records.claim("j1", host=JUDGE, queue=QUEUE, envelope=envelope())
    assert taken.end_request == EndRequest(Cause.LOST, "its host node1 was silent for 600 s")


def test_a_job_that_is_not_the_hosts_any_more(world: World) -> None:
    """Losing it twice is the same as once, and a record that Redis has lost is nobody's."""
    run(world)
    run(world, job_id="j2")
    host_silence = silence(world)
    world.lose("j2")
    assert lose(world, host_silence) is Takeover.QUEUED
    queued = world.queued()
    assert lose(world, host_silence) is Takeover.FOREIGN
    assert lose(world, host_silence, job_id="j2") is Takeover.FOREIGN
    assert world.owned(HOST) == set()
    assert world.queued() == queued


def test_a_host_whose_jobs_are_no_set_is_lost_like_any_other(redis_server: servers.RedisServer) -> None:
    """A takeover that stops at it would leave the jobs of all that come after it where they are."""
    world = RedisWorld(redis_server)
    host_silence = silence(world)
    with redis_server.client() as client:
        client.set(keys.host_jobs(HOST), "no set")
    assert world.hosts.jobs(HOST) == {}
    assert world.hosts.bury(host_silence) is True
    world.close()


@pytest.mark.parametrize("damaged", [keys.host_sources(HOST), keys.taken(HOST, QUEUE), QUEUE])
def test_a_host_whose_other_keys_hold_anything_is_in_nobodys_way(
    damaged: str, redis_server: servers.RedisServer
) -> None:
    world = RedisWorld(redis_server)
    world.take(HOST, QUEUE, ["a"])
    world.take(HOST, "other", ["x"])
    with redis_server.client() as client:
        client.set(damaged, "anything")
        is_kept = damaged == QUEUE
        assert world.hosts.bury(silence(world)) is not is_kept, "what belongs into a queue stays until it can go there"
        if is_kept:
            client.delete(QUEUE)
            assert world.hosts.bury(silence(world)) is True
    assert world.queued() == (["a"] if is_kept else [])
    assert world.queued("other") == ([] if damaged == keys.host_sources(HOST) else ["x"])
    world.close()


@pytest.mark.parametrize("damaged", [keys.host_sources(HOST), keys.taken(HOST, QUEUE), QUEUE])
def test_a_host_that_connects_again_takes_whatever_its_keys_hold(
    damaged: str, redis_server: servers.RedisServer
) -> None:
    world = RedisWorld(redis_server)
    with redis_server.client() as client:
        client.set(damaged, "anything")
        client.lpush("other", "x")
    call = taking.take_call(
        HOST, [QUEUE, "other"], admission.free_room(admission.UNBOUNDED, admission.Use()), is_new=True
    )
    assert world.records.link.call("take", *call) == ["other", "x"]
    world.close()


def test_a_host_that_was_lost_and_goes_on_with_its_connection_loses_no_message(
    redis_server: servers.RedisServer,
) -> None:
    """Its machine stood still for a while: it takes a message, and is gone before the claim."""
    world = RedisWorld(redis_server)
    rooms = admission.free_room(admission.UNBOUNDED, admission.Use())
    first, later = (taking.take_call(HOST, [QUEUE], rooms, is_new=is_new) for is_new in (True, False))
    world.records.link.call("take", *first)
    assert world.hosts.bury(silence(world)) is True
    with redis_server.client() as client:
        client.lpush(QUEUE, "a")
    assert world.records.link.call("take", *later) == [QUEUE, "a"]
    assert world.hosts.leave(HOST) is False
    assert world.hosts.bury(silence(world)) is True
    assert world.queued() == ["a"]
    world.close()


def test_a_job_without_a_fence_keeps_no_host_from_being_lost(redis_server: servers.RedisServer) -> None:
    world = RedisWorld(redis_server)
    run(world)
    with redis_server.client() as client:
        client.hdel(keys.job("j1"), "fence")
    host_silence = silence(world)
    assert lose(world, host_silence) is Takeover.QUEUED
    assert world.hosts.bury(host_silence) is True
    world.close()


# The end of a host


def test_a_host_is_lost_only_without_jobs(world: World) -> None:
    run(world)
    host_silence = silence(world)
    assert world.hosts.bury(host_silence) is False
    lose(world, host_silence)
    assert world.hosts.bury(host_silence) is True
    assert world.hosts.silent(now=host_silence.heard_at + 1000, for_s=900) == []


def test_a_lost_host_is_remembered(world: World) -> None:
    host_silence = silence(world)
    world.hosts.bury(host_silence)
    lost = next(row for row in world.workers() if row.host == HOST)
    assert (lost.lost, lost.about, lost.jobs) == (True, ABOUT, 0)
    assert lost.heard_s == pytest.approx(600, abs=5)
    kept_for_s = world.kept_for_s(HOST)
    assert kept_for_s is not None
    assert hosts.REMEMBERED_S - 10 < kept_for_s <= hosts.REMEMBERED_S


def test_a_lost_host_is_not_remembered_for_ever(world: World) -> None:
    """Where machines come and go, names would pile up."""
    beat(world, OTHER)
    world.age(OTHER, hosts.REMEMBERED_S + 700)
    (old,) = world.hosts.silent(now=beat(world, JUDGE).now, for_s=600)
    world.hosts.bury(old)
    world.hosts.bury(silence(world))
    assert [row.host for row in world.workers()] == [HOST, JUDGE]


def test_a_lost_host_that_is_heard_again_is_one_like_any_other(world: World) -> None:
    host_silence = silence(world)
    world.hosts.bury(host_silence)
    assert beat(world).before is None
    assert [(row.host, row.lost) for row in world.workers()] == [(HOST, False), (JUDGE, False)]
    assert world.kept_for_s(HOST) is None


def test_a_lost_host_that_takes_something_can_be_lost_again(world: World) -> None:
    """It came back, took a job or a message, and was gone before its next heartbeat."""
    for host in (HOST, OTHER, "idle"):
        beat(world, host)
        world.age(host, 700)
    now = beat(world, JUDGE).now
    for host_silence in world.hosts.silent(now=now, for_s=600):
        assert world.hosts.bury(host_silence)
    run(world)
    world.take(OTHER, QUEUE, ["a"])
    world.hosts.recall(now=now)
    world.hosts.recall(now=now + 50)
    assert world.hosts.silent(now=now + 500, for_s=600) == [], "it has the full time to be heard"
    assert [silence.host for silence in world.hosts.silent(now=now + 600, for_s=600)] == [HOST, JUDGE, OTHER]
    assert [row.host for row in world.workers() if not row.lost] == [HOST, JUDGE, OTHER]
    assert [row.host for row in world.workers() if row.lost] == ["idle"]


def test_the_messages_that_it_took_are_the_next_to_be_taken(world: World) -> None:
    """kombu reads a list at its right end; the host had taken `a` before `b`."""
    world.take(HOST, QUEUE, ["a", "b"])
    world.take(HOST, "other", ["x"])
    world.records.submit([jobrecord.New("j1", QUEUE, envelope(), {})])
    world.hosts.bury(silence(world))
    assert world.queued()[-2:] == ["b", "a"]
    assert len(world.queued()) == 3
    assert world.queued("other") == ["x"]
    beat(world)
    assert world.hosts.leave(HOST) is True, "nothing is left in its hand"


# Looking


def test_the_owners_of_jobs(world: World) -> None:
    claim = run(world)
    world.records.submit([jobrecord.New("queued", QUEUE, envelope("queued"), {})])
    world.records.cancel("forgotten", reason="not wanted")
    rows = world.hosts.ownerships(["j1", "queued", "forgotten", "nobody"], host=HOST)
    assert {job_id: row and (row.owner, row.fence) for job_id, row in rows.items()} == {
        "j1": (HOST, claim.fence),
        "queued": ("", 0),
        "forgotten": ("", None),
        "nobody": None,
    }
    assert world.hosts.ownerships([], host=HOST) == {}


def test_the_hosts_that_are_known(world: World) -> None:
    beat(world, OTHER)
    beat(world, HOST)
    world.age(OTHER, 40)
    run(world)
    first, second = world.workers()
    assert (first.host, first.about, first.jobs, first.lost) == (HOST, ABOUT, 1, False)
    assert (second.host, second.jobs) == (OTHER, 0)
    assert first.heard_s < second.heard_s
    assert second.heard_s == pytest.approx(40, abs=5)


def test_a_redis_that_is_away() -> None:
    server = servers.free_port()
    away = hosts.HostStore(jobstore.connect(f"redis://127.0.0.1:{server}/0").link)
    with pytest.raises(errors.StoreAway):
        away.beat(HOST, machine=MACHINE, about=ABOUT)
    with pytest.raises(errors.StoreAway):
        away.silent(now=0, for_s=1)
    with pytest.raises(errors.StoreAway):
        away.ownerships(["j1"], host=HOST)
