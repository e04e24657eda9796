"""Celery's events and answers, as Flower, celery-exporter and the celery command get them from a real worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from celery.result import AsyncResult

from tests import servers
from tests.integration.test_celery_surface import rows
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]


class Monitor:
    """The events that a monitor has got, in their order."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def of(self, job_id: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event.get("uuid") == job_id]

    def kinds(self, job_id: str) -> list[str]:
        return [event["type"].removeprefix("task-") for event in self.of(job_id)]

    def last(self, job_id: str, kind: str) -> dict[str, Any]:
        """Return the event of this kind, once it is the job's last."""
        eventually(lambda: self.kinds(job_id)[-1:] == [kind], RESULT_S, f"{kind}; events: {self.of(job_id)}")
        return self.of(job_id)[-1]


@contextmanager
def watching(plain: Plain) -> Iterator[Monitor]:
    """Collect the events from now on.

    By one subscription to the end: each `capture` makes its own, and what is sent between two is lost.
    """
    monitor = Monitor()
    with plain.app.connection_for_read() as connection:
        receiver = plain.app.events.Receiver(connection, handlers={"*": monitor.events.append})
        thread = Thread(target=receiver.capture, kwargs={"wakeup": False}, daemon=True)
        thread.start()

        def listens() -> bool:
            plain.app.control.heartbeat()
            return any(event["type"] == "worker-heartbeat" for event in monitor.events)

        eventually(listens, RESULT_S, "a heartbeat")
        plain.app.control.enable_events(reply=True, timeout=60, limit=1)
        try:
            yield monitor
        finally:
            # It looks at this each second.
            receiver.should_stop = True
            thread.join(RESULT_S)


@pytest.fixture
def monitor(worker: Worker, plain: Plain) -> Iterator[Monitor]:
    with watching(plain) as receiver:
        yield receiver
    assert "Traceback" not in worker.log


def test_a_job_is_told_from_its_arrival_to_its_end(monitor: Monitor, plain: Plain) -> None:
    sent = plain.send("busybox", "true")
    sent.get(timeout=RESULT_S)
    monitor.last(sent.id, "succeeded")
    assert monitor.kinds(sent.id) == ["received", "started", "succeeded"]


def test_the_traceback_of_a_failed_job_is_the_end_of_its_own_output(monitor: Monitor, plain: Plain) -> None:
    sent = plain.send("busybox", ["sh", "-c", "echo no such column; exit 3"], retries=0)
    event = monitor.last(sent.id, "failed")
    assert "failed: exit code 3" in event["exception"]
    assert event["traceback"] == "no such column\n"
    assert sent.traceback == "no such column\n"


def test_a_job_that_is_refused_was_never_started(monitor: Monitor, plain: Plain) -> None:
    sent = plain.send("busybox", "true", no_such_field=1)
    assert "no_such_field" in monitor.last(sent.id, "failed")["exception"]
    assert monitor.kinds(sent.id) == ["received", "failed"]


def test_a_retry_is_told(monitor: Monitor, plain: Plain) -> None:
    sent = plain.send("busybox", ["sh", "-c", "exit 3"], retries=1)
    monitor.last(sent.id, "failed")
    assert monitor.kinds(sent.id) == ["received", "started", "retried", "received", "started", "failed"]
    (retried,) = (event for event in monitor.of(sent.id) if event["type"] == "task-retried")
    assert retried["exception"] == "attempt 1: exit code 3; again in 0 s"


def test_a_running_job_that_is_cancelled_is_told_as_revoked(monitor: Monitor, plain: Plain, folder: Path) -> None:
    sent = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, 20, "the job to run")
    plain.app.control.revoke(sent.id)
    event = monitor.last(sent.id, "revoked")
    assert (event["terminated"], event["expired"]) == (True, False)


def test_a_queued_job_that_is_cancelled_is_told_as_revoked(monitor: Monitor, plain: Plain) -> None:
    sent = plain.app.send_task("tasks.run_docker", ["busybox", "true"], countdown=3600)
    eventually(lambda: monitor.kinds(sent.id) == ["received"], RESULT_S, "the message to be taken")
    plain.app.control.revoke(sent.id)
    assert monitor.last(sent.id, "revoked")["terminated"] is False
    assert sent.state == "REVOKED"


