"""A job's log file is its output, byte for byte, whatever happens to worker and Docker while it runs."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client.client import Client
from celery_docker.core.lifecycle import State
from tests import servers
from tests.conftest import require
from tests.outputs import OUTPUTS
from tests.waiting import eventually
from tests.workers.worker import Worker

# Prints the input in 40 parts, and waits behind the 10th and the 25th for a file of that name.
_SCRIPT = """
size=$(stat -c %s /input); part=$((size / 40 + 1)); n=0
while [ $n -lt 40 ]; do
  dd if=/input bs=$part skip=$n count=1 2>/dev/null; n=$((n + 1))
  case $n in 10|25) touch /output/at-$n; until [ -e /output/go-$n ]; do sleep 0.05; done;; esac
done
"""
# A line in three parts.
_LINE = """
printf 'first part, '; until [ -e /output/go-1 ]; do sleep 0.05; done
printf 'second part, '; until [ -e /output/go-2 ]; do sleep 0.05; done
printf 'third part\\nanother line\\n'
"""


class Host:
    """A worker, its Docker with live-restore, and a job in two halves."""

    def __init__(self, worker: Worker, dockerd: servers.Dockerd, folder: Path) -> None:
        self.worker = worker
        self.dockerd = dockerd
        self.folder = folder

    def hand_over(self) -> None:
        self.worker.hand_over()
        self.worker.wait()
        self.worker.start()

    def kill_worker(self) -> None:
        self.worker.kill()
        self.worker.start()

    def restart_docker(self) -> None:
        self.dockerd.restart()

    def kill_docker(self) -> None:
        self.dockerd.kill()
        self.dockerd.start()

    def gaps(self) -> int:
        """Return how many logs the worker found that lack an unfinished line."""
        return self.worker.log.count("Docker's log lacks ")


@pytest.fixture(scope="module")
def live(redis_server: servers.RedisServer) -> Iterator[tuple[Worker, servers.Dockerd]]:
    require("docker", servers.Dockerd.missing())
    with servers.Dockerd("--live-restore=true") as dockerd:
        dockerd.import_busybox()
        with Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY=str(len(OUTPUTS))) as worker:
            yield worker, dockerd
        assert dockerd.containers() == []
    with redis_server.client() as client:
        client.flushall()


# What happens in the midst of a line, and what happens later. A Docker that goes takes an unfinished line along that it
# has given to nobody; the worker that is attached has it, one that reads Docker's log has not: that stands second here.
FAULTS: dict[str, tuple[Callable[[Host], None], Callable[[Host], None]]] = {
    "two handovers": (Host.hand_over, Host.hand_over),
    "kill -9 of the worker, twice": (Host.kill_worker, Host.kill_worker),
    "restart of Docker, then handover": (Host.restart_docker, Host.hand_over),
    "kill -9 of Docker, then of the worker": (Host.kill_docker, Host.kill_worker),
}
GOES_WITH_DOCKER = (Host.restart_docker, Host.kill_docker)


@pytest.mark.parametrize("fault", FAULTS)
def test_the_log_file_is_the_output(
    live: tuple[Worker, servers.Dockerd], tmp_path: Path, redis_server: servers.RedisServer, fault: str
) -> None:
    """Jobs with outputs of all kinds at once."""
    worker, dockerd = live
    host = Host(worker, dockerd, tmp_path)
    client = Client(redis_server.url)
    jobs = {}
    for number, (name, output) in enumerate(OUTPUTS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "input").write_bytes(output)
        paths: dict[str, Any] = {"inputpath": str(folder / "input"), "outputpath": str(folder)}
        job = client.submit("busybox", ["sh", "-c", _SCRIPT], retries=0, logoutfile=str(folder / "log"), **paths)
        jobs[name] = (job, folder)
    unfinished = sum(_first_part(output)[-1:] not in (b"", b"\n") for output in OUTPUTS.values())
    for part in (10, 25):
        for name, (_, folder) in jobs.items():
            eventually((folder / f"at-{part}").exists, 60, f"part {part} of {name}")
            if part == 10:  # a later worker gets the beginning of a line with its end
                expected = _first_part(OUTPUTS[name])
                eventually(lambda: _log(folder) == expected, 60, f"the log of {name}")  # noqa: B023
        counted = host.gaps()
        FAULTS[fault][part == 25](host)
        if FAULTS[fault][part == 25] in GOES_WITH_DOCKER:
            # A worker that is killed before it has counted what Docker forgot cannot tell the next one.
            eventually(lambda: host.gaps() - counted == unfinished, 60, "the worker to count what Docker forgot")  # noqa: B023
        for _, folder in jobs.values():
            (folder / f"go-{part}").touch()
    for name, (job, folder) in jobs.items():
        assert job.wait(timeout=120) is State.SUCCEEDED, name
        log = _log(folder)
        assert log == OUTPUTS[name], f"{name}: {len(log)} bytes instead of {len(OUTPUTS[name])}"
        assert (job.receipt or {})["stdout_bytes"] == len(OUTPUTS[name]), name
    client.close()


def test_docker_itself_forgets_an_unfinished_line_and_nothing_else_is_missing(
    live: tuple[Worker, servers.Dockerd], tmp_path: Path, redis_server: servers.RedisServer
) -> None:
    """It passes the bytes on to those who are attached, and writes them down at the end of the line: dockerd's memory
    is the only place where they are. A worker reads the log after the first restart, so the second one costs them.
    """
    worker, dockerd = live
    host, client = Host(worker, dockerd, tmp_path), Client(redis_server.url)
    tmp_path.chmod(0o777)
    job = client.submit(
        "busybox", ["sh", "-c", _LINE], retries=0, logoutfile=str(tmp_path / "log"), outputpath=str(tmp_path)
    )
    eventually(lambda: _log(tmp_path) == b"first part, ", 60, "the first part in the log")
    counted = host.gaps()
    dockerd.restart()
    eventually(lambda: host.gaps() == counted + 1, 60, "the worker to count what Docker forgot")
    (listed,) = json.loads(dockerd.request("GET", "/containers/json")[1])
    with closing(_attached(dockerd, listed["Id"])) as stream:
        (tmp_path / "go-1").touch()
        received = b""
        while b"second part, " not in received:
            received += stream.recv(4096)
    logs = list(dockerd.folder.joinpath("data/containers", listed["Id"]).rglob("*.log"))
    assert logs
    dockerd.restart()
    assert [path.read_bytes() for path in logs] == [b""] * len(logs)
    (tmp_path / "go-2").touch()
    assert job.wait(timeout=120) is State.SUCCEEDED
    assert _log(tmp_path) == b"first part, third part\nanother line\n"
    assert (job.receipt or {})["stdout_bytes"] == len(_log(tmp_path))
    client.close()


def _attached(dockerd: servers.Dockerd, container_id: str) -> socket.socket:
    """Return a connection with what a container prints from now on."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(dockerd.socket))
    head = f"POST /containers/{container_id}/attach?stream=1&stdout=1 HTTP/1.1\r\nHost: docker\r\n"
    connection.sendall(f"{head}Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n".encode())
    assert b" 101 " in connection.recv(4096)
    return connection


def _first_part(output: bytes) -> bytes:
    """Return what is printed before the first fault."""
    return output[: (len(output) // 40 + 1) * 10]


def _log(folder: Path) -> bytes:
    log = folder / "log"
    return log.read_bytes() if log.exists() else b""
