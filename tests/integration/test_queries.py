"""Questions to a real Redis about jobs, batches, queues and workers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import exitcodes, watching
from celery_docker.cli import main as cli
from celery_docker.core import message
from celery_docker.core.jobrecord import Holding, New
from celery_docker.core.lifecycle import State
from celery_docker.store import jobstore, keys, queries
from celery_docker.store.housekeeping import Housekeeping
from celery_docker.store.listing import Load, Match
from tests import servers

HOST = "node1"


class Shelf:
    """A store to write with, questions to read with, and a client to look behind them."""

    def __init__(self, server: servers.RedisServer) -> None:
        self.url = server.url
        self.store = jobstore.connect(server.url)
        self.queries = queries.Queries(self.store.link)
        self.client: Any = server.client(decode_responses=True)

    def submit(self, *job_ids: str, **options: Any) -> None:
        self.store.submit([new(job_id, **options) for job_id in job_ids])

    def batch(self, count: int, **values: str | int) -> list[str]:
        job_ids = [f"j{number:05}" for number in range(1, count + 1)]
        self.store.begin_batch("b1", {"size": count, **values})
        jobs = [new(job_id, batch_id="b1", batch_index=index) for index, job_id in enumerate(job_ids, 1)]
        self.store.submit(jobs)
        return job_ids

    def claim(self, job_id: str) -> int:
        self.client.zadd(keys.HOSTS, {HOST: time.time()})
        envelope = message.task_message(job_id, {}, queue="celery", tag="t", origin="")
        return self.store.claim(job_id, host=HOST, queue="celery", envelope=envelope).fence

    def end(self, job_id: str, state: State = State.SUCCEEDED, **about: Any) -> None:
        fence = self.claim(job_id)
        receipt = {"id": job_id, "state": state.value, "exit_code": 0, "run_s": 1.5, **about}
        self.store.finish(Holding(job_id, HOST, fence), state, receipt)
        self.store.settle(job_id, host=HOST, retention_s=7200)


@pytest.fixture
def shelf(redis_server: servers.RedisServer) -> Iterator[Shelf]:
    shelf = Shelf(redis_server)
    yield shelf
    shelf.client.flushdb()
    shelf.client.close()
    shelf.store.close()


def new(job_id: str, **options: Any) -> New:
    envelope = message.task_message(job_id, {"image": "busybox"}, queue="celery", tag=job_id, origin="1@here")
    return New(job_id, "celery", envelope, {"image": "busybox"}, **options)


def test_a_row_of_a_job_that_waits(shelf: Shelf) -> None:
    """All that its submitter said of it; what cannot be known yet is None."""
    labels = json.dumps({"a": "ä"})
    about = {"image": "busybox", "name": "täst", "labels": labels, "submitted_by": "alice@here", "retry_of": "j0"}
    shelf.submit("j1", about=about)
    (row,) = shelf.queries.jobs.rows(["j1"])
    assert (row.job_id, row.state, row.name, row.image) == ("j1", State.QUEUED, "täst", "busybox")
    assert (row.labels, row.submitted_by, row.retry_of) == ({"a": "ä"}, "alice@here", "j0")
    assert row.submitted_at == pytest.approx(time.time(), abs=60)
    assert (row.host, row.claimed_at, row.finished_at, row.exit_code, row.reason) == (None, None, None, None, None)
    assert (row.batch_id, row.waits_for, row.held, row.attempt) == (None, 0, False, 0)


def test_a_row_of_a_job_that_has_ended_needs_no_receipt(shelf: Shelf) -> None:
    shelf.submit("j1")
    shelf.end("j1", State.FAILED, exit_code=3, reason="exit code 3", image="busybox")
    shelf.client.hset(keys.job("j1"), "receipt", "not JSON")
    (row,) = shelf.queries.jobs.rows(["nobody", "j1"])
    assert (row.state, row.host, row.attempt, row.exit_code) == (State.FAILED, HOST, 1, 3)
    assert (row.reason, row.run_s, row.image) == ("exit code 3", 1.5, "busybox")
    assert row.finished_at is not None
    assert row.claimed_at is not None
    assert row.finished_at >= row.claimed_at


def test_jobs_that_have_not_ended(shelf: Shelf) -> None:
    """Running ones first; and nothing that is over."""
    shelf.submit("j1", "j2", "j3")
    shelf.submit("j4", after=("j1",))
    shelf.end("j3")
    shelf.claim("j2")
    live = list(shelf.queries.jobs.each_live())
    assert [row.job_id for row in live] == ["j2", "j1", "j4"]
    assert live[-1].waits_for == 1
    assert [row.job_id for row in shelf.queries.jobs.each_recent()] == ["j4", "j3", "j2", "j1"]


def test_receipts_come_in_the_order_that_was_asked_for(shelf: Shelf) -> None:
    job_ids = shelf.batch(250)
    for job_id in job_ids[100:]:
        shelf.end(job_id)
    receipts = shelf.queries.jobs.receipts(job_ids)
    assert receipts[:100] == [None] * 100
    assert [receipt["id"] for receipt in receipts[100:] if receipt] == job_ids[100:]
    assert shelf.queries.jobs.receipt("nobody") is None


def test_a_batch_is_counted_by_state(shelf: Shelf) -> None:
    job_ids = shelf.batch(5, limit=2, name="demo", submitted_by="alice@here")
    shelf.end(job_ids[0])
    shelf.end(job_ids[1], State.FAILED)
    row = shelf.queries.batches.row("b1")
    assert row.counts == {"succeeded": 1, "failed": 1, "queued": 3}
    assert (row.name, row.size, row.limit, row.submitted_by) == ("demo", 5, 2, "alice@here")
    assert shelf.queries.batches.job_ids("b1") == job_ids
    assert [row.job_id for row in shelf.queries.jobs.each_of_batch("b1")] == job_ids
    assert [row.held for row in shelf.queries.jobs.rows(job_ids)] == [False, False, False, False, True]


def test_how_a_batch_has_ended_so_far(shelf: Shelf) -> None:
    job_ids = shelf.batch(12)
    assert shelf.queries.batches.ends("b1", ["failed"]) == (None, [])
    for job_id, state in ((job_ids[11], State.FAILED), (job_ids[2], State.ERROR), (job_ids[5], State.SUCCEEDED)):
        shelf.end(job_id, state)
    last = shelf.queries.jobs.row(job_ids[5]).finished_at
    assert shelf.queries.batches.ends("b1", ["failed", "error"]) == (last, [job_ids[2], job_ids[11]])
    assert shelf.queries.batches.ends("b1", ["failed"]) == (last, [job_ids[11]])


def test_a_large_batch_is_looked_at_part_by_part(shelf: Shelf) -> None:
    job_ids = shelf.batch(4100)
    for job_id in (job_ids[0], job_ids[1999], job_ids[2000], job_ids[4099]):
        shelf.end(job_id, State.FAILED)
    last = shelf.queries.jobs.row(job_ids[4099]).finished_at
    assert shelf.queries.batches.ends("b1", ["failed"]) == (last, [job_ids[number] for number in (0, 1999, 2000, 4099)])
    assert shelf.queries.batches.row("b1").counts == {"queued": 4096, "failed": 4}
    assert shelf.queries.batches.job_ids("b1") == job_ids


def test_a_job_that_is_tried_again_takes_its_place_in_the_batch(shelf: Shelf) -> None:
    shelf.end(shelf.batch(2)[0], State.FAILED)
    shelf.store.submit([new("again", batch_id="b1", batch_index=1, about={"retry_of": "j00001"})])
    assert shelf.queries.batches.job_ids("b1") == ["again", "j00002"]
    assert shelf.queries.batches.row("b1").counts == {"queued": 2}


def test_a_batch_ages_once_its_last_job_has_ended(shelf: Shelf) -> None:
    first, second = shelf.batch(2, limit=1)
    shelf.end(first)
    assert shelf.client.ttl(keys.batch("b1")) == -1
    shelf.end(second)
    for key in (keys.batch("b1"), keys.batch_jobs("b1")):
        assert 7000 < shelf.client.ttl(key) <= 7200
    shelf.store.submit([new("again", batch_id="b1", batch_index=1)])
    for key in (keys.batch("b1"), keys.batch_jobs("b1")):
        assert shelf.client.ttl(key) == -1


@pytest.mark.parametrize("jobs", [0, 2])
@pytest.mark.parametrize("command", ["watch", "wait"])
def test_a_batch_of_which_jobs_are_missing_never_counts_as_succeeded(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, jobs: int
) -> None:
    """Its submitter was killed, or is still at it."""
    monkeypatch.setattr(watching, "_GRACE_S", 0)
    shelf.batch(jobs)
    shelf.store.begin_batch("b1", {"size": 3})
    for number in range(1, jobs + 1):
        shelf.end(f"j{number:05}")
    status = cli.main([command, "b1"], {"CELERY_DOCKER_BROKER_URL": shelf.url})
    assert status == exitcodes.NOT_RUN
    assert f"{3 - jobs} of 3 jobs " in "".join(capsys.readouterr())
    shelf.submit("last", batch_id="b1", batch_index=9)
    if jobs == 2:
        shelf.end("last")
        assert cli.main([command, "b1"], {"CELERY_DOCKER_BROKER_URL": shelf.url}) == 0


def test_a_batch_that_nobody_knows(shelf: Shelf) -> None:
    with pytest.raises(errors.NoSuchJob, match="'b9'"):
        shelf.queries.batches.row("b9")


def test_an_id_is_found_by_its_beginning(shelf: Shelf) -> None:
    shelf.submit("abc1", "abd2", "abd2x", "e1")
    assert shelf.queries.jobs.resolve("abc") == "abc1"
    assert shelf.queries.jobs.resolve("abd2") == "abd2", "a whole id is never ambiguous"
    for text in ("", "f", "%", "*"):
        with pytest.raises(errors.NoSuchJob):
            shelf.queries.jobs.resolve(text)
    with pytest.raises(errors.AmbiguousId, match="abd2, abd2x"):
        shelf.queries.jobs.resolve("abd")
    shelf.store.begin_batch("b1", {"size": 0})
    assert shelf.queries.batches.resolve("b") == "b1"


def test_an_id_is_found_behind_many_others(shelf: Shelf) -> None:
    """The index is read to its end, piece by piece."""
    shelf.client.zadd(keys.INDEX, {f"x{number}": number for number in range(50_000)})
    shelf.client.zadd(keys.INDEX, {"old": -1})
    assert shelf.queries.jobs.resolve("ol") == "old"


def test_queue_lengths_count_every_priority(shelf: Shelf) -> None:
    shelf.submit("j1", "j2")
    shelf.client.lpush(message.queue_key("celery", 9), "x")
    assert shelf.queries.jobs.queue_lengths(["celery", "other"]) == {"celery": 3, "other": 0}


def test_workers_and_who_keeps_them_from_working(shelf: Shelf) -> None:
    shelf.submit("j1")
    shelf.claim("j1")
    shelf.client.hset(keys.host_about(HOST), "about", json.dumps({"slots": 2}))
    shelf.client.zadd(keys.HOSTS, {"node0": 0})
    shelf.store.drain(HOST, "alice@here: a new disk")
    silent, row = shelf.queries.hosts.rows()
    assert (silent.host, silent.about, silent.drained) == ("node0", {}, None)
    assert (row.host, row.jobs, row.about, row.drained) == (HOST, 1, {"slots": 2}, "alice@here: a new disk")
    assert -1 < row.heard_s < 60
    look = Housekeeping(shelf.store.link).look
    assert (look(HOST).drained_by, look("node0").drained_by) == ("alice@here: a new disk", None)
    assert shelf.store.resume(HOST)
    assert not shelf.store.resume(HOST)
    assert look(HOST).drained_by is None


def test_a_lost_host_is_listed_as_such(shelf: Shelf) -> None:
    """With how far its clock was off when it was heard last, where it said so."""
    shelf.client.zadd(keys.LOST_HOSTS, {"gone": 1000, HOST: 1000})
    shelf.client.zadd(keys.HOSTS, {HOST: 2000})
    shelf.client.hset(keys.host_about("gone"), "about", json.dumps({"clock": "1970-01-01T00:16:43.500Z"}))
    gone, back = shelf.queries.hosts.rows()
    assert (gone.host, gone.lost, gone.ahead_s) == ("gone", True, 3.5)
    assert (back.host, back.lost, back.ahead_s) == (HOST, False, None)


def test_the_jobs_of_a_queue_that_no_host_has_taken(shelf: Shelf) -> None:
    """Queued, delayed, held back, after others, and a plain client's; none that runs, nor of another queue."""
    shelf.submit("runs", "elsewhere")
    shelf.client.hset(keys.job("elsewhere"), "queue", "other")
    shelf.client.delete("celery")
    shelf.claim("runs")
    shelf.submit("j1", "j2")
    shelf.submit("after", after=("j1",))
    shelf.batch(2, limit=1)
    shelf.client.zadd(keys.DELAYED, {"j2": 9e9})
    shelf.client.zrem(keys.WAITING, "j2")
    plain = [message.task_message(f"p{number:04}", {}, queue="celery", tag="t", origin="") for number in range(1200)]
    for envelope in plain:
        shelf.client.lpush(message.queue_key("celery", 9), json.dumps(envelope))
    shelf.client.lpush("celery", "not a message")
    queued_ids = shelf.queries.jobs.in_queue("celery")
    assert queued_ids[0] == "j1"
    assert [job_id for job_id in queued_ids if job_id.startswith("p")] == [f"p{number:04}" for number in range(1200)]
    assert {job_id for job_id in queued_ids if not job_id.startswith("p")} == {"j1", "j2", "after", "j00001", "j00002"}
    assert len(queued_ids) == 1205
    assert shelf.queries.jobs.load() == Load(in_hand=1, queued=3, delayed=1, blocked=2)


