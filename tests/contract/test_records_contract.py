"""What the job records promise: the same suite on the fake and on the store over a real Redis."""

from __future__ import annotations

import base64
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import celery
import pytest
import redis

from celery_docker import errors, keys, message, ports, store, upkeep
from celery_docker.lifecycle import Cause, State, Tally
from celery_docker.node import Housekeeping
from celery_docker.store import Claim, Verdict
from tests import services
from tests.fakes_records import FakeRecords

HOST, OTHER = "node1", "node2"
QUEUE = "celery"
RECEIPT: dict[str, Any] = {
    "id": "j1",
    "state": "succeeded",
    "output": "äöü\n",
    "exit_code": 0,
    "attempts": [{"attempt": 1}],
}
LATE = 1e12
LATER: dict[str, Any] = {"id": "j1", "state": "error", "output": "", "exit_code": None, "attempts": []}


class Records(ports.Records, Protocol):
    """All that is asked of the records, by the runner and the submitter."""

    def submit(self, jobs: Sequence[store.New]) -> list[bool]: ...
    def begin_batch(self, batch_id: str, values: Mapping[str, str | int]) -> None: ...
    def record(self, job_id: str) -> dict[str, str]: ...


class World(Protocol):
    """The records under test, and a look at what they left behind."""

    @property
    def records(self) -> Records: ...
    @property
    def upkeep(self) -> Housekeeping: ...
    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]: ...
    def owned(self, host: str) -> set[str]: ...
    def delayed(self) -> dict[str, float]: ...
    def indexed(self) -> set[str]: ...
    def kept_for_s(self, job_id: str) -> int | None: ...
    def lose(self, job_id: str) -> None: ...
    def lose_everything(self) -> None: ...
    def empty(self) -> None: ...
    def hand_over(self, host: str, taken: store.Taken) -> None: ...
    def taken(self, host: str) -> list[bytes]: ...


class FakeWorld:
    def __init__(self) -> None:
        self.upkeep = self.records = FakeRecords()

    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self.records.queues.get(queue, [])]

    def owned(self, host: str) -> set[str]:
        return set(self.records.in_hand.get(host, set()))

    def delayed(self) -> dict[str, float]:
        return dict(self.records.delayed)

    def indexed(self) -> set[str]:
        return set(self.records.index)

    def kept_for_s(self, job_id: str) -> int | None:
        return self.records.expiry.get(job_id)

    def lose(self, job_id: str) -> None:
        del self.records.jobs[job_id]

    def lose_everything(self) -> None:
        self.records.jobs.clear()
        self.records.index.clear()
        self.records.in_hand.clear()
        self.records.delayed.clear()
        self.records.queues.clear()

    def empty(self) -> None:
        self.records.queues.clear()

    def hand_over(self, host: str, taken: store.Taken) -> None:
        self.records.taken.setdefault(host, []).append(taken)

    def taken(self, host: str) -> list[bytes]:
        return [taken.text for taken in self.records.taken.get(host, [])]


class RedisWorld:
    def __init__(self, server: services.RedisServer) -> None:
        self.records = store.connect(server.url)
        self.upkeep = upkeep.Upkeep(self.records.link)
        self._client: Any = server.client(decode_responses=True)

    def queued(self, queue: str = QUEUE) -> list[dict[str, Any]]:
        return [json.loads(text) for text in self._client.lrange(queue, 0, -1)]

    def owned(self, host: str) -> set[str]:
        return set(self._client.smembers(keys.host_jobs(host)))

    def delayed(self) -> dict[str, float]:
        return dict(self._client.zrange(keys.DELAYED, 0, -1, withscores=True))

    def indexed(self) -> set[str]:
        return set(self._client.zrange(keys.INDEX, 0, -1))

    def kept_for_s(self, job_id: str) -> int | None:
        seconds = int(self._client.ttl(keys.job(job_id)))
        return None if seconds < 0 else seconds

    def lose(self, job_id: str) -> None:
        self._client.delete(keys.job(job_id))

    def lose_everything(self) -> None:
        self._client.flushdb()

    def empty(self) -> None:
        self._client.delete(QUEUE)

    def hand_over(self, host: str, taken: store.Taken) -> None:
        self._client.lpush(keys.taken(host, taken.source), taken.text)

    def taken(self, host: str) -> list[bytes]:
        return [text.encode() for text in self._client.lrange(keys.taken(host, QUEUE), 0, -1)]

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


