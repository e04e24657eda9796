"""Fixtures of the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from celery_docker.client.client import Client
from celery_docker.engine.dockerd import DockerEngine
from tests import servers
from tests.conftest import require
from tests.workers.registry import Registry
from tests.workers.worker import Worker


@pytest.fixture(scope="module")
def server() -> Iterator[servers.RedisServer]:
    """A Redis of the module's own, whose worker outlives each test."""
    with servers.RedisServer() as redis:
        yield redis


@pytest.fixture(scope="module")
def steady(server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    """One worker for all tests of a module: what one of them does to it, the next would see, or a job at the end."""
    with Worker(server.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0") as worker:
        yield worker
        with closing(Client(server.url)) as client:
            assert client.submit("busybox", "true").wait(60) == "succeeded"


@pytest.fixture
def engine(dockerd: servers.Dockerd) -> Iterator[DockerEngine]:
    """The adapter of the tests' Docker, in which no container is left."""
    engine = DockerEngine(dockerd.url, connections=16)
    yield engine
    engine.close()
    dockerd.remove_containers()


@pytest.fixture
def own_dockerd() -> Iterator[servers.Dockerd]:
    """A dockerd for one test, which may restart, stop and kill it."""
    require("docker", servers.Dockerd.missing())
    with servers.Dockerd() as server:
        server.import_busybox()
        yield server
    assert server.leftovers() == []


@pytest.fixture
def old_dockerd(dockerd: servers.Dockerd) -> Iterator[servers.Dockerd]:
    """A dockerd that is too old for us."""
    with servers.OldDockerd(dockerd.api) as server:
        yield server
    assert server.leftovers() == []


@pytest.fixture
def registry() -> Iterator[Registry]:
    """A registry on 127.0.0.1, which a test can make fail."""
    with Registry() as server:
        yield server
