"""A worker whose Docker or Redis goes away: it says so, and goes on by itself when they are back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import Celery

from tests import services
from tests.conftest import require
from tests.integration.worker import Worker
from tests.waiting import eventually

RESULT_S = 90
READY = "0 jobs running, 2 of 2 slots free"


@pytest.fixture
def own_redis() -> Iterator[services.RedisServer]:
    """A redis-server for one test, which may stop it; it keeps its data."""
    require("redis", services.RedisServer.missing())
    with services.RedisServer({"appendonly": "yes"}) as server:
        yield server


def test_a_dead_docker_costs_no_job(own_dockerd: services.Dockerd, own_redis: services.RedisServer) -> None:
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
        assert worker.log.count("Docker answers again; takes new jobs again") == 1


def test_a_dead_redis_is_seen_in_the_status(dockerd: services.Dockerd, own_redis: services.RedisServer) -> None:
    with Worker(own_redis.url, dockerd) as worker:
        own_redis.end()
        eventually(
            lambda: worker.status.startswith("Takes no jobs: cannot reach Redis at redis://127"), 30, "to say so"
        )
        assert worker.status.endswith("; 0 jobs running")
        own_redis.start()
        eventually(lambda: worker.status == READY, 30, f"to be ready again: {worker.status}")
        assert worker.log.count("Redis answers again") == 1
