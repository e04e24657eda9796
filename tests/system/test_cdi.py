"""GPUs of CDI, real ones to Docker: a made-up vendor, whose devices are /dev/null under other names.

Docker is that of Debian 13, in a booted machine; the worker is that of this folder, outside of it, and finds the
specifications where Docker says that they are.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celery_docker.client.client import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from celery_docker.doctor import hostfacts
from tests import servers
from tests.conftest import require
from tests.integration.test_gpus import output, submit
from tests.integration.test_room import parked
from tests.machines import machine
from tests.machines.machine import Machine
from tests.waiting import eventually
from tests.workers.roomsampler import Leases
from tests.workers.worker import Worker

KIND = "example.org/gpu"
NAMES = [f"{KIND}={number}" for number in range(4)]
SEE = "echo $(env | grep ^GPU_ | sort); ls /dev/gpu*"
# The container sees what nobody but Docker can have put there.
HELD = f"{SEE}; until [ -e /dev/shm/go ]; do sleep 0.05; done"


def _device(number: int) -> dict[str, object]:
    node = {"path": f"/dev/gpu{number}", "hostPath": "/dev/null"}
    return {"name": str(number), "containerEdits": {"env": [f"GPU_{number}=yes"], "deviceNodes": [node]}}


@pytest.fixture(scope="module")
def specifications() -> Iterator[Path]:
    """A folder of the same name in the machine and outside: one specification, and what else may lie there."""
    folder = Path(tempfile.mkdtemp(prefix="cdt-cdi-", dir="/var/tmp"))
    whole = {"name": "all", "containerEdits": {"env": ["GPU_ALL=yes"]}}
    spec = {"cdiVersion": "0.6.0", "kind": KIND, "devices": [*map(_device, range(4)), whole]}
    (folder / "example.json").write_text(json.dumps(spec))
    (folder / "damaged.json").write_text('{"kind": "example.org/gpu", "devices": [')
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def debian(specifications: Path) -> Iterator[Machine]:
    require("machine", machine.missing())
    with Machine.boot("cdi", machine.ready_image("trixie")) as booted:
        booted.push(specifications, str(specifications))
        daemon = {"features": {"cdi": True}, "cdi-spec-dirs": [str(specifications)]}
        booted.write("/etc/docker/daemon.json", json.dumps(daemon))
        booted.run("systemctl", "restart", "docker")
        machine.import_busybox(booted)
        yield booted
    assert machine.leftovers() == []


@pytest.fixture(scope="module")
def docker(debian: Machine) -> servers.DockerSocket:
    return servers.DockerSocket(debian.path("/run/docker.sock"))


@pytest.fixture
def broker(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def client(broker: servers.RedisServer) -> Iterator[Client]:
    with closing(Client(broker.url)) as client:
        yield client


def worker_of(broker: servers.RedisServer, docker: servers.DockerSocket, **environ: str) -> Worker:
    return Worker(broker.url, docker, CELERY_DOCKER_CONCURRENCY="8", CELERY_DOCKER_CPUS="64", **environ)


def test_doctor_lists_them_and_names_the_damaged_file(docker: servers.DockerSocket, specifications: Path) -> None:
    answer = hostfacts.docker(f"unix://{docker.socket}")
    assert answer.cdi_folders == (str(specifications),)
    gpus = hostfacts.gpus(answer, "")
    assert gpus is not None
    assert list(gpus.names) == NAMES
    assert gpus.problems == (f"{specifications}/damaged.json is not JSON",)


def test_each_gpu_is_one_jobs_at_a_time(
    broker: servers.RedisServer, docker: servers.DockerSocket, client: Client
) -> None:
    leases = Leases(docker)
    with worker_of(broker, docker), leases:
        jobs = [submit(client, 1, f"{SEE}; sleep 0.3") for _ in range(12)]
        outputs = {output(job) for job in jobs}
        every = output(submit(client, "all", SEE))
        named = output(submit(client, (f"{KIND}=2",), SEE))
    assert outputs == {f"GPU_{number}=yes\n/dev/gpu{number}\n" for number in range(4)}
    assert every.splitlines()[0] == " ".join(f"GPU_{number}=yes" for number in range(4))
    assert named == "GPU_2=yes\n/dev/gpu2\n"
    assert (leases.shared, leases.most) == ([], 4)


def test_a_device_of_the_host(broker: servers.RedisServer, docker: servers.DockerSocket, client: Client) -> None:
    """One that both the machine and this computer have: the worker is outside."""
    worker = worker_of(broker, docker)
    worker.policy.write_text(f'devices = ["/dev/zero"]\n{worker.policy.read_text()}')
    script = "ls -l /dev/meter | awk '{print $1, $5, $6}'; head -c 4 /dev/meter | wc -c"
    with worker:
        job = client.submit(JobSpec("busybox", ("sh", "-c", script), device=("/dev/zero:/dev/meter:r",)))
        assert output(job) == "crw-rw-rw- 1, 5\n4\n"
        refused = client.submit(JobSpec("busybox", ("true",), device=("/dev/null:/dev/meter:r",)))
        assert refused.wait(60) == State.REJECTED


@pytest.mark.parametrize("way", ["kill", "hand over"])
def test_they_are_back_after_a_crash(
    broker: servers.RedisServer, docker: servers.DockerSocket, client: Client, debian: Machine, way: str
) -> None:
    leases = Leases(docker)
    with worker_of(broker, docker) as worker, leases:
        held = [submit(client, 1, HELD) for _ in range(3)]
        eventually(lambda: leases.now() == NAMES[:3], 60, "three jobs to run")
        if way == "kill":
            worker.kill()
        else:
            worker.hand_over()
            assert worker.wait() == 0
        worker.start()
        assert output(submit(client, 1, SEE)) == "GPU_3=yes\n/dev/gpu3\n"
        waiting = submit(client, "all", SEE)
        eventually(lambda: parked(broker) == 1, 60, "one to wait")
        for job in held:
            debian.run("docker", "exec", f"run-{job.id}", "touch", "/dev/shm/go")
        assert [job.wait(120) for job in held] == [State.SUCCEEDED] * 3
        assert output(waiting).splitlines()[0] == " ".join(f"GPU_{number}=yes" for number in range(4))
    assert leases.shared == []


def test_a_specification_that_vanishes_is_the_hosts_fault(
    broker: servers.RedisServer,
    docker: servers.DockerSocket,
    client: Client,
    debian: Machine,
    specifications: Path,
) -> None:
    """The worker has offered the GPU since its start; the job runs as soon as the file is back, at no retry's cost."""
    worker = worker_of(broker, docker, CELERY_DOCKER_RETRY_DELAY="1")
    with worker:
        assert output(submit(client, 1, SEE)) == "GPU_0=yes\n/dev/gpu0\n"
        debian.run("rm", f"{specifications}/example.json")
        job = submit(client, 1, SEE)
        eventually(lambda: f"job {job.id}: attempt 1: " in worker.log, 60, "its first attempt to fail")
        (line,) = (line for line in worker.log.splitlines() if f"job {job.id}: attempt 1: " in line)
        debian.push(specifications / "example.json", f"{specifications}/example.json")
        assert output(job) == "GPU_0=yes\n/dev/gpu0\n"
    assert " WARNING " in line
    assert f"cannot be given its GPUs: CDI device injection failed: unresolvable CDI devices {KIND}=0" in line
    assert "again in 1 s" in line
    assert job.result()["attempts"][-1]["exit_code"] == 0
