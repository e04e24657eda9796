"""Faults of one host, under load: nothing lost, nothing twice, nothing left.

`CELERY_DOCKER_FAULTS=full` runs them in the size that docs/RELIABILITY.md reports; the seed of a run is printed, and
CELERY_DOCKER_FAULTS_SEED repeats it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest

from celery_docker.client import Client
from tests import services
from tests.faults.ledger import FULL, SEED, Ledger, Row
from tests.integration.worker import Worker
from tests.waiting import eventually

DOCKER_WENT_DOWN = ("went down under it", "cannot reach Docker", "broke the connection", "did not answer")
STOPPED = ("was stopped",)
Conclude = Callable[[Row], None]


@contextmanager
def ledger_and_worker(
    redis: services.RedisServer, dockerd: services.Dockerd, **variables: str
) -> Iterator[tuple[Ledger, Worker]]:
    chosen = {"CELERY_DOCKER_RETRY_DELAY": "0", "CELERY_DOCKER_CONCURRENCY": "4", **variables}
    with Ledger(redis, dockerd, SEED) as ledger, Worker(redis.url, dockerd, **chosen) as worker:
        yield ledger, worker


@contextmanager
def stream(ledger: Ledger, count: int, most_s: float, over_s: float) -> Iterator[None]:
    """Submit jobs one by one, in the background, over some seconds."""

    def submit() -> None:
        for _ in range(count):
            ledger.submit(1, 0, most_s)
            ledger.pause(0, 2 * over_s / count)

    thread = Thread(target=submit, daemon=True)
    thread.start()
    yield
    thread.join(timeout=60)
    assert not thread.is_alive()


def under_load(ledger: Ledger) -> None:
    eventually(lambda: ledger.running() >= 2, 30, "two jobs to run")


def test_kill_of_the_worker_at_random_moments(
    dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude
) -> None:
    """SIGKILL, started again at once: containers run on, each is taken over by the next process."""
    kills, jobs, most_s = (20, 200, 5.0) if FULL else (4, 30, 2.0)
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        with stream(ledger, jobs, most_s, kills * 3.0):
            for _ in range(kills):
                ledger.pause(0.2, 3.0)
                worker.kill()
                worker.start()
                ledger.recover()
        conclude(ledger.settle(f"worker kill -9, {kills} times", worker))


def test_handover_under_load(dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude) -> None:
    """SIGHUP, which is what reload and upgrade send."""
    times, jobs = (10, 100) if FULL else (3, 24)
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        with stream(ledger, jobs, 3.0, times * 4.0):
            for _ in range(times):
                ledger.pause(0.2, 2.0)
                worker.hand_over()
                assert worker.wait() == 0
                worker.start()
                ledger.recover()
        conclude(ledger.settle(f"handover (SIGHUP), {times} times", worker))


def test_stop_with_jobs_that_outlast_the_deadline(
    dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude
) -> None:
    """They are queued again, retries untouched, and run a second time: only they, and only for this reason."""
    with ledger_and_worker(own_redis, dockerd, CELERY_DOCKER_SYSTEMD_TIMEOUT="1") as (ledger, worker):
        ledger.submit(20 if FULL else 8, 0.2, 8, retries=0)
        for _ in range(3 if FULL else 2):
            under_load(ledger)
            worker.terminate()
            assert worker.wait() == 0
            assert dockerd.containers() == []
            worker.start()
            ledger.recover()
        row = ledger.settle("stop with a deadline of 1 s", worker, due=STOPPED)
        for entry in ledger.entries:
            reasons = [one["reason"] for one in ledger.receipt(entry)["attempts"][:-1]]
            assert len(entry.lines()) == len(reasons) + 2, (entry.lines(), reasons)
    conclude(row)


def test_restart_of_redis(dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude) -> None:
    """With its append-only file, as Debian's administrators are told to have it."""
    times = 3 if FULL else 2
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        ledger.submit(60 if FULL else 20)
        for _ in range(times):
            ledger.pause(0.5, 2.0)
            own_redis.restart()
            ledger.recover()
        conclude(ledger.settle(f"Redis restart (AOF), {times} times", worker))


def test_redis_drops_every_connection(
    dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude
) -> None:
    times = 20 if FULL else 5
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker), own_redis.client() as client:
        ledger.submit(80 if FULL else 20)
        for _ in range(times):
            ledger.pause(0.1, 1.5)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        ledger.recover()
        conclude(ledger.settle(f"Redis: CLIENT KILL of everything, {times} times", worker))


