"""What the page asks besides lists: last lines, the last 24 hours, failed jobs once more, and a job without secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.core import access, history
from celery_docker.core.container import Stream
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.core.output import Chunk, Piece
from celery_docker.core.receipt import Receipt
from celery_docker.gateway import shared
from celery_docker.gateway.jobs import Jobs
from celery_docker.gateway.routing import Request
from celery_docker.gateway.submitting import Submitting
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys, redislink
from celery_docker.store.historykeeping import HistoryKeeping
from celery_docker.store.hosts import HostStore
from celery_docker.store.livelog import LiveLog
from celery_docker.store.queries import Queries
from tests import servers
from tests.gateways import Gateway
from tests.integration.test_worker import clean_redis

__all__ = ["clean_redis"]

CAROL, DAVE = 31003, 31004
API = "/api/v1"
JOBS = f"{API}/jobs"
ONE = {"image": "busybox", "command": "true", "queue": "nowhere"}
STEP = history.STEP_S


@pytest.fixture
def gateway(clean_redis: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(clean_redis.url) as gateway:
        gateway.users(carol=CAROL, dave=DAVE)
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@pytest.fixture
def client(clean_redis: servers.RedisServer) -> Iterator[Client]:
    with closing(Client(clean_redis.url)) as client:
        yield client


def asked(gateway: Gateway, uid: int, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    ((status, answer),) = gateway.ask_as(uid, (method, target, body))
    return status, answer


def submitted(gateway: Gateway, uid: int, **more: Any) -> str:
    status, answer = asked(gateway, uid, "POST", JOBS, {**ONE, **more})
    assert status == 201, answer
    return str(answer["id"])


def started(client: Client, job_id: str) -> Holding:
    envelope = json.loads(client.store.record(job_id)["message"])
    claim = client.store.claim(job_id, host="node1", queue="nowhere", envelope=envelope)
    return Holding(job_id, "node1", claim.fence)


def ended(client: Client, job_id: str, state: State = State.FAILED, **receipt: Any) -> None:
    holding = started(client, job_id)
    client.store.finish(holding, state, Receipt(job_id, state=state.value, **receipt).to_dict())


def lines(gateway: Gateway, uid: int, *job_ids: str) -> Any:
    status, answer = asked(gateway, uid, "GET", f"{API}/lastlines?ids={','.join(job_ids)}")
    assert status == 200
    return answer["lines"]


def test_the_last_lines_of_jobs(gateway: Gateway, client: Client) -> None:
    queued, running, failed, silent = (submitted(gateway, CAROL) for _ in range(4))
    others = submitted(gateway, DAVE)
    ended(client, others, last_stderr_line="secret")
    ended(client, failed, output="x\n" * 40_000, last_stderr_line="disk\x1b[31m full")
    ended(client, silent, output="a\nthe end\n")
    holding = started(client, running)
    pieces = [Piece(Stream.STDOUT, 1, 0, b"one\ntw"), Piece(Stream.STDOUT, 1, 6, b"o\n\n")]
    LiveLog(client.store.link).append([Chunk(running, "node1", holding.fence, pieces)])
    assert lines(gateway, CAROL, queued, running, failed, silent, others, "no-such-job") == {
        queued: None,
        running: {"line": "two", "stream": "stdout"},
        failed: {"line": "disk\\x1b[31m full", "stream": "stderr"},
        silent: {"line": "the end", "stream": None},
    }
    # As of a worker that had something else there, or of a newer version.
    client.store.link.client.hset(keys.job(failed), "receipt", '{"later":"form"}')
    client.store.link.client.delete(keys.log(running))
    client.store.link.client.set(keys.log(running), "no stream")
    assert lines(gateway, CAROL, running, failed) == {running: None, failed: None}


def test_a_hundred_last_lines_are_few_bytes(gateway: Gateway, client: Client) -> None:
    _, answer = asked(gateway, CAROL, "POST", JOBS, {"jobs": [ONE] * 100})
    job_ids = [job["id"] for job in answer["jobs"]]
    for job_id in job_ids:
        ended(client, job_id, output="x" * 60_000, last_stderr_line="y" * 200)
    ((_, body),) = gateway.ask_as(CAROL, ("GET", f"{API}/lastlines?ids={','.join(job_ids)}"))
    assert len(json.dumps(body, separators=(",", ":"))) < 20_000
    assert asked(gateway, CAROL, "GET", f"{API}/lastlines?ids={','.join(['a'] * 101)}")[0] == 400
    assert asked(gateway, CAROL, "GET", f"{API}/lastlines") == (200, {"lines": {}})


def batch(gateway: Gateway, client: Client, *states: State) -> str:
    documents = [ONE] * (len(states) + 1)
    status, answer = asked(gateway, CAROL, "POST", JOBS, {"jobs": documents, "batch": {"name": "b"}})
    assert status == 201
    for job, state in zip(answer["jobs"], states, strict=False):
        ended(client, job["id"], state)
    return str(answer["batch"]["id"])


def test_the_failed_jobs_of_a_batch_run_once_more(gateway: Gateway, client: Client) -> None:
    batch_id = batch(gateway, client, State.FAILED, State.SUCCEEDED, State.TIMED_OUT, State.CANCELLED, State.LOST)
    path = f"{API}/batches/{batch_id}"
    before = asked(gateway, CAROL, "GET", path)[1]
    assert (before["retryable"], len(before["failed"])) == (3, 3)
    for expected in (2, 4):
        status, answer = asked(gateway, CAROL, "POST", f"{path}/retry-failed", {"expected": expected})
        assert (status, answer["error"].endswith("is not the number of jobs to run again, now 3")) == (409, True)
    status, answer = asked(gateway, CAROL, "POST", f"{path}/retry-failed", {"expected": 3})
    assert (status, answer["batch"], answer["count"], answer["remaining"]) == (201, batch_id, 3, 0)
    assert [job["retry_of"] for job in answer["jobs"]] == before["failed"]
    after = asked(gateway, CAROL, "GET", path)[1]
    assert (after["retryable"], after["counts"]["queued"]) == (0, 4)
    # Sent once more, as where the answer was lost: it is told that the number is another, and nothing runs twice.
    assert asked(gateway, CAROL, "POST", f"{path}/retry-failed", {"expected": 3})[0] == 409
    status, answer = asked(gateway, CAROL, "POST", f"{path}/retry-failed", {"expected": 0})
    assert (status, answer["count"], answer["jobs"]) == (201, 0, [])
    assert asked(gateway, CAROL, "GET", path)[1]["jobs"] == after["jobs"]
    record = client.store.record(after["jobs"][0])
    assert (record["retry_of"], record["uid"]) == (before["failed"][0], str(CAROL))


def test_two_who_confirm_the_same_number_queue_the_jobs_once(gateway: Gateway, client: Client) -> None:
    batch_id = batch(gateway, client, *[State.FAILED] * 20)
    statuses: list[int] = []
    body = {"expected": 20}

    def confirm() -> None:
        statuses.append(gateway.ask("POST", f"{API}/batches/{batch_id}/retry-failed", body)[0])

    threads = [threading.Thread(target=confirm) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {*statuses} <= {201, 409}
    assert 201 in statuses
    # The batch had 21 jobs, and 20 more are in the index.
    assert client.store.link.client.zcard(keys.INDEX) == 41


def test_the_failed_jobs_of_a_large_batch_are_looked_for_in_turn(
    gateway: Gateway, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In this process, in which any batch is a large one."""
    monkeypatch.setattr(shared, "LARGE", 1)
    monkeypatch.setattr(shared, "_MOST", 1)
    batch_id, taken = batch(gateway, client, State.FAILED), shared.Shared()
    handler = Submitting(client.store, Queries(client.store.link), KeyFile(str(tmp_path / "key")), taken)
    root = access.Identity("root", 0, 0, ())
    request = Request(root, access.rights_of(root, None), {"id": batch_id}, body={"expected": 1})
    with taken.turn(1), pytest.raises(errors.Busy):
        handler.retry_failed(request)
    counted = [taken.answer(batch_id, 1, lambda: {"failed": [None]})["failed"]]
    assert handler.retry_failed(request).body["count"] == 1
    counted.append(taken.answer(batch_id, 1, lambda: {"failed": []})["failed"])
    assert counted == [[None], []]


