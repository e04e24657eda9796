"""GPUs without a GPU: Docker gives them out by a program that NVIDIA installs, and here that program does nothing.

So the container is told which GPUs it has, in a variable, and none of them is there.
"""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import socketserver
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.client.handles import Job
from celery_docker.core import container, plan
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from celery_docker.core.plan import Resolved
from celery_docker.core.policy import Policy
from celery_docker.store import keys
from tests import servers
from tests.conftest import require
from tests.integration.test_room import HELD, parked
from tests.integration.test_room import broker as broker
from tests.integration.test_room import client as client
from tests.integration.test_room import folder as folder
from tests.waiting import eventually
from tests.workers.roomsampler import Leases
from tests.workers.worker import Worker

SEE = "echo $NVIDIA_VISIBLE_DEVICES"
FOUR = {"CELERY_DOCKER_CONCURRENCY": "8", "CELERY_DOCKER_GPUS": "device=0,1,2,3", "CELERY_DOCKER_CPUS": "64"}
_WITH_GPUS = quote(json.dumps({"status": ["running"], "label": [container.LABEL_GPUS]}))


@pytest.fixture(scope="module")
def nvidia() -> Iterator[servers.Dockerd]:
    """A Docker that finds NVIDIA's program at its start."""
    require("docker", servers.Dockerd.missing())
    server = servers.Dockerd()
    hook = server.folder / "bin" / "nvidia-container-runtime-hook"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\n")
    hook.chmod(0o755)
    server.environ = {**os.environ, "PATH": f"{hook.parent}:{os.environ['PATH']}"}
    with server:
        server.import_busybox()
        yield server
    assert server.leftovers() == []


def submit(client: Client, gpus: Any, command: str = SEE, folder: Path | None = None) -> Job:
    spec = JobSpec("busybox", ("sh", "-c", command), gpus=gpus, outputpath=str(folder) if folder else None, retries=0)
    return client.submit(spec)


def output(job: Job) -> str:
    assert job.wait(120) == State.SUCCEEDED, job.result()
    return str(job.result()["output"])


def test_each_gpu_is_one_jobs_at_a_time(
    broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client, folder: Path
) -> None:
    """Of sixteen jobs, some with two, on eight slots; those that ask for none have none."""
    leases = Leases(nvidia)
    with Worker(broker.url, nvidia, **FOUR), leases:
        jobs = [submit(client, 1 + (number % 4 == 3), f"{SEE}; {HELD}", folder) for number in range(16)]
        none = submit(client, None)
        eventually(lambda: leases.now() == ["0", "1", "2", "3"], 60, "four jobs to run")
        (folder / "go").touch()
        seen = [output(job).strip().split(",") for job in jobs]
        assert output(none) == "\n"
    assert [len(names) for names in seen] == [1 + (number % 4 == 3) for number in range(16)]
    assert {name for names in seen for name in names} == {"0", "1", "2", "3"}
    assert leases.shared == []


def test_those_that_a_job_names_and_all(
    broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client, folder: Path
) -> None:
    """One that is in use is waited for, and others go first."""
    with Worker(broker.url, nvidia, **FOUR):
        first = submit(client, ("2",), f"{SEE}; {HELD}", folder)
        eventually(lambda: first.state is State.RUNNING, 60, "the first job to run")
        named, every = submit(client, ("2", "0")), submit(client, "all")
        eventually(lambda: parked(broker) == 2, 60, "two jobs to wait")
        assert output(submit(client, ("3",))) == "3\n"
        assert output(submit(client, 2)) == "0,1\n"
        (folder / "go").touch()
        assert [output(job) for job in (first, named, every)] == ["2\n", "2,0\n", "0,1,2,3\n"]


def test_a_parked_job_has_all_gpus_that_its_host_offers_by_now(
    broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client, folder: Path
) -> None:
    """It was parked with what all of them were before a reload."""
    with Worker(broker.url, nvidia, **FOUR) as worker:
        first = submit(client, 1, HELD, folder)
        eventually(lambda: first.state is State.RUNNING, 60, "the first job to run")
        every = submit(client, "all")
        eventually(lambda: parked(broker) == 1, 60, "it to wait")
        worker.hand_over()
        assert worker.wait() == 0
        worker.start({"CELERY_DOCKER_GPUS": "device=0,1"})
        (folder / "go").touch()
        assert output(every) == "0,1\n"


@pytest.mark.parametrize("way", ["kill", "hand over"])
def test_gpus_in_use_stay_so_in_the_next_process(
    broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client, folder: Path, way: str
) -> None:
    leases = Leases(nvidia)
    with Worker(broker.url, nvidia, **FOUR) as worker, leases:
        held = [submit(client, 1, f"{SEE}; {HELD}", folder) for _ in range(3)]
        eventually(lambda: leases.now() == ["0", "1", "2"], 60, "three jobs to run")
        if way == "kill":
            worker.kill()
        else:
            worker.hand_over()
            assert worker.wait() == 0
        worker.start()
        assert output(submit(client, 1)) == "3\n"
        waiting = submit(client, 2)
        eventually(lambda: parked(broker) == 1, 60, "one to wait")
        # Of a container that is killed the GPU is free, too.
        _, body = nvidia.request("GET", f"/containers/json?filters={_WITH_GPUS}")
        (killed,) = (row["Id"] for row in json.loads(body) if row["Labels"][container.LABEL_GPUS] == "1")
        nvidia.request("POST", f"/containers/{killed}/kill")
        assert output(waiting) == "1,3\n"
        (folder / "go").touch()
        assert sorted(job.wait(120) for job in held) == sorted([State.SUCCEEDED, State.SUCCEEDED, State.FAILED])
    assert leases.shared == []


