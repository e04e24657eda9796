"""What a job brings is whole when its container starts, though worker or Redis went away while it was put there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.integration.test_fields import TEXT, remains, volumes
from tests.integration.test_worker import RESULT_S, Plain, folder
from tests.waiting import eventually
from tests.workers.dockergate import Gate
from tests.workers.worker import Worker

__all__ = ["folder"]

SCRIPT = """#!/bin/sh
echo run >> /output/runs
[ "$(ls -A ~)" = "" ] || exit 9
touch ~/needle-8; md5sum; tail -n 1 $0
# the last line"""
EXPECTED = f"{hashlib.md5(TEXT.encode()).hexdigest()}  -\n# the last line"  # noqa: S324  # busybox has it
CREATE, FILL, START = "POST [^ ]*/containers/create", "PUT [^ ]*/archive", "POST [^ ]*/start"


@pytest.fixture
def broker() -> Iterator[servers.RedisServer]:
    """One that may go away, and comes back with all that it had."""
    with servers.RedisServer({"appendonly": "yes"}) as server:
        yield server


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize(
    ("stops", "answered"), [(CREATE, True), (FILL, False), (FILL, True), (START, False), (START, True)]
)
def test_a_worker_that_is_killed_in_the_middle(
    broker: servers.RedisServer, dockerd: servers.Dockerd, folder: Path, stops: str, answered: bool, read_only: bool
) -> None:
    """At a start that Docker has heard of, the container runs on; before that it is made anew."""
    with Gate(dockerd, stops, answered=answered) as gate, _worker(broker, dockerd, gate) as worker:
        sent = Plain(broker.url).send(
            "busybox", script=SCRIPT, stdin=TEXT, scratch=True, read_only=read_only, outputpath=str(folder), retries=0
        )
        assert gate.reached.wait(RESULT_S)
        worker.kill()
        gate.cut()
        gate.go_on()
        worker.start()
        assert sent.get(timeout=RESULT_S)["output"] == EXPECTED
        _is_over(worker, dockerd, folder)


@pytest.mark.parametrize("away", ["redis", "docker's answer"])
@pytest.mark.parametrize("stops", [CREATE, FILL])
def test_redis_or_docker_goes_away_in_the_middle(
    broker: servers.RedisServer, dockerd: servers.Dockerd, folder: Path, stops: str, away: str
) -> None:
    """The same worker goes on; half of an archive, or a container that nobody heard of, is no start."""
    with Gate(dockerd, stops, answered=stops == CREATE) as gate, _worker(broker, dockerd, gate) as worker:
        sent = Plain(broker.url).send(
            "busybox", script=SCRIPT, stdin=TEXT, scratch=True, read_only=True, outputpath=str(folder), retries=0
        )
        assert gate.reached.wait(RESULT_S)
        if away == "redis":
            broker.kill()
            gate.go_on()
            eventually(lambda: "Redis" in worker.log, RESULT_S, "the worker to notice")
            broker.start()
        else:
            gate.cut()
            gate.go_on()
        assert sent.get(timeout=RESULT_S)["output"] == EXPECTED
        _is_over(worker, dockerd, folder)


def _worker(broker: servers.RedisServer, dockerd: servers.Dockerd, gate: Gate) -> Worker:
    return Worker(broker.url, dockerd, CELERY_DOCKER_DOCKER_HOST=f"unix://{gate.socket}", CELERY_DOCKER_RETRY_DELAY="0")


def _is_over(worker: Worker, dockerd: servers.Dockerd, folder: Path) -> None:
    """The script ran once, and nothing of it is left."""
    assert (folder / "runs").read_text() == "run\n"
    eventually(
        lambda: dockerd.containers() == volumes(dockerd) == remains(dockerd, "needle-8") == worker.pins == [],
        RESULT_S,
        "nothing to be left",
    )
