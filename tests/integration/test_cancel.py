"""The cost of a cancel: thousands of queued jobs end without a slot for each, and hold nobody up."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from celery import chord

from celery_docker.client.client import Client
from celery_docker.core import journal
from celery_docker.store import keys
from tests import servers
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain, queue_length, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]

MANY = 1200


def test_a_cancelled_batch_ends_without_slots_and_the_next_job_starts(
    worker: Worker,
    plain: Plain,
    clean_redis: servers.RedisServer,
    folder: Path,
) -> None:
    """Both slots are busy while the batch is cancelled: its messages are dropped when a slot looks for the next job."""
    client = Client(clean_redis.url)
    busy = [plain.send("busybox", ["sh", "-c", WAIT], outputpath=str(folder)) for _ in range(2)]
    eventually(lambda: worker.status.startswith("2 jobs running"), 20, "both slots to be busy")
    batch = client.map(lambda number: {"image": "busybox", "command": f"echo {number}"}, range(MANY))
    last = client.submit("busybox", "echo fine")
    batch.cancel()
    eventually(lambda: {job.state for job in batch.jobs()} == {"cancelled"}, RESULT_S, "the batch to end")
    assert [result.get(timeout=0, propagate=False) for result in busy if result.ready()] == []
    (folder / "go").touch()
    assert last.wait(RESULT_S) == "succeeded"
    assert {result.get(timeout=RESULT_S)["state"] for result in busy} == {"succeeded"}
    assert queue_length(clean_redis) == 0
    first = next(iter(batch.jobs()))
    result = plain.app.AsyncResult(first.id)
    eventually(lambda: result.state == "REVOKED", RESULT_S, "the result of a cancelled job")
    assert first.receipt is not None
    assert first.receipt["state"] == "cancelled"
    counts = re.findall(r"(\d+) queued jobs ended: cancelled", worker.log)
    assert sum(map(int, counts)) == MANY
    assert len(counts) <= MANY // journal.MOST_JOBS + 1, "a line for as many jobs as one entry can name"
    assert "second delivery was dropped" not in worker.log
    client.close()


def test_many_jobs_of_a_plain_client_are_revoked_at_once(
    worker: Worker,
    plain: Plain,
    clean_redis: servers.RedisServer,
    folder: Path,
) -> None:
    """Nobody has read their messages when the revoke comes."""
    busy = [plain.send("busybox", ["sh", "-c", WAIT], outputpath=str(folder)) for _ in range(2)]
    eventually(lambda: worker.status.startswith("2 jobs running"), 20, "both slots to be busy")
    results = [plain.send("busybox", "echo no") for _ in range(30)]
    plain.app.control.revoke([result.id for result in results])
    eventually(lambda: {result.state for result in results} == {"REVOKED"}, RESULT_S, "all to be revoked")
    (folder / "go").touch()
    assert {result.get(timeout=RESULT_S)["state"] for result in busy} == {"succeeded"}
    assert plain.succeed("busybox", "echo fine")["output"] == "fine\n"
    assert "second delivery was dropped" not in worker.log


def test_a_revoke_while_a_reload_is_under_way_holds(
    worker: Worker, plain: Plain, folder: Path, clean_redis: servers.RedisServer
) -> None:
    """No process listens when it comes: the leaving one has left a socket behind that does."""
    running = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, 20, "the job to run")
    queued = plain.app.send_task("tasks.run_docker", ["busybox", "true"], queue="unserved")
    worker.hand_over()
    assert worker.wait() == 0
    plain.app.control.revoke([running.id, queued.id])
    plain.app.control.revoke("for-another", destination=["celery@elsewhere"])
    worker.start()
    eventually(lambda: {running.state, queued.state} == {"REVOKED"}, RESULT_S, "the revoke to hold")
    assert plain.app.AsyncResult("for-another").state == "PENDING"
    worker.hand_over()
    worker.wait()
    worker.start()
    assert plain.succeed("busybox", "echo fine")["output"] == "fine\n"
    with clean_redis.client() as client:
        assert client.pubsub_numsub("/0.celery.pidbox") == [(b"/0.celery.pidbox", 0)], "a socket of an earlier process"


def test_a_chord_ends_when_one_of_its_jobs_is_cancelled_before_it_runs(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    """Its body never runs, and whoever waits for it is told so; also where the cancel comes before the message."""

    def job(**options: Any) -> Any:
        return plain.app.signature("tasks.run_docker", args=["busybox", "true"], immutable=True, options=options)

    result = chord([job(), job(task_id="late", countdown=3600)], job(), app=plain.app).apply_async()
    with clean_redis.client() as client:
        eventually(lambda: client.hexists(keys.job("late"), "message"), RESULT_S, "the message to be read")
    plain.app.control.revoke("late")
    plain.app.control.revoke("early")
    eventually(lambda: plain.app.AsyncResult("early").state == "REVOKED", RESULT_S, "the cancel of what is not there")
    other = chord([job(), job(task_id="early")], job(), app=plain.app).apply_async()
    for awaited in (result, other):
        assert "revoked by a Celery client" in str(awaited.get(timeout=RESULT_S, propagate=False))
    assert "Traceback" not in worker.log
    assert "could not be told" not in worker.log
