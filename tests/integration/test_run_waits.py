"""`celery-docker run` and its neighbours while a job waits, with a real worker."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from celery import Celery

from tests import servers
from tests.integration.test_run import ended, started
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
        shown = f"attempt 2 failed: {failure}"
        assert shown in ended(started(worker, tmp_path, "ps"))[1]
        facts = ended(started(worker, tmp_path, "status", job_id))[1].splitlines()
        assert [line for line in facts if line.startswith(f"waits      {shown}")]
        assert "attempts   2" in facts
        (row,) = [json.loads(text) for text in ended(started(worker, tmp_path, "ps", "--json"))[1].splitlines()]
        assert (row["wait"]["kind"], row["attempt"]) == ("retry", 2)
        (document,) = json.loads(ended(started(worker, tmp_path, "inspect", job_id))[1])
        assert document["wait"]["reason"].startswith(shown)
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143


def test_a_job_that_fails_says_so_at_each_end(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    """With the retries that workers give it when nothing else is asked for."""
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_MAX_RETRIES="2", CELERY_DOCKER_RETRY_DELAY="1") as worker:
        status, out, err = ended(started(worker, tmp_path, "run", "busybox", "sh", "-c", "exit 7"))
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
        assert f"pulling {image} on one@lab" in ended(started(worker, tmp_path, "ps"))[1]
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143
        silent.speaks.set()


def test_a_queue_that_no_worker_serves_any_more_is_told_everywhere(
    dockerd: servers.Dockerd, clean_redis: servers.RedisServer, tmp_path: Path
) -> None:
    """A Celery client has taken it from the worker, which still looks well otherwise."""
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-n one@lab") as worker:
        Celery(broker=clean_redis.url).control.cancel_consumer("celery", reply=True, timeout=10)
        reason = "it serves no queue, after cancel_consumer; systemctl restart celery-worker"
        eventually(lambda: worker.status == f"Takes no jobs: {reason}; 0 jobs running", 20, "the status")
        job_id = ended(started(worker, tmp_path, "submit", "busybox", "true"))[1].strip()
        waits = "no worker serves the queue 'celery'"
        # With its next heartbeat, other hosts know too.
        eventually(lambda: waits in ended(started(worker, tmp_path, "status", job_id))[1], 30, "the reason")
        assert waits in ended(started(worker, tmp_path, "status"))[1]
        (row,) = ended(started(worker, tmp_path, "workers"))[1].splitlines()[1:]
        assert ("sick" in row, row.endswith(f"Takes no jobs: {reason}; 0 jobs running")) == (True, True)
        findings = ended(started(worker, tmp_path, "doctor"))[1]
        assert f"warn  queue: 1 job waits in 'celery': {waits} → " in findings