def test_redis_hangs(dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude) -> None:
    """SIGSTOP: connections stay, no answer comes, for longer than a call may take."""
    seconds = 30 if FULL else 20
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        ledger.submit(30 if FULL else 16)
        under_load(ledger)
        own_redis.pause()
        ledger.pause(seconds, seconds)
        own_redis.resume()
        ledger.recover()
        conclude(ledger.settle(f"Redis: SIGSTOP for {seconds} s", worker))


def test_restart_of_docker(own_dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude) -> None:
    """Docker takes the containers along: they run again, and nothing else does."""
    times = 3 if FULL else 1
    with ledger_and_worker(own_redis, own_dockerd) as (ledger, worker):
        ledger.submit(40 if FULL else 14, 0, 4, retries=0)
        for _ in range(times):
            under_load(ledger)
            ledger.pause(0, 1)
            own_dockerd.restart()
            ledger.recover()
        conclude(ledger.settle(f"dockerd restart, {times} times", worker, due=DOCKER_WENT_DOWN))


def test_restart_of_docker_with_live_restore(own_redis: services.RedisServer, conclude: Conclude) -> None:
    """The containers run on and are not run again."""
    server = services.Dockerd()
    server._arguments = lambda: [  # type: ignore[method-assign]
        word.replace("--live-restore=false", "--live-restore=true") for word in services.Dockerd._arguments(server)
    ]
    times = 3 if FULL else 1
    with server as own, ledger_and_worker(own_redis, own) as (ledger, worker):
        own.import_busybox()
        ledger.submit(40 if FULL else 14, 0, 4, retries=0)
        for _ in range(times):
            under_load(ledger)
            ledger.pause(0, 1)
            own.restart()
            ledger.recover()
        conclude(ledger.settle(f"dockerd restart with live-restore, {times} times", worker))


def test_docker_hangs(own_dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude) -> None:
    seconds = 60 if FULL else 10
    with ledger_and_worker(own_redis, own_dockerd) as (ledger, worker):
        ledger.submit(30 if FULL else 14, retries=0)
        under_load(ledger)
        own_dockerd.pause()
        ledger.pause(seconds, seconds)
        own_dockerd.resume()
        ledger.recover()
        conclude(ledger.settle(f"dockerd: SIGSTOP for {seconds} s", worker))


@pytest.mark.parametrize("tags", ["same tag", "own tags"])
def test_a_message_delivered_three_times(
    dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude, tags: str
) -> None:
    """To one worker, concurrently: two on one host would share the host's name."""
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker), own_redis.client(decode_responses=True) as client:
        worker.kill()
        ledger.submit(30 if FULL else 10)
        waiting = client.lrange("celery", 0, -1)
        copies = [_copy(text, tags) for text in waiting for _ in range(2)]
        copies = ledger.random.sample(copies, len(copies))
        client.lpush("celery", *copies[::2])
        client.rpush("celery", *copies[1::2])
        worker.start()
        ledger.recover()
        conclude(ledger.settle(f"each message three times, {tags}", worker))


def _copy(text: str, tags: str) -> str:
    envelope = json.loads(text)
    if tags == "own tags":
        envelope["properties"]["delivery_tag"] = str(uuid.uuid4())
    return json.dumps(envelope)


def test_cancel_in_random_states(
    dockerd: services.Dockerd, own_redis: services.RedisServer, conclude: Conclude
) -> None:
    """Twenty of thirty jobs, by our client and by `revoke`: none goes on running, each ends as REVOKED or SUCCESS."""
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        client = Client(own_redis.url)
        ledger.submit(30, 0, 2)
        unwanted = ledger.random.sample(ledger.entries, 20)
        for number, entry in enumerate(unwanted):
            ledger.pause(0, 0.5)
            if number % 2:
                client.cancel(entry.job_id)
            else:
                ledger.plain.control.revoke(entry.job_id, terminate=bool(number % 4))
        client.close()
        for entry in unwanted:
            status = eventually(
                lambda entry=entry: ledger.status(entry) in ("SUCCESS", "REVOKED") and ledger.status(entry),  # type: ignore[misc]
                60,
                f"the end of the cancelled job {entry.job_id}",
            )
            if status == "REVOKED":
                assert f"run-{entry.job_id}" not in running(dockerd)
        ledger.recover()
        row = ledger.settle("cancel of 20 of 30 jobs, by client and revoke", worker)
        revoked = [entry for entry in ledger.entries if ledger.status(entry) == "REVOKED"]
        assert revoked
        assert {entry.job_id for entry in revoked} <= {entry.job_id for entry in unwanted}
    conclude(row)


def running(dockerd: services.Dockerd) -> list[str]:
    listed = json.loads(dockerd.request("GET", "/containers/json")[1])
    return [one["Names"][0].removeprefix("/") for one in listed]