@pytest.fixture
def records(world: World) -> Records:
    return world.records


def envelope(tag: str = "t1", job_id: str = "j1") -> dict[str, Any]:
    return message.task_message(job_id, {"image": "busybox"}, queue=QUEUE, tag=tag, origin="1@here")


def submit(records: Records, job_id: str = "j1") -> bool:
    (is_new,) = records.submit([store.New(job_id, QUEUE, envelope(job_id=job_id), {"image": "busybox"})])
    return is_new


def claim(records: Records, host: str = HOST, job_id: str = "j1") -> Claim:
    return records.claim(job_id, host=host, queue=QUEUE, envelope=envelope())


def new(job_id: str, **options: Any) -> store.New:
    return store.New(job_id, QUEUE, envelope(job_id=job_id), {"image": "busybox"}, **options)


def end(records: Records, job_id: str, state: State = State.SUCCEEDED) -> None:
    """Claim a job and end it, as the worker does with one that runs and with one that is not to run."""
    fence = claim(records, job_id=job_id).fence
    records.finish(job_id, host=HOST, fence=fence, state=state, receipt={**RECEIPT, "id": job_id, "state": state.value})


def published(world: World) -> list[str]:
    """Return the ids of the messages in the queue, the next one first."""
    return [message["headers"]["id"] for message in reversed(world.queued())]


def finish(records: Records, fence: int, host: str = HOST, receipt: Mapping[str, Any] = RECEIPT) -> None:
    records.finish("j1", host=host, fence=fence, state=State(receipt["state"]), receipt=receipt)


def requeue(records: Records, fence: int, host: str = HOST, delay_s: float = 60.0, exits: int = 1) -> None:
    records.requeue(
        "j1",
        host=host,
        fence=fence,
        delay_s=delay_s,
        queue=QUEUE,
        envelope=envelope("t2"),
        tally=Tally(exits, 2),
        attempts=({"attempt": 1, "host": host},),
    )


def update(records: Records, fence: int, host: str = HOST) -> None:
    values: dict[str, str | int | float] = {"state": "running", "container_id": "c" * 64, "pid": 7}
    records.update("j1", host=host, fence=fence, queue=QUEUE, envelope=envelope(), values=values)


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


def test_an_unknown_job_has_an_empty_record(records: Records) -> None:
    assert records.record("nobody") == {}


# Whose a job is


def stances(records: Records, host: str = HOST) -> list[tuple[str, str, bool, bool] | None]:
    """Return state, owner, whether it has ended and whether the host has it in hand, of `j1`."""
    seen = records.stance(["j1"], host=host)
    return [(one.state, one.owner, one.has_ended, one.in_hand) if one else None for one in seen]


def test_the_stance_of_a_job_from_its_queue_to_its_end(records: Records) -> None:
    assert stances(records) == [None]
    submit(records)
    assert stances(records) == [("queued", "", False, False)]
    fence = claim(records).fence
    assert stances(records) == [("starting", HOST, False, True)]
    assert stances(records, OTHER) == [("starting", HOST, False, False)]
    update(records, fence)
    assert stances(records) == [("running", HOST, False, True)]
    finish(records, fence)
    assert stances(records) == [("succeeded", HOST, True, True)]
    records.settle("j1", host=HOST, retention_s=60)
    assert stances(records) == [("succeeded", HOST, True, False)]


def test_the_stance_of_a_job_that_was_given_back(records: Records) -> None:
    requeue(records, claim(records).fence)
    assert stances(records) == [("queued", "", False, False)]
    (seen,) = records.stance(["j1"], host=HOST)
    assert seen is not None
    assert seen.envelope == envelope("t2")


def test_stances_come_in_the_order_of_the_question(records: Records) -> None:
    submit(records)
    claim(records, job_id="j2")
    seen = records.stance(["j2", "nobody", "j1"], host=HOST)
    assert [one and one.state for one in seen] == ["starting", None, "queued"]
    assert records.stance([], host=HOST) == []


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
        assert world.upkeep.publish_due(LATE) == 1


