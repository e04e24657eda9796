"""No message is ever nowhere: between a queue and a record it is in one list or the other."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from celery_docker.client.client import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.store import keys
from tests import servers
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain, queue_length, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]


def in_hand(server: servers.RedisServer) -> list[bytes]:
    with server.client() as client:
        messages: list[bytes] = [
            text for key in client.scan_iter(f"{keys.PREFIX}host:*:taken:*") for text in client.lrange(key, 0, -1)
        ]
    return messages


@contextmanager
def asleep(worker: Worker) -> Iterator[None]:
    """The worker stands still, with a question for a message open in Redis."""
    assert worker.process is not None
    os.kill(worker.process.pid, signal.SIGSTOP)
    yield
    os.kill(worker.process.pid, signal.SIGCONT)


def sent_into_the_gap(worker: Worker, plain: Plain, server: servers.RedisServer) -> Any:
    """Send a job that Redis hands over to a worker that cannot read it."""
    for _ in range(50):
        sent = plain.send("busybox", "echo here")
        if in_hand(server):
            return sent
        # The question had timed out just before: let the worker ask again, and serve what was sent.
        assert worker.process is not None
        os.kill(worker.process.pid, signal.SIGCONT)
        sent.get(timeout=RESULT_S)
        os.kill(worker.process.pid, signal.SIGSTOP)
    raise AssertionError("Redis never had an open question")


def test_a_worker_that_is_killed_with_a_message_on_its_way_to_it_loses_nothing(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    with asleep(worker):
        sent = sent_into_the_gap(worker, plain, clean_redis)
        assert queue_length(clean_redis) == 0
        worker.kill()
        worker.start()
        assert sent.get(timeout=RESULT_S)["output"] == "here\n"
        assert in_hand(clean_redis) == []
        assert worker.process is not None


def test_a_connection_that_breaks_with_a_message_on_its_way_loses_nothing(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    with asleep(worker):
        sent = sent_into_the_gap(worker, plain, clean_redis)
        with clean_redis.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    assert sent.get(timeout=RESULT_S)["output"] == "here\n"
    eventually(lambda: in_hand(clean_redis) == [], 20, "the list of taken messages to be empty")


def test_every_priority_and_every_queue_is_served(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-Q celery,night"):
        sent = [
            plain.app.send_task("tasks.run_docker", args=["busybox", "true"], queue=queue, priority=priority)
            for queue in ("celery", "night")
            for priority in (0, 3, 9)
        ]
        assert [result.get(timeout=RESULT_S)["state"] for result in sent] == ["succeeded"] * 6


def test_jobs_are_served_by_priority_and_then_in_their_order(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, folder: Path
) -> None:
    client = Client(clean_redis.url)
    for name, priority in (("c", 9), ("a", 0), ("d", 9), ("b", 3)):
        spec = JobSpec("busybox", ("sh", "-c", f"echo {name} >> /output/order"), outputpath=str(folder))
        client.submit(spec, priority=priority)
    client.close()
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_CONCURRENCY="1"):
        eventually(lambda: (folder / "order").exists() and (folder / "order").read_text() == "a\nb\nc\nd\n", RESULT_S)


def test_a_job_with_a_countdown_waits_in_redis_and_not_in_a_worker(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    sent = plain.app.send_task("tasks.run_docker", args=["busybox", "echo late"], countdown=3600)
    with clean_redis.client() as client:
        eventually(lambda: client.zscore(keys.DELAYED, sent.id), 20, "the job to wait in Redis")
        assert in_hand(clean_redis) == []
        worker.kill()
        worker.start()
        assert client.zscore(keys.DELAYED, sent.id) > time.time() + 3000
        client.zadd(keys.DELAYED, {sent.id: 1})
    assert sent.get(timeout=RESULT_S)["output"] == "late\n"


def test_a_job_that_expires_before_a_slot_is_free_never_runs(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """While all slots are busy, and without one: by our client, by a plain one, and by one whose message came late."""
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_CONCURRENCY="1") as worker:
        busy = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
        eventually((folder / "on").exists, 20)
        client = Client(clean_redis.url)
        ours = client.submit(JobSpec("busybox", ("true",)), expires_s=1).id
        client.close()
        result = plain.app.AsyncResult(ours)
        assert str(result.get(timeout=RESULT_S, propagate=False)).startswith("expired: ")
        assert result.backend.get_task_meta(ours)["receipt"]["state"] == "expired"
        past = datetime.now(UTC) - timedelta(hours=1)
        late = plain.app.send_task("tasks.run_docker", args=["busybox", "true"], expires=past)
        (folder / "go").touch()
        assert busy.get(timeout=RESULT_S)["state"] == "succeeded"
        assert str(late.get(timeout=RESULT_S, propagate=False)).startswith("expired: ")
        assert "attempt 1 runs" in worker.log
        assert worker.log.count("runs in container") == 1


def test_a_message_that_was_lost_is_published_again(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain
) -> None:
    """An operator's `DEL celery`, or an append-only file that was cut: the record still says that it waits."""
    client = Client(clean_redis.url)
    job_id = client.submit(JobSpec("busybox", ("echo", "again"))).id
    client.close()
    with clean_redis.client() as redis:
        redis.delete("celery")
        redis.zadd(keys.WAITING, {job_id: time.time() - 120})
    with Worker(clean_redis.url, dockerd):
        assert plain.app.AsyncResult(job_id).get(timeout=RESULT_S)["output"] == "again\n"


def test_a_redis_that_has_forgotten_all_scripts_gives_out_jobs(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    """As an administrator may have told it."""
    plain.send("busybox", "echo before").get(timeout=RESULT_S)
    with clean_redis.client() as client:
        client.script_flush()
    assert plain.send("busybox", "echo after").get(timeout=RESULT_S)["state"] == "succeeded"