def test_a_job_that_waits_for_its_time_is_not_started(monitor: Monitor, plain: Plain) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=3)
    sent = plain.app.send_task("tasks.run_docker", ["busybox", "true"], eta=moment)
    eventually(lambda: "received" in monitor.kinds(sent.id), RESULT_S, "the message to be taken")
    assert sent.get(timeout=RESULT_S)["state"] == "succeeded"
    monitor.last(sent.id, "succeeded")
    (started,) = (event for event in monitor.of(sent.id) if event["type"] == "task-started")
    assert started["timestamp"] >= moment.timestamp()


@pytest.mark.parametrize("command", ["true", "false"])
def test_a_client_that_wants_no_result_finds_none(
    command: str, worker: Worker, plain: Plain, clean_redis: servers.RedisServer
) -> None:
    sent: AsyncResult = plain.app.send_task(
        "tasks.run_docker", ["busybox", command], {"retries": 1}, ignore_result=True
    )
    end = "succeeded" if command == "true" else "failed"
    eventually(lambda: f"job {sent.id}: {end}" in worker.log, RESULT_S, "the end of the job")
    plain.succeed("busybox", "true")
    with clean_redis.client() as client:
        assert client.exists(f"celery-task-meta-{sent.id}") == 0


def test_every_event_of_the_page_is_sent(dockerd: servers.Dockerd, clean_redis: servers.RedisServer) -> None:
    """docs/CELERY.md lists them; a job's whole life, and a worker's, has all of them."""
    names = {name for row in rows() if row.section == "Events" for name in row.names if row.verdict == "honoured"}
    plain = Plain(clean_redis.url)
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0") as process, watching(plain) as receiver:
        plain.succeed("busybox", "true")
        plain.fail("busybox", ["sh", "-c", "exit 3"], retries=1)
        cancelled = plain.send("busybox", "sleep 60")
        eventually(lambda: cancelled.state == "STARTED", RESULT_S, "the job to run")
        plain.app.control.revoke(cancelled.id)
        receiver.last(cancelled.id, "revoked")
        process.kill()
        process.start()
        process.terminate()
        process.wait()
        eventually(lambda: names <= {event["type"] for event in receiver.events}, RESULT_S, f"all of {sorted(names)}")
        assert {"task-rejected", "task-sent"}.isdisjoint(event["type"] for event in receiver.events)
    plain.app.close()


def test_a_worker_shows_its_statistics_and_settings_without_secrets(dockerd: servers.Dockerd) -> None:
    with servers.RedisServer({"requirepass": "s3cret"}) as server, Worker(server.url, dockerd):
        plain = Plain(server.url)
        inspect = plain.app.control.inspect(timeout=5)
        (stats,) = inspect.stats().values()
        assert stats["pool"]["max-concurrency"] == 2
        (conf,) = inspect.conf(with_defaults=True).values()
        assert conf["task_default_queue"] == "celery"
        (report,) = inspect.report().values()
        assert "s3cret" not in json.dumps([stats, conf, report])
        plain.app.close()


def test_the_same_id_with_other_arguments_is_told_in_the_journal(worker: Worker, plain: Plain) -> None:
    first = plain.send("busybox", "echo one")
    assert first.get(timeout=RESULT_S)["output"] == "one\n"
    plain.app.send_task("tasks.run_docker", ["busybox", "echo two"], task_id=first.id)
    eventually(lambda: f"job {first.id}: a second delivery was dropped: its arguments differ" in worker.log, RESULT_S)
    assert plain.app.AsyncResult(first.id).get()["output"] == "one\n"


@pytest.mark.parametrize(("own", "seconds"), [({}, 1), ({"timeout": 60}, 1)])
def test_a_time_limit_of_celery_ends_a_job(own: dict[str, int], seconds: int, worker: Worker, plain: Plain) -> None:
    sent = plain.app.send_task("tasks.run_docker", ["busybox", "sleep 60"], own, time_limit=seconds)
    error = sent.get(timeout=RESULT_S, propagate=False)
    assert str(error).startswith(f"timed_out: ran longer than its timeout of {seconds} s")