def test_a_claim_brings_what_earlier_attempts_left(world: World, records: Records) -> None:
    submit(records)
    requeue(records, claim(records).fence)
    world.upkeep.publish_due(LATE)
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
    world.upkeep.publish_due(LATE)
    second = claim(records, OTHER)
    requeue(records, second.fence, OTHER)
    world.upkeep.publish_due(LATE)
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


# Retries


def test_requeue_gives_the_job_back(world: World, records: Records) -> None:
    before = world.upkeep.now()
    requeue(records, claim(records).fence, delay_s=1234.5)
    record = records.record("j1")
    assert record["state"] == "queued"
    assert (record["exits"], record["host_faults"]) == ("1", "2")
    assert before + 1233 < world.delayed()["j1"] <= world.upkeep.now() + 1234.5
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
    world.upkeep.publish_due(LATE)
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
    assert world.upkeep.publish_due(world.delayed()["j1"] + after_s) == published
    assert world.queued() == [envelope("t2")] * published
    assert ("j1" in world.delayed()) is not bool(published)


def test_publishing_twice_publishes_once(world: World, records: Records) -> None:
    """Every worker does it, all the time."""
    requeue(records, claim(records).fence)
    assert [world.upkeep.publish_due(LATE) for _ in range(3)] == [1, 0, 0]
    assert len(world.queued()) == 1


def test_workers_that_publish_at_once_publish_once(world: World, records: Records) -> None:
    requeue(records, claim(records).fence)
    barrier = threading.Barrier(8)

    def race(_number: int) -> int:
        barrier.wait(10)
        return world.upkeep.publish_due(LATE)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
    assert len(world.queued()) == 1


def test_the_message_goes_back_to_the_queue_it_came_from(world: World, records: Records) -> None:
    key = message.queue_key("night", 6)
    got = records.claim("j1", host=HOST, queue=key, envelope=envelope())
    records.requeue(
        "j1",
        host=HOST,
        fence=got.fence,
        delay_s=0.0,
        queue=key,
        envelope=envelope("t2"),
        tally=Tally(),
        attempts=(),
    )
    world.upkeep.publish_due(LATE)
    assert world.queued(key) == [envelope("t2")]
    assert world.queued() == []


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
    assert world.upkeep.publish_due(LATE) == 1
    assert world.queued() == [envelope("t2")]
    got = claim(records, OTHER)
    assert (got.verdict, got.tally) == (Verdict.RUN, Tally(1, 2))
    assert got.fence > fence, "the old owner must not be taken for the new one"
    assert got.attempt == 2, "a first attempt would empty the log files, and harvest the container of the real one"


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
    assert world.upkeep.publish_due(LATE) == 0
    assert world.queued() == []
    assert world.delayed() == {}


# Times: not before, not after


def test_a_message_with_a_time_of_its_own_waits_for_it_in_the_records(world: World, records: Records) -> None:
    at = world.upkeep.now() + 1000
    for _ in range(2):
        got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=store.Term(not_before=at))
        assert got.verdict is Verdict.DROP
    assert world.delayed() == {"j1": pytest.approx(at)}
    assert world.owned(HOST) == set()
    assert world.upkeep.publish_due(at - 1) == 0
    assert world.upkeep.publish_due(at + 1) == 1
    assert world.queued() == [envelope()]
    past = store.Term(not_before=world.upkeep.now() - 1)
    assert records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=past).verdict is Verdict.RUN


def test_a_message_that_comes_too_late_is_claimed_to_be_ended(world: World, records: Records) -> None:
    past = store.Term(not_after=world.upkeep.now() - 1)
    got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=past)
    assert (got.verdict, got.cancel_cause) == (Verdict.RUN, Cause.EXPIRED)
    assert "expired" in str(got.cancel_reason)


def test_a_job_that_has_not_started_in_time_is_marked(world: World, records: Records) -> None:
    records.submit([store.New("j1", QUEUE, envelope(), {}, expires_s=100)])
    now = world.upkeep.now()
    assert world.upkeep.expire_due(now + 50) == 0
    assert [world.upkeep.expire_due(now + 200) for _ in range(2)] == [1, 0]
    (marked,) = world.upkeep.cancelling()
    assert (marked.job_id, marked.state, marked.cause) == ("j1", "queued", "expired")
    got = claim(records)
    assert (got.verdict, got.cancel_cause) == (Verdict.RUN, Cause.EXPIRED)


