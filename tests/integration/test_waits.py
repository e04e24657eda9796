"""The reasons of waits, asked of a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from celery_docker.client import summary, views
from celery_docker.core import admission, message
from celery_docker.core.admission import Needs
from celery_docker.core.jobrecord import Holding, New, Taken
from celery_docker.core.lifecycle import State, Tally
from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.doctor import redisfacts
from celery_docker.store import heads, jobstore, keys, queries
from celery_docker.store.hostqueries import LatestHosts
from celery_docker.store.hosts import HostStore
from celery_docker.store.housekeeping import Housekeeping
from tests import servers

HOST = "node1"
GIB = 2**30
ABOUT = {"queues": ["celery"], "slots": 2, "phase": "serving", "accepting": True, "status": ""}


class Shelf:
    """A store to write with, the reasons to read, and a client to look behind them."""

    def __init__(self, server: servers.RedisServer) -> None:
        self.store = jobstore.connect(server.url)
        self.queries = queries.Queries(self.store.link)
        self.client: Any = server.client(decode_responses=True)

    def submit(self, *job_ids: str, queue: str = "celery", **options: Any) -> None:
        self.store.submit([new(job_id, queue, **options) for job_id in job_ids])

    def beat(self, **about: Any) -> None:
        HostStore(self.store.link).beat(HOST, machine="m", about={**ABOUT, **about})

    def claim(self, job_id: str) -> Holding:
        envelope = message.task_message(job_id, {"image": "busybox"}, queue="celery", tag="t", origin="")
        claim = self.store.claim(job_id, host=HOST, queue="celery", envelope=envelope)
        return Holding(job_id, HOST, claim.fence, "celery", envelope)

    def park(self, *job_ids: str, needs: Needs, queue: str = "celery") -> None:
        """Let a host without room take jobs."""
        for job_id in job_ids:
            envelope = message.task_message(job_id, {"image": "busybox"}, queue=queue, tag="t", origin="")
            taken = Taken(queue, self.client.rpoplpush(queue, keys.taken(HOST, queue)).encode())
            self.store.claim(job_id, host=HOST, queue=queue, envelope=envelope, taken=taken, needs=needs, fits=False)

    def end(self, job_id: str, state: State = State.SUCCEEDED) -> None:
        self.store.finish(self.claim(job_id), state, {"id": job_id, "state": state.value})
        self.store.settle(job_id, host=HOST, retention_s=7200)

    def fail(self, job_id: str, reason: str, delay_s: float) -> None:
        """Let an attempt at a job fail; another one follows."""
        holding = self.claim(job_id)
        attempts = [{"attempt": holding.fence, "host": HOST, "reason": reason}]
        self.store.requeue(holding, delay_s=delay_s, tally=Tally(1, 0), attempts=attempts)

    def wait(self, job_id: str) -> Wait | None:
        rows = self.queries.jobs.rows([job_id])
        return self.queries.waits.of(rows).get(job_id)

    def reason(self, job_id: str) -> str | None:
        wait = self.wait(job_id)
        return None if wait is None else wait.reason


@pytest.fixture
def shelf(redis_server: servers.RedisServer) -> Iterator[Shelf]:
    shelf = Shelf(redis_server)
    yield shelf
    shelf.client.flushdb()
    shelf.client.close()
    shelf.store.close()


def new(job_id: str, queue: str = "celery", priority: int = 0, **options: Any) -> New:
    envelope = message.task_message(
        job_id, {"image": "busybox"}, queue=queue, tag=job_id, origin="1@here", priority=priority
    )
    return New(job_id, message.queue_key(queue, priority), envelope, {"image": "busybox"}, **options)


def test_the_place_of_a_job_that_its_share_holds_back(shelf: Shelf) -> None:
    """It counts before the time at which it is looked at again; where the line is lost, there is no place to tell."""
    shelf.beat()
    shelf.client.hset(keys.WINDOWS, "celery", 2)
    for job_id in ("j1", "j2", "j3", "j4"):
        shelf.submit(job_id, about={"share": "celery 1000", "submitted_by": "alice@node1"})
    assert shelf.reason("j3") == "held back: alice has 2 jobs queued or running, it is the next"
    wait = shelf.wait("j4")
    assert wait is not None
    assert (wait.kind, wait.jobs_before, wait.next_try_at) == (WaitKind.SHARE, 1, None)
    shelf.fail("j1", "exit code 1", 0)
    Housekeeping(shelf.store.link).publish_due(9e9)
    assert (shelf.reason("j1") or "").startswith(
        "attempt 1 failed: exit code 1; attempt 2: held back: alice has 2 jobs"
    )
    shelf.client.delete(keys.share_held("celery 1000"))
    assert shelf.reason("j4") == "held back: alice has 2 jobs queued or running"


def test_who_would_take_it(shelf: Shelf) -> None:
    shelf.submit("j1")
    shelf.submit("j2", queue="night")
    assert shelf.reason("j1") == "no worker is alive"
    shelf.beat()
    assert (shelf.reason("j1"), shelf.reason("j2")) == ("it is next", "no worker serves the queue 'night'")
    shelf.store.drain(HOST, "alice@node1: a new disk")
    assert shelf.reason("j1") == "node1 takes no jobs: drained by alice@node1: a new disk"
    shelf.store.resume(HOST)
    shelf.beat(queues=[])
    assert shelf.reason("j1") == "no worker serves the queue 'celery'"
    shelf.client.zadd(keys.HOSTS, {HOST: time.time() - 100})
    assert shelf.reason("j1") == "no worker is alive"


def test_the_place_in_the_queue(shelf: Shelf) -> None:
    """Of a queue with priorities, and by the slots that are free now."""
    shelf.beat()
    shelf.submit("j1", "j2", "j3", "j4")
    shelf.submit("low", priority=9)
    shelf.claim("j1")
    shelf.client.rpop("celery")
    assert shelf.reason("j1") is None
    assert [shelf.reason(job_id) for job_id in ("j2", "j3", "low")] == [
        "it is next",
        "1 job before it",
        "3 jobs before it",
    ]
    shelf.claim("j2")
    shelf.client.rpop("celery")
    assert shelf.reason("j3") == "no free slot; it is next"
    wait = shelf.wait("low")
    assert (wait and wait.jobs_before) == 2


def test_jobs_that_are_to_end_hold_nobody_up(shelf: Shelf) -> None:
    shelf.beat(slots=0)
    shelf.submit("j1", "j2", "j3")
    shelf.store.cancel("j1", reason="cancelled by alice")
    # Whatever lies under the key of a record.
    shelf.client.set(keys.job("j2"), "no record")
    assert shelf.reason("j3") == "no free slot; 1 job before it"


def test_a_message_that_a_host_has_just_taken(shelf: Shelf) -> None:
    shelf.beat()
    shelf.submit("j1")
    shelf.client.rpop("celery")
    assert shelf.reason("j1") == "on its way to a host"


def test_places_far_behind_are_not_counted(shelf: Shelf) -> None:
    """A listing looks at the first messages only, whatever lies among them."""
    shelf.beat(slots=0)
    shelf.submit(*(f"j{number:04}" for number in range(heads.PLACES + 5)))
    shelf.client.rpush("celery", "nobody knows what", '{"headers": {"task": "other"}}')
    assert shelf.reason("j0000") == "no free slot; 2 jobs before it"
    assert shelf.reason("j0997") == "no free slot; 999 jobs before it"
    assert shelf.reason("j0998") == "no free slot; at least 1,000 jobs before it"


def test_a_head_that_is_kept_is_told_while_it_is_true(shelf: Shelf) -> None:
    """To jobs that were there when it was read, for a second; for those that came since it is read anew."""
    now_s = [0.0]
    kept = heads.Heads(shelf.store.link, 1.0, lambda: now_s[0])
    shelf.queries, housekeeping = queries.Queries(shelf.store.link, heads=kept), Housekeeping(shelf.store.link)
    shelf.beat(slots=9)
    shelf.submit("j1", "j2", "j3")
    assert shelf.reason("j3") == "2 jobs before it"
    shelf.client.rpop("celery")
    shelf.fail("j1", "exit code 1", delay_s=0)
    assert shelf.reason("j3") == "2 jobs before it"
    now_s[0] = 1.0
    assert shelf.reason("j3") == "1 job before it"
    # Its message is behind those of the others by now.
    assert housekeeping.publish_due(housekeeping.now()) == 1
    assert shelf.reason("j1") == "attempt 1 failed: exit code 1; attempt 2: 2 jobs before it"
    shelf.submit("low", priority=9)
    assert shelf.reason("low") == "3 jobs before it"
    shelf.submit("j4")
    assert [shelf.reason(job_id) for job_id in ("low", "j4", "low")] == [
        "3 jobs before it",
        "3 jobs before it",
        "4 jobs before it",
    ]
    # Nobody knows since when it is there.
    shelf.client.zrem(keys.WAITING, "j2")
    shelf.client.lrem("celery", 1, shelf.client.lindex("celery", 0))
    assert (shelf.reason("j2"), shelf.reason("low")) == ("it is next", "3 jobs before it")


def test_hosts_that_are_kept_are_told_for_a_moment(shelf: Shelf) -> None:
    now_s = [0.0]
    latest = LatestHosts(shelf.store.link, 0.2, lambda: now_s[0])
    shelf.queries = queries.Queries(shelf.store.link, latest=latest)
    shelf.submit("j1")
    assert shelf.reason("j1") == "no worker is alive"
    shelf.beat()
    now_s[0] = 0.19
    assert shelf.reason("j1") == "no worker is alive"
    now_s[0] = 0.2
    assert shelf.reason("j1") == "it is next"
    before = shelf.client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert [shelf.reason("j1") for _ in range(5)] == ["it is next"] * 5
    # A job's row and its queue are read each time, the hosts no more.
    assert shelf.client.info("commandstats")["cmdstat_evalsha"]["calls"] == before + 10


def test_as_many_heads_are_kept_as_memory_allows(shelf: Shelf) -> None:
    kept = heads.Heads(shelf.store.link, 1.0, lambda: 0.0)
    for number in range(3 * heads._MOST_KEPT):
        assert kept.of(f"q{number}", None).is_all
        assert f"q{number}" in kept._kept
        assert len(kept._kept) <= heads._MOST_KEPT + 1


def test_large_messages_are_not_looked_through(shelf: Shelf) -> None:
    shelf.beat(slots=0)
    shelf.submit("j1")
    shelf.client.rpush("celery", *[json.dumps({"body": "x" * 2**20, "headers": {"id": "big"}})] * 10)
    assert shelf.reason("j1") == "no free slot; at least 4 jobs before it"


def test_the_message_of_another_client_has_a_place(shelf: Shelf) -> None:
    """Its JSON has blanks where ours has none."""
    shelf.beat(slots=0)
    envelope = message.task_message("other", {"image": "busybox"}, queue="celery", tag="t", origin="")
    shelf.client.lpush("celery", json.dumps(envelope))
    shelf.submit("j1")
    assert shelf.reason("j1") == "no free slot; 1 job before it"


def test_the_pause_before_a_retry_and_its_end(shelf: Shelf) -> None:
    shelf.beat()
    shelf.submit("j1")
    shelf.client.delete("celery")
    shelf.fail("j1", "exit code 3", delay_s=600)
    wait = shelf.wait("j1")
    assert wait is not None
    assert wait.reason.startswith("attempt 1 failed: exit code 3; attempt 2 in ")
    assert wait.next_try_at == shelf.client.zscore(keys.DELAYED, "j1")
    # A record that does not say why, of whoever wrote it.
    shelf.client.hdel(keys.job("j1"), "attempts")
    assert str(shelf.reason("j1")).startswith("attempt 1 failed; attempt 2 in ")
    shelf.client.zrem(keys.DELAYED, "j1")
    shelf.client.lpush("celery", shelf.client.hget(keys.job("j1"), "message"))
    assert shelf.reason("j1") == "attempt 1 failed; attempt 2: it is next"


def test_a_job_of_a_plain_client_with_a_time_of_its_own(shelf: Shelf) -> None:
    shelf.beat()
    shelf.submit("j1")
    shelf.client.zadd(keys.DELAYED, {"j1": 4102444800})
    assert str(shelf.reason("j1")).startswith("delayed until 2100-01-01T00:00:00Z (in ")


def test_jobs_that_have_to_succeed_first(shelf: Shelf) -> None:
    """The first of them that has not ended is named, where the record says which they are."""
    shelf.submit("j1", "j2", "j3")
    after = ("j1", "j2", "j3")
    shelf.submit("j4", after=after, about={"after": json.dumps(after)})
    shelf.submit("j5", after=after)
    assert (shelf.reason("j4"), shelf.reason("j5")) == ("waits for job j1 and 2 more", "waits for 3 jobs")
    shelf.end("j1")
    shelf.end("j2")
    assert (shelf.reason("j4"), shelf.reason("j5")) == ("waits for job j3", "waits for 1 job")
    shelf.end("j3")
    assert shelf.reason("j4") == "no worker is alive"


def test_the_limit_of_a_batch(shelf: Shelf) -> None:
    shelf.beat()
    shelf.store.begin_batch("b1", {"limit": 1})
    shelf.store.submit([new(f"j{number}", batch_id="b1", batch_index=number) for number in (1, 2)])
    assert (shelf.reason("j1"), shelf.reason("j2")) == ("it is next", "held back by its batch's limit")


def test_a_job_that_is_to_end(shelf: Shelf) -> None:
    shelf.beat()
    shelf.submit("j1", "j2")
    shelf.claim("j1")
    shelf.store.cancel_many(["j1", "j2"], reason="cancelled by alice")
    assert (shelf.reason("j1"), shelf.reason("j2")) == (
        "being stopped: cancelled by alice",
        "being ended: cancelled by alice",
    )
    shelf.end("j2", State.CANCELLED)
    assert shelf.reason("j2") is None


def offer(gib: int, free_gib: int = 0) -> dict[str, Any]:
    """Return the part of a report that says what a host has for jobs."""
    return {
        "offer": {"cpus": 4.0, "memory": gib * GIB, "gpus": []},
        "free": {"cpus": 4.0, "memory": free_gib * GIB, "gpus": 0},
    }


def test_a_job_that_is_parked(shelf: Shelf) -> None:
    shelf.beat(**offer(8, 2))
    shelf.submit("j1", "j2", "j3", "j4")
    shelf.park("j1", "j2", needs=Needs(0, 4 * GIB))
    wait = shelf.wait("j2")
    assert wait is not None
    assert (wait.kind, wait.jobs_before) == (WaitKind.ROOM, 1)
    assert wait.reason == "waits for room: needs 4 GiB, node1 has 2 of 8 GiB free; 1 job before it"
    assert shelf.reason("j1") == "waits for room: needs 4 GiB, node1 has 2 of 8 GiB free"
    # Those in the list are not behind them: they may fit.
    assert (shelf.reason("j3"), shelf.reason("j4")) == ("it is next", "1 job before it")
    shelf.park("j3", needs=Needs(2000, 6 * GIB))
    assert shelf.reason("j3") == "waits for room: needs 2 CPUs and 6 GiB, node1 has 2 of 8 GiB free"
    rows = shelf.queries.jobs.rows(["j1", "j2", "j3", "j4"])
    assert [wait.kind for wait in shelf.queries.waits.of(rows).values()] == [WaitKind.ROOM] * 3 + [WaitKind.SLOT]
    assert shelf.claim("j1").fence == 1
    assert (shelf.reason("j1"), shelf.wait("j2")) == (None, replace(wait, reason=wait.reason[:-17], jobs_before=0))


def test_a_parked_job_whose_group_is_gone_or_damaged(shelf: Shelf) -> None:
    """Until housekeeping publishes it again."""
    shelf.beat(**offer(8))
    shelf.submit("j1", "j2")
    shelf.park("j1", needs=Needs(0, 4 * GIB))
    group = keys.PARKED_GROUP + admission.group("celery", Needs(0, 4 * GIB))
    shelf.client.delete(group)
    assert shelf.reason("j1") == "on its way to a host"
    shelf.client.set(group, "no group")
    assert shelf.reason("j1") == "on its way to a host"
    shelf.client.hset(keys.job("j2"), mapping={"parked_at": "1", "needs": "much"})
    assert shelf.reason("j2") == "it is next"
    shelf.client.delete(keys.PARKED)
    shelf.client.set(keys.PARKED, "no set")
    assert shelf.queries.jobs.queue_lengths(["celery"]) == {"celery": 1}
    assert summary.of(shelf.queries, "celery")["waits"] == {}


def test_thousands_of_parked_jobs(shelf: Shelf) -> None:
    shelf.beat(**offer(8))
    shelf.submit("j1", "j2")
    shelf.park("j1", needs=Needs(0, 4 * GIB))
    group = keys.PARKED_GROUP + admission.group("celery", Needs(0, 4 * GIB))
    shelf.client.zadd(group, {f"x{number:05}": 1 for number in range(1500)})
    reason = "waits for room: needs 4 GiB, node1 has 0 of 8 GiB free; at least 1,000 jobs before it"
    assert shelf.reason("j1") == reason
    assert shelf.queries.jobs.queue_lengths(["celery"]) == {"celery": 1502}


NOWHERE = "no host offers 64 GiB; the largest is node1 with 8 GiB"


def test_a_job_that_no_host_could_hold(shelf: Shelf) -> None:
    """Whether a host has looked at it, or only its record says what it needs; until such a host comes."""
    shelf.beat(**offer(8))
    shelf.submit("j1", "j2", about={"needs": str(Needs(0, 64 * GIB))})
    assert (shelf.reason("j1"), shelf.reason("j2")) == (NOWHERE, NOWHERE)
    shelf.park("j1", needs=Needs(0, 64 * GIB))
    assert (shelf.reason("j1"), shelf.reason("j2")) == (NOWHERE, NOWHERE)
    HostStore(shelf.store.link).beat("node2", machine="m2", about={**ABOUT, **offer(128, 32)})
    assert shelf.reason("j1") == "waits for room: needs 64 GiB, node2 has 32 of 128 GiB free"
    assert shelf.reason("j2") == "it is next"
    # One of an older version does not say.
    HostStore(shelf.store.link).beat("node2", machine="m2", about=ABOUT)
    assert shelf.reason("j1") == "waits for room: needs 64 GiB"
    shelf.store.drain("node2", "alice")
    assert shelf.reason("j1") == "node2 takes no jobs: drained by alice"


def test_the_summary_and_doctor_know_parked_jobs(shelf: Shelf, redis_server: servers.RedisServer) -> None:
    shelf.beat(**offer(8))
    shelf.submit("j1", "j2", "j3", "j4", "j5", "j6")
    shelf.park("j1", "j2", needs=Needs(0, 64 * GIB))
    shelf.park("j3", needs=Needs(0, 4 * GIB))
    # By another door, in a queue that nobody serves.
    shelf.submit("n1", queue="night")
    shelf.park("n1", needs=Needs(0, 64 * GIB), queue="night")
    told = summary.of(shelf.queries, "celery")
    assert told["queues"] == {"celery": 6, "night": 1}
    assert told["jobs"]["queued"] == 7
    assert told["waits"] == {"celery": NOWHERE, "night": "no worker serves the queue 'night'"}
    stuck = redisfacts.gather(redis_server.url).stuck
    assert {(row.name, row.jobs, row.wait.kind) for row in stuck} == {
        ("celery", 2, WaitKind.OFFER),
        ("night", 1, WaitKind.QUEUE),
    }
    shelf.park("j4", needs=Needs(5000, GIB))
    shelf.park("j5", needs=Needs(6000, GIB))
    shelf.park("j6", needs=Needs(7000, GIB))
    told = summary.of(shelf.queries, "celery")
    assert told["waits"]["celery"].endswith("; and 1 more size")
    assert told["waits"]["celery"].count("no host offers") == 3


def test_parked_jobs_are_among_those_of_a_queue(shelf: Shelf) -> None:
    """A purge covers them, and a cancel ends them; a listing shows them once."""
    shelf.submit("j1", "j2")
    shelf.park("j1", needs=Needs(0, GIB))
    assert sorted(shelf.queries.jobs.in_queue("celery")) == ["j1", "j2"]
    assert [row.job_id for row in shelf.queries.jobs.each_live()] == ["j1", "j2"]
    assert shelf.queries.jobs.load().queued == 2
    assert shelf.queries.jobs.queue_lengths(["celery", "night"]) == {"celery": 2, "night": 0}
    shelf.store.cancel_many(["j1"], reason="queue celery purged by alice")
    assert shelf.reason("j1") == "being ended: queue celery purged by alice; no worker is alive"
    shelf.end("j1", State.CANCELLED)
    assert shelf.queries.jobs.queue_lengths(["celery"]) == {"celery": 1}
    assert shelf.queries.jobs.parked() == []


def test_what_an_account_of_a_parked_job_says(shelf: Shelf) -> None:
    shelf.submit("j1")
    shelf.park("j1", needs=Needs(1500, GIB))
    row, record = shelf.queries.jobs.whole("j1")
    told = views.record_json(row, shelf.wait("j1"), record)
    assert told["needs"] == {"cpus": 1.5, "memory": GIB, "gpus": 0}
    assert told["parked_at"] == views.timestamp(row.parked_at)
    shelf.client.hset(keys.job("j1"), mapping={"needs": "1 \x1b[2J", "parked_at": "x"})
    row, record = shelf.queries.jobs.whole("j1")
    told = views.record_json(row, None, record)
    assert (told["needs"], told["parked_at"]) == ("1 \x1b[2J", "x")


def test_a_pull(shelf: Shelf) -> None:
    shelf.beat()
    shelf.submit("j1", about={"image": "tool:1"})
    holding = shelf.claim("j1")
    assert shelf.reason("j1") is None
    shelf.store.update(holding, {"pulled_bytes": 0, "pull_size_bytes": 0})
    assert shelf.reason("j1") == "pulling tool:1 on node1"
    shelf.store.update(holding, {"pulled_bytes": 2**20, "pull_size_bytes": 2**22})
    assert shelf.reason("j1") == "pulling tool:1 on node1: 1 MiB of 4 MiB"
    shelf.store.update(holding, {"state": "running"})
    assert shelf.reason("j1") is None


def test_a_listing_asks_about_each_queue_once(shelf: Shelf) -> None:
    """The number of questions does not grow with the number of jobs."""

    def calls(count: int) -> int:
        rows = list(shelf.queries.jobs.each_live())[:count]
        before = shelf.client.info("stats")["total_commands_processed"]
        assert len(shelf.queries.waits.of(rows)) == count
        return int(shelf.client.info("stats")["total_commands_processed"] - before)

    shelf.beat()
    shelf.submit(*(f"j{number:04}" for number in range(1000)))
    # Those within the script count too: one for 20 messages.
    assert calls(1000) == calls(10)