def test_what_no_host_has_is_waited_for(broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client) -> None:
    with Worker(broker.url, nvidia, **FOUR):
        jobs = [submit(client, ("7",)), submit(client, 5)]
        eventually(lambda: parked(broker) == 2, 60, "them to wait")
        assert output(submit(client, 1)) == "0\n"
        for job in jobs:
            job.cancel()
            assert job.wait(60) == State.CANCELLED


def test_a_host_without_gpus_gives_none(broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client) -> None:
    with Worker(broker.url, nvidia, CELERY_DOCKER_GPUS="0"):
        job = submit(client, "all")
        eventually(lambda: parked(broker) == 1, 60, "it to wait")
        job.cancel()
        assert job.wait(60) == State.CANCELLED


def test_no_gpus_by_the_policy(broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client) -> None:
    worker = Worker(broker.url, nvidia, **FOUR)
    worker.policy.write_text(f"gpus = false\n{worker.policy.read_text()}")
    with worker:
        job = submit(client, 1)
        assert job.wait(60) == State.REJECTED
        with pytest.raises(errors.JobFailed, match="gpus: a job may have none on this host; rule gpus = false"):
            job.result()


# GPUs that a host offers, and cannot give


def reasons(broker: servers.RedisServer, job: Job) -> str:
    """Return why a job was put off, as its record says it."""
    with broker.client(decode_responses=True) as redis:
        return str(redis.hget(keys.job(job.id), "attempts"))


def test_gpus_that_docker_cannot_give_are_the_hosts_fault(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client
) -> None:
    """Docker has found no program of NVIDIA's. Nothing is said against the job, which another host may run."""
    with Worker(broker.url, dockerd, **FOUR):
        job = submit(client, 1)
        eventually(lambda: "could not select device driver" in reasons(broker, job), 60, "it to be put off")
        assert output(submit(client, None)) == "\n"
        job.cancel()
        assert job.wait(60) == State.CANCELLED


def test_a_job_starts_once_the_program_of_nvidias_is_back(
    broker: servers.RedisServer, nvidia: servers.Dockerd, client: Client
) -> None:
    """As in an upgrade of its driver; the job has no retries, and needs none."""
    hook = nvidia.folder / "bin" / "nvidia-container-runtime-hook"
    hook.rename(f"{hook}.away")
    with Worker(broker.url, nvidia, **FOUR):
        job = submit(client, 1)
        eventually(lambda: "cannot be given its GPUs" in reasons(broker, job), 60, "it to be put off")
        hook.with_name(f"{hook.name}.away").rename(hook)
        assert output(job) in ("0\n", "1\n", "2\n", "3\n")


# The request that docker run sends


def _sent(program: str, *flags: str) -> Any:
    """Return the DeviceRequests that a docker run sends."""
    with closing(_Recorder()) as recorder:
        command = [program, "-H", f"unix://{recorder.path}", "run", *flags, "busybox"]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert "as the test wants it" in completed.stderr, completed.stderr
        return recorder.body["HostConfig"]["DeviceRequests"]


class _Recorder:
    """A socket that looks like Docker's, and keeps the body of the create that it refuses."""

    def __init__(self) -> None:
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self) -> None:
                self.send_response(200)
                self.send_header("Api-Version", "1.41")
                self.send_header("Ostype", "linux")
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_HEAD

            def do_POST(self) -> None:
                recorder.body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = b'{"message": "as the test wants it"}'
                self.send_response(400)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

            def address_string(self) -> str:
                return ""

        self.body: Any = None
        self._folder = tempfile.mkdtemp(prefix="cdt-recorder-")
        self.path = f"{self._folder}/docker.sock"
        self._server = socketserver.ThreadingUnixStreamServer(self.path, Handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder)


def planned(*names: str) -> Any:
    made = plan.plan(
        JobSpec("busybox", gpus=names),
        job_id="j",
        attempt=1,
        host="h",
        resolved=Resolved(),
        policy=Policy(),
        given=names,
    )
    return made.body["HostConfig"]["DeviceRequests"]


def docker_clis(least: tuple[int, int]) -> list[str]:
    """Return the dockers of this computer that are new enough; there may be several."""
    programs = []
    for place in os.environ["PATH"].split(":"):
        program = shutil.which("docker", path=place)
        if program is not None:
            shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
            match = re.search(r"Docker version (\d+)\.(\d+)", shown)
            programs += [program] if match and (int(match[1]), int(match[2])) >= least else []
    if not programs:
        pytest.skip("there is no such docker on this computer")
    return programs


@pytest.mark.parametrize(("flag", "names"), [('"device=0,1"', ("0", "1")), ("device=GPU-8f6d", ("GPU-8f6d",))])
def test_docker_is_asked_for_gpus_as_docker_run_asks(flag: str, names: tuple[str, ...]) -> None:
    for program in docker_clis((20, 10)):
        assert _sent(program, "--gpus", flag) == planned(*names)


def test_docker_is_asked_for_devices_of_cdi_as_docker_run_asks() -> None:
    flags = ("--device", "vendor.com/gpu=0", "--device", "vendor.com/gpu=1")
    for program in docker_clis((25, 0)):
        assert _sent(program, *flags) == planned("vendor.com/gpu=0", "vendor.com/gpu=1")