def test_a_job_that_has_started_in_time_does_not_expire(world: World, records: Records) -> None:
    records.submit([store.New("j1", QUEUE, envelope(), {}, expires_s=100)])
    requeue(records, claim(records).fence)
    assert world.upkeep.expire_due(LATE) == 0
    assert world.upkeep.publish_due(LATE) == 1
    assert claim(records).cancel_reason is None


def test_a_job_that_waits_for_its_time_can_expire(world: World, records: Records) -> None:
    now = world.upkeep.now()
    term = store.Term(not_before=now + 1000, not_after=now + 500)
    records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), term=term)
    assert world.upkeep.expire_due(now + 600) == 1
    assert world.delayed() == {}
    assert claim(records).cancel_cause is Cause.EXPIRED


# Messages that went missing


def test_a_job_whose_message_is_in_no_list_is_published_again(world: World, records: Records) -> None:
    for job_id in ("j1", "j2", "j3"):
        submit(records, job_id)
    claim(records, job_id="j3")
    world.empty()
    assert world.upkeep.republish(world.upkeep.now() - 60) == 0, "it may be on its way"
    assert world.upkeep.republish(LATE) == 2
    assert len(world.queued()) == 2
    assert world.upkeep.republish(LATE) == 0


def test_a_job_whose_message_is_in_its_list_is_left_alone(world: World, records: Records) -> None:
    submit(records)
    assert world.upkeep.republish(LATE) == 0
    assert len(world.queued()) == 1


def test_a_job_that_waits_for_its_retry_is_not_missing(world: World, records: Records) -> None:
    submit(records)
    requeue(records, claim(records).fence)
    world.empty()
    assert world.upkeep.republish(LATE) == 0
    assert world.upkeep.publish_due(LATE) == 1
    world.empty()
    assert world.upkeep.republish(LATE) == 1


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
    for job_id, other, how in (("j2", "j1", state), ("j3", "j2", State.CANCELLED)):
        (marked,) = world.upkeep.cancelling()
        reason = f"job {other}, after which it was to run, ended as {how.value}"
        assert (marked.job_id, marked.reason, marked.cause) == (job_id, reason, "cancelled")
        end(records, job_id, State.CANCELLED)
    assert list(world.upkeep.cancelling()) == []
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
    assert world.upkeep.republish(LATE) == 1
    assert published(world) == ["j1"]


def test_a_job_that_waits_for_another_can_be_cancelled(world: World, records: Records) -> None:
    """What it waits for then changes nothing any more."""
    records.submit([new("j1"), new("j2", after=("j1",))])
    assert records.cancel("j2", reason="enough") == "queued"
    assert claim(records, job_id="j2").cancel_reason == "enough"
    end(records, "j1")
    assert published(world) == ["j1"]
    assert records.record("j2")["state"] == "starting"


def test_a_job_that_waits_for_another_can_expire(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2", after=("j1",), expires_s=60)])
    assert world.upkeep.expire_due(LATE) == 1
    (marked,) = world.upkeep.cancelling()
    assert marked.cause == "expired"
    assert marked.reason == "the jobs after which it was to run had not succeeded before it expired"


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
    assert world.upkeep.republish(LATE) == 1
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


# Messages on their way


def test_the_claim_takes_the_message_off_the_hosts_list(world: World, records: Records) -> None:
    taken = store.Taken(QUEUE, json.dumps(envelope()).encode())
    for verdict in (Verdict.RUN, Verdict.ADOPT):
        world.hand_over(HOST, taken)
        got = records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), taken=taken)
        assert got.verdict is verdict
        assert world.taken(HOST) == []


# The index


def test_index_entries_are_dropped_once_their_records_have_expired(records: Records, world: World) -> None:
    for job_id in ("j1", "j2"):
        submit(records, job_id)
    world.lose("j1")
    assert world.upkeep.forget_expired(time.time() - 60) == 0, "too young to look at"
    assert world.upkeep.forget_expired(time.time() + 60) == 1
    assert world.indexed() == {"j2"}
    assert world.upkeep.forget_expired(time.time() + 60) == 0


