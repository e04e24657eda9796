"""The reasons of waits, asked of a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celery_docker.core import message
from celery_docker.core.jobrecord import Holding, New
from celery_docker.core.lifecycle import State, Tally
from celery_docker.core.waiting import Wait
from celery_docker.store import heads, jobstore, keys, queries
from celery_docker.store.hosts import HostStore
from celery_docker.store.housekeeping import Housekeeping
from tests import servers

HOST = "node1"
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
    shelf.queries, housekeeping = queries.Queries(shelf.store.link, kept), Housekeeping(shelf.store.link)
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
