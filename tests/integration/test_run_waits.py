"""`celery-docker run` and its neighbours while a job waits, with a real worker."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests import servers
from tests.integration.test_run import called, ended, started
from tests.integration.test_worker import clean_redis
from tests.waiting import eventually
from tests.workers.registry import Registry
from tests.workers.worker import Worker

__all__ = ["clean_redis"]


def test_a_registry_that_is_down_is_told_at_once_and_at_each_try(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    """In `run`, and to whoever asks from elsewhere."""
    address = f"127.0.0.1:{servers.free_port()}"
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="8", CELERY_DOCKER_OPTS="-n one@lab") as worker:
        process = started(worker, tmp_path, "run", f"{address}/a/b:1", "true")
        assert process.stderr is not None
        failure = f"image '{address}/a/b:1' cannot be pulled now: "
        for attempt in (1, 2):
            line = process.stderr.readline()
            assert line.startswith(f"celery-docker: attempt {attempt} failed: {failure}")
            assert f"; attempt {attempt + 1} in " in line
        job_id = (tmp_path / ".local/state/celery-docker/last").read_text().strip()
        reason = f"attempt 2 failed: {failure}"
        assert reason in called(worker, tmp_path, "ps")[1]
        facts = called(worker, tmp_path, "status", job_id)[1].splitlines()
        assert [line for line in facts if line.startswith(f"waits      {reason}")]
        assert "attempts   2" in facts
        (row,) = [json.loads(text) for text in called(worker, tmp_path, "ps", "--json")[1].splitlines()]
        assert (row["wait"]["kind"], row["attempt"]) == ("retry", 2)
        (document,) = json.loads(called(worker, tmp_path, "inspect", job_id)[1])
        assert document["wait"]["reason"].startswith(reason)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143


def test_a_job_that_fails_says_so_at_each_end(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    line = ("run", "--retries", "2", "busybox", "sh", "-c", "exit 7")
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="1") as worker:
        status, out, err = called(worker, tmp_path, *line)
    assert (status, out) == (7, "")
    lines = err.splitlines()
    assert [line.partition("; ")[0] for line in lines] == [
        "celery-docker: attempt 1 failed: exit code 7",
        "celery-docker: attempt 2 failed: exit code 7",
        "celery-docker: exit code 7 (after 3 attempts)",
    ]
    assert "attempt 2" in lines[0].partition("; ")[2]


def test_a_silent_registry_is_told_as_a_pull(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-n one@lab") as worker, Registry() as silent:
        silent.speaks.clear()
        image = f"{silent.address}/group/slow:1.0"
        process = started(worker, tmp_path, "run", image, "true")
        assert process.stderr is not None
        assert process.stderr.readline() == f"celery-docker: pulling {image} on one@lab\n"
        assert f"pulling {image} on one@lab" in called(worker, tmp_path, "ps")[1]
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143
        silent.speaks.set()


def test_a_job_that_no_host_could_hold_is_told_everywhere(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    with Worker(
        clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-n one@lab", CELERY_DOCKER_MEMORY="1g", CELERY_DOCKER_CPUS="2"
    ) as worker:
        waits = "no host offers 64 GiB; the largest is one@lab with 1 GiB"
        process = started(worker, tmp_path, "run", "-m", "64g", "busybox", "true")
        assert process.stderr is not None
        assert process.stderr.readline() == f"celery-docker: {waits}: the job waits; see celery-docker doctor\n"
        assert waits in called(worker, tmp_path, "ps")[1]
        # Until its next heartbeat the host says that it starts, which is what all of its queue wait for then.
        eventually(lambda: f"waits      {waits}" in called(worker, tmp_path, "status")[1].splitlines())
        assert "queues     celery 1" in called(worker, tmp_path, "status")[1].splitlines()
        assert called(worker, tmp_path, "queue")[1:] == ("1\n", f"queue 'celery': {waits}\n")
        assert f"warn  queue: 1 job waits in 'celery': {waits} → " in called(worker, tmp_path, "doctor")[1]
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143
        job_id = called(worker, tmp_path, "submit", "-m", "64g", "busybox", "true")[1].strip()
        waiting = called(worker, tmp_path, "wait", "--timeout", "1s", job_id)[2]
        assert waiting.splitlines()[0] == f"celery-docker: {job_id[:8]}: {waits}: it waits; see celery-docker doctor"


def test_a_queue_that_no_worker_serves_is_told_everywhere(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-n one@lab") as worker:
        job_id = called(worker, tmp_path, "submit", "--queue", "night", "busybox", "true")[1].strip()
        waits = "no worker serves the queue 'night'"
        assert f"waits      {waits}" in called(worker, tmp_path, "status", job_id)[1].splitlines()
        assert waits in called(worker, tmp_path, "ps")[1]
        summary = called(worker, tmp_path, "status")[1].splitlines()
        assert ("queues     celery 0, night 1" in summary, f"waits      {waits}" in summary) == (True, True)
        line = ("batch", "--queue", "night", "--array", "1-3%1", "busybox", "true")
        batch_id = called(worker, tmp_path, *line)[1].strip()
        assert f": {waits}\n" in called(worker, tmp_path, "status", batch_id)[1]
        findings = called(worker, tmp_path, "doctor")[1]
        assert f"warn  queue: 2 jobs wait in 'night': {waits} → " in findings