# Only the real store: what can go wrong with a server


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[services.RedisServer]:
    """A server that the test may stop, with a password."""
    request.getfixturevalue("redis_server")
    with services.RedisServer({"requirepass": "geheim"}) as server:
        yield server


def opened(url: str) -> store.Store:
    return store.connect(url)


def test_check_is_content_with_a_server_that_lets_us_in(own_server: services.RedisServer) -> None:
    records = opened(own_server.url)
    records.check()
    assert submit(records) is True
    records.close()


def test_a_server_that_is_gone_is_away_and_may_come_back(own_server: services.RedisServer) -> None:
    records = opened(own_server.url)
    submit(records)
    own_server.end()
    for call in (
        records.check,
        lambda: claim(records),
        upkeep.Upkeep(records.link).now,
        lambda: records.record("j1"),
    ):
        with pytest.raises(errors.StoreAway) as caught:
            call()
        assert str(caught.value).startswith(f"cannot reach Redis at redis://:***@127.0.0.1:{own_server.port}/0: ")
        assert len(str(caught.value).splitlines()) == 1
    own_server.start()
    assert claim(records).verdict is Verdict.RUN
    records.close()


@pytest.mark.parametrize("login", [":falsch-geheim@", "", "user:falsch-geheim@"], ids=["wrong", "none", "unknown user"])
def test_a_server_that_does_not_let_us_in_refuses(own_server: services.RedisServer, login: str) -> None:
    """Not the same as away: nothing but another password will help."""
    records = opened(f"redis://{login}127.0.0.1:{own_server.port}/0")
    for call in (records.check, lambda: claim(records), lambda: submit(records)):
        with pytest.raises(errors.StoreRefused) as caught:
            call()
        said = str(caught.value)
        assert f"127.0.0.1:{own_server.port}/0 refuses" in said
        assert "check the user and password in the URL" in said
        assert "geheim" not in said
        assert len(said.splitlines()) == 1
    records.close()


def test_a_user_without_permission_is_refused(own_server: services.RedisServer) -> None:
    with own_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "guest", "on", ">geheim2", "~*", "+ping")
    records = opened(f"redis://guest:geheim2@127.0.0.1:{own_server.port}/0")
    with pytest.raises(errors.StoreRefused) as caught:
        claim(records)
    assert "geheim2" not in str(caught.value)
    records.close()


def test_a_server_without_room_is_away(own_server: services.RedisServer) -> None:
    """It may have room again later; nothing is lost until then."""
    records = opened(own_server.url)
    with own_server.client() as admin:
        admin.config_set("maxmemory", "1")
        with pytest.raises(errors.StoreAway):
            submit(records)
        admin.config_set("maxmemory", "0")
    assert submit(records) is True
    records.close()


def test_a_restarted_server_has_forgotten_the_scripts_and_gets_them_again(own_server: services.RedisServer) -> None:
    records = opened(own_server.url)
    submit(records)
    own_server.restart()
    assert claim(records).verdict is Verdict.RUN
    records.close()


def test_an_option_that_no_client_knows_is_refused(own_server: services.RedisServer) -> None:
    with pytest.raises(errors.StoreRefused) as caught:
        opened(f"{own_server.url}?colour=green").check()
    assert "geheim" not in str(caught.value)


def test_a_message_of_a_real_celery_client_is_what_we_write_ourselves(redis_server: services.RedisServer) -> None:
    """`send_task` of the installed Celery into a real Redis, against our own message for the same job."""
    job_id = str(uuid.uuid4())
    kwargs = {"image": "busybox", "command": ["echo", "äöü"]}
    app = celery.Celery(broker=redis_server.url, set_as_current=False)
    with redis_server.client(decode_responses=True) as client:
        try:
            app.send_task("tasks.run_docker", kwargs=kwargs, task_id=job_id)
            theirs = json.loads(_pop(client, "celery"))
        finally:
            app.close()
            client.flushdb()
    ours = message.task_message(job_id, kwargs, queue="celery", tag="t1", origin="1@here")
    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() == theirs["headers"].keys()
    differing = {name for name, value in theirs["headers"].items() if ours["headers"][name] != value}
    assert differing <= {"origin", "argsrepr", "kwargsrepr"}
    assert ours["properties"].keys() == theirs["properties"].keys()
    differing = {name for name, value in theirs["properties"].items() if ours["properties"][name] != value}
    assert differing <= {"delivery_tag", "reply_to", "delivery_info"}
    assert ours["properties"]["delivery_info"]["routing_key"] == theirs["properties"]["delivery_info"]["routing_key"]
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(theirs["body"]))
    assert {ours["content-type"], ours["content-encoding"]} == {theirs["content-type"], theirs["content-encoding"]}