def test_jobs_that_a_share_holds_back_are_counted_in_their_queue(shelf: Shelf) -> None:
    """They are not called delayed, though they are in that index too."""
    shelf.client.hset(keys.WINDOWS, mapping={"celery": 2})
    shelf.submit("j1", "j2", "j3", "j4", "j5", about={"share": "celery 1000"})
    shelf.submit("k1", about={"share": "celery 1001"})
    assert shelf.queries.jobs.queue_lengths(["celery", "other"]) == {"celery": 6, "other": 0}
    assert shelf.queries.jobs.load() == Load(in_hand=0, queued=3, delayed=0, blocked=3)
    assert sorted(shelf.queries.jobs.in_queue("celery")) == ["j1", "j2", "j3", "j4", "j5", "k1"]
    assert {row.job_id: row.over_share for row in shelf.queries.jobs.each_live()} == {
        **dict.fromkeys(("j1", "j2", "k1"), False),
        **dict.fromkeys(("j3", "j4", "j5"), True),
    }


def test_a_name_stands_for_a_job_or_a_batch(shelf: Shelf) -> None:
    shelf.submit("abc1", "abd1")
    shelf.store.begin_batch("abe1", {"size": 0})
    assert shelf.queries.match("abc") == Match("abc1", is_batch=False)
    assert shelf.queries.match("abe") == shelf.queries.match("abe1") == Match("abe1", is_batch=True)
    with pytest.raises(errors.AmbiguousId, match="3 ids"):
        shelf.queries.match("ab")
    for text in ("", "x"):
        with pytest.raises(errors.NoSuchJob):
            shelf.queries.match(text)


def test_a_listing_is_asked_for_in_parts(shelf: Shelf) -> None:
    """All of it comes, once."""
    job_ids = shelf.batch(2500)
    assert [row.job_id for row in shelf.queries.jobs.each_live()] == job_ids
    assert [row.job_id for row in shelf.queries.jobs.each_recent()] == job_ids[::-1]


def test_the_record_of_a_job(shelf: Shelf) -> None:
    shelf.submit("j1")
    assert shelf.queries.jobs.record("j1")["state"] == "queued"
    with pytest.raises(errors.NoSuchJob, match="'j9'"):
        shelf.queries.jobs.record("j9")