def test_the_jobs_of_a_large_batch_are_named_in_turn(
    gateway: Gateway, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer takes a hundred MiB with a million of them; the facts about a batch alone, as they are kept, none."""
    monkeypatch.setattr(shared, "LARGE", 1)
    batch_id, taken = batch(gateway, client, State.FAILED), shared.Shared(lambda: 0.0)
    monkeypatch.setattr(taken, "_present", threading.Semaphore(1))
    handler = Jobs(client.store, Queries(client.store.link), taken)
    root = access.Identity("root", 0, 0, ())
    request = Request(root, access.rights_of(root, None), {"id": batch_id})
    answer = handler.batch(request).body
    assert len(answer["jobs"]) == answer["size"]
    with taken.turn(1):
        assert handler.batch(replace(request, query={"fields": ["id"]})).body == {"id": batch_id}
        with pytest.raises(errors.Busy):
            handler.batch(request)


@pytest.mark.parametrize(
    "body", [None, {}, {"expected": "3"}, {"expected": -1}, {"expected": True}, {"expected": 1, "x": 1}]
)
def test_a_number_that_nobody_has_confirmed(gateway: Gateway, client: Client, body: Any) -> None:
    batch_id = batch(gateway, client, State.FAILED)
    assert asked(gateway, CAROL, "POST", f"{API}/batches/{batch_id}/retry-failed", body)[0] == 400


def test_a_batch_of_another_is_not_there(gateway: Gateway, client: Client) -> None:
    batch_id = batch(gateway, client, State.FAILED)
    assert asked(gateway, DAVE, "POST", f"{API}/batches/{batch_id}/retry-failed", {"expected": 1})[0] == 404
    reader = gateway.token("carol", "read")
    assert gateway.ask_tcp(reader, "POST", f"{API}/batches/{batch_id}/retry-failed", {"expected": 1})[0] == 403


def test_a_job_without_the_values_of_its_environment(gateway: Gateway, client: Client) -> None:
    job_id = submitted(gateway, CAROL, env={"TOKEN": "hunter2", "A": "hunter3"})
    assert asked(gateway, CAROL, "GET", f"{JOBS}/{job_id}")[1]["spec"]["env"] == {"TOKEN": "hunter2", "A": "hunter3"}
    status, answer = asked(gateway, CAROL, "GET", f"{JOBS}/{job_id}?env=names")
    assert (status, sorted(answer["spec"]["env"])) == (200, ["A", "TOKEN"])
    assert "hunter" not in json.dumps(answer)
    assert asked(gateway, CAROL, "GET", f"{JOBS}/{job_id}?env=values")[0] == 400
    # Once it has ended, and was tried twice, there is no other place for it.
    ended(client, job_id, attempts=({"state": "failed", "reason": "exit code 1"},))
    assert "hunter" not in json.dumps(asked(gateway, CAROL, "GET", f"{JOBS}/{job_id}?env=names")[1])
    assert "hunter" not in json.dumps(asked(gateway, CAROL, "GET", JOBS)[1])


def test_the_last_24_hours(gateway: Gateway, client: Client, clean_redis: servers.RedisServer) -> None:
    link = client.store.link
    about = {"slots": 4, "queues": ["celery"], "offer": {"cpus": 8, "memory": 2**30, "gpus": []}}
    HostStore(link).beat("node1", machine="m", about={**about, "free": {"cpus": 2, "memory": 2**29, "gpus": 0}})
    started(client, submitted(gateway, CAROL))
    submitted(gateway, CAROL)
    keeping, now = HistoryKeeping(link), redis_now(link)
    assert keeping.keep(now)
    # Another worker, a moment later, and one in the next step.
    assert not HistoryKeeping(link).keep(now + 1)
    table = asked(gateway, DAVE, "GET", f"{API}/history")[1]
    places = {name: place(table, name) for name in ("queued", "running", "in_queues")}
    assert places == {"queued": 1, "running": 1, "in_queues": 1}
    (host,) = table["hosts"]
    assert {name: place(host, name) for name in ("slots", "cpus", "memory")} == {"slots": 25, "cpus": 75, "memory": 50}
    assert all(len(table[name]) == 288 for name in places)
    ended(client, submitted(gateway, CAROL))
    link.client.delete(keys.HISTORY_LOCK)
    assert keeping.keep(now)
    assert link.client.zcard(keys.HISTORY) == 1, "a step has one sample"


def redis_now(link: redislink.Link) -> float:
    seconds, microseconds = link.client.time()
    return float(seconds + microseconds / 1e6)


def place(table: Any, name: str) -> Any:
    """Return the latest number of a list, which may be of the step before if one has just ended."""
    return next(value for value in reversed(table[name]) if value is not None)


def test_samples_are_bounded_and_damage_is_a_gap(gateway: Gateway, client: Client) -> None:
    link = client.store.link
    now, keeping = redis_now(link), HistoryKeeping(link)
    steps = [history.step_of(now) - steps_ago * STEP for steps_ago in range(400, 0, -1)]
    link.client.zadd(keys.HISTORY, {history.Sample(step, queued=1).text(): step for step in steps})
    link.client.zadd(keys.HISTORY, {"no sample": now - 10 * STEP, "[" * 9000: now - 11 * STEP})
    assert keeping.keep(now)
    assert link.client.zcard(keys.HISTORY) == 289
    assert asked(gateway, CAROL, "GET", f"{API}/history")[0] == 200
    link.client.delete(keys.HISTORY, keys.HISTORY_LOCK)
    link.client.set(keys.HISTORY, "something else")
    assert asked(gateway, CAROL, "GET", f"{API}/history")[1]["queued"] == [None] * 288
    assert keeping.keep(now)
    assert link.client.zcard(keys.HISTORY) == 1
    assert link.client.ttl(keys.HISTORY) > 86_400