def _pop(client: redis.Redis, queue: str) -> str:
    popped: Any = client.rpop(queue)
    assert popped is not None
    return str(popped)


# Cancelling


def test_a_queued_job_that_was_cancelled_is_claimed_to_be_ended(records: Records, world: World) -> None:
    submit(records)
    assert records.cancel("j1", reason="not wanted") == "queued"
    (cancelled,) = world.upkeep.cancelling()
    assert (cancelled.job_id, cancelled.state, cancelled.reason) == ("j1", "queued", "not wanted")
    assert cancelled.envelope == envelope()
    answer = claim(records)
    assert (answer.verdict, answer.cancel_reason) == (Verdict.RUN, "not wanted")
    finish(records, answer.fence)
    assert world.upkeep.cancelling() == []


def test_a_job_that_waits_for_its_retry_can_be_cancelled(records: Records, world: World) -> None:
    """It is not published any more, and a claim does not wait for its time."""
    requeue(records, claim(records).fence, delay_s=3600)
    assert records.cancel("j1", reason="not wanted") == "queued"
    assert world.delayed() == {}
    assert claim(records).cancel_reason == "not wanted"


def test_a_job_that_is_given_back_although_it_was_cancelled_does_not_wait(records: Records, world: World) -> None:
    """The mark came while its owner was about to try it again."""
    fence = claim(records).fence
    records.cancel("j1", reason="not wanted")
    requeue(records, fence, delay_s=3600)
    answer = claim(records)
    assert (answer.verdict, answer.cancel_reason) == (Verdict.RUN, "not wanted")
    assert world.delayed() == {}


def test_a_running_job_keeps_its_owner_and_is_marked(records: Records, world: World) -> None:
    update(records, claim(records).fence)
    assert records.cancel("j1", reason="first") == "running"
    assert records.cancel("j1", reason="second") == "running"
    (cancelled,) = world.upkeep.cancelling()
    assert (cancelled.state, cancelled.reason) == ("running", "first")
    answer = claim(records)
    assert (answer.verdict, answer.cancel_reason) == (Verdict.ADOPT, "first")


def test_a_running_job_is_named_among_thousands_that_wait(records: Records, world: World) -> None:
    """Of the others there are some at a time."""
    update(records, claim(records).fence)
    job_ids = [f"w{number}" for number in range(2 * upkeep.WAITING_AT_ONCE)]
    records.submit([store.New(job_id, QUEUE, envelope(), {}) for job_id in job_ids])
    for job_id in ("j1", *job_ids):
        records.cancel(job_id, reason="not wanted")
    found = world.upkeep.cancelling()
    assert len(found) == 1 + upkeep.WAITING_AT_ONCE
    assert [(one.job_id, one.state) for one in found if one.state != "queued"] == [("j1", "running")]


def test_a_job_that_has_ended_cannot_be_cancelled(records: Records, world: World) -> None:
    finish(records, claim(records).fence)
    assert records.cancel("j1", reason="too late") == "succeeded"
    assert world.upkeep.cancelling() == []


def test_a_job_that_only_its_message_knows_can_be_cancelled(records: Records, world: World) -> None:
    """A plain client wrote no record; when the message comes, the mark is there."""
    assert records.cancel("j1", reason="not wanted") == "unknown"
    assert world.indexed() == {"j1"}
    (cancelled,) = world.upkeep.cancelling()
    assert (cancelled.state, cancelled.envelope) == ("queued", None)
    assert claim(records).cancel_reason == "not wanted"
