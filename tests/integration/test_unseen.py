"""Docker is killed in the instant in which it starts a container, and containerd goes on with the start."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import require
from tests.integration.test_worker import RESULT_S, Plain, clean_redis, folder, plain
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain"]

# Docker is killed before it has written down that the container runs in about every other try.
_TRIES = 20


@pytest.fixture
def apart() -> Iterator[servers.ApartDockerd]:
    require("docker", servers.Dockerd.missing())
    with servers.ApartDockerd("--live-restore=true") as server:
        server.import_busybox()
        yield server
    assert server.leftovers() == []


def test_a_container_of_which_docker_does_not_know_runs_alone(
    clean_redis: servers.RedisServer, plain: Plain, folder: Path, apart: servers.ApartDockerd
) -> None:
    """The job runs once in any case; where Docker does not know of it, its end is an error that says so."""
    ends: list[str] = []
    with Worker(clean_redis.url, apart, CELERY_DOCKER_RETRY_DELAY="0") as worker:
        while len(ends) < _TRIES and not any("nobody knows how it ended" in end for end in ends):
            script = f"echo start >> /output/{len(ends)}; sleep 3; echo end >> /output/{len(ends)}"
            job = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), user="root", retries=0)
            apart.kill_as_it_starts()
            apart.start()
            ends.append(str(job.get(timeout=RESULT_S, propagate=False)))
            assert (folder / str(len(ends) - 1)).read_text() == "start\nend\n", worker.log[-3000:]
            eventually(lambda: not apart.commands(), 20, "no process left")
        assert "error: Docker was killed as it started the container" in ends[-1], ends
        assert "to end it: kill " in worker.log
        eventually(lambda: apart.containers() == [], 20, "no container left")
