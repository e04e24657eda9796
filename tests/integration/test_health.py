"""A worker whose Docker or Redis goes away: it says so, and goes on by itself when they are back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery

from tests import servers
from tests.conftest import require
from tests.waiting import eventually
from tests.workers.worker import Worker

RESULT_S = 90
READY = "0 jobs running, 2 of 2 slots free"


@pytest.fixture
def own_redis() -> Iterator[servers.RedisServer]:
    """A redis-server for one test, which may stop it; it keeps its data."""
    require("redis", servers.RedisServer.missing())
    with servers.RedisServer({"appendonly": "yes"}) as server:
        yield server


def test_a_dead_docker_costs_no_job(own_dockerd: servers.Dockerd, own_redis: servers.RedisServer) -> None:
    """The status line says why nothing is taken, at once; a job met it, and runs once Docker is back."""
    with (
        Worker(own_redis.url, own_dockerd, CELERY_DOCKER_RETRY_DELAY="1") as worker,
        Celery(broker=own_redis.url, backend=own_redis.url, set_as_current=False) as plain,
    ):
        own_dockerd.end()
        sent = plain.send_task("tasks.run_docker", args=["busybox", "echo hello"])
        eventually(lambda: worker.status.startswith("Takes no jobs: cannot reach Docker at unix:/"), 10, "to say so")
        assert "start docker.service; " in worker.status
        own_dockerd.start()
        assert sent.get(timeout=RESULT_S)["output"] == "hello\n"
        eventually(lambda: worker.status == READY, 20, f"to be ready again: {worker.status}")
        assert worker.log.count("takes no new jobs: cannot reach Docker") == 1
        # The gate opens a moment before it is said.
        eventually(lambda: worker.log.count("Docker answers again; takes new jobs again") == 1, 10, "the log to say so")


def test_a_dead_redis_is_seen_in_the_status(dockerd: servers.Dockerd, own_redis: servers.RedisServer) -> None:
    with Worker(own_redis.url, dockerd) as worker:
        own_redis.end()
        eventually(
            lambda: worker.status.startswith("Takes no jobs: cannot reach Redis at redis://127"), 30, "to say so"
        )
        assert worker.status.endswith("; 0 jobs running")
        own_redis.start()
        eventually(lambda: worker.status == READY, 30, f"to be ready again: {worker.status}")
        assert worker.log.count("Redis answers again") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with a disk of its own, which is too small."""
    require("docker", servers.Dockerd.missing())
    mount("-t", "tmpfs", "-o", "size=8m", "none", str(tmp_path))
    yield tmp_path
    subprocess.run(["umount", "-l", tmp_path], check=True, timeout=60)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, timeout=60)


def test_a_full_disk_is_seen_and_room_too(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, small_disk: Path
) -> None:
    with Worker(own_redis.url, dockerd, LOGS_DIRECTORY=str(small_disk)) as worker:
        full = f"Takes no jobs: the disk of {small_disk} is full: 8 MiB free; make room; 0 jobs running"
        eventually(lambda: worker.status == full, 10, "to say so")
        mount("-o", "remount,size=64m,nr_inodes=1000", str(small_disk))
        eventually(lambda: worker.status == READY, 20, f"to be ready again: {worker.status}")
