"""Jobs start where there is room for them: real workers, whose containers are counted by Docker all the time.

The jobs ask for memory that they do not use: a few hundred MiB of this machine would do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from celery import Celery

from celery_docker.client.client import Client
from celery_docker.client.handles import Job
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from celery_docker.store import keys
from tests import servers
from tests.waiting import eventually
from tests.workers.roomsampler import RoomSampler
from tests.workers.several import host
from tests.workers.worker import Worker

GIB = 2**30
HELD = "until [ -e /output/go ]; do sleep 0.05; done"
OFFER = {"CELERY_DOCKER_CONCURRENCY": "8", "CELERY_DOCKER_CPUS": "64", "CELERY_DOCKER_MEMORY": "4g"}


@pytest.fixture
def broker(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        left = client.keys(keys.PARKED + "*")
        client.flushall()
    assert left == [], "nothing is parked once all jobs have ended"


@pytest.fixture
def client(broker: servers.RedisServer) -> Iterator[Client]:
    with closing(Client(broker.url)) as client:
        yield client


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cdt-job-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def sampler(dockerd: servers.Dockerd) -> Iterator[RoomSampler]:
    with RoomSampler(dockerd) as sampler:
        yield sampler
    dockerd.remove_containers()


def submit(client: Client, memory: str, command: str, folder: Path | None = None, **options: Any) -> Job:
    spec = JobSpec("busybox", ("sh", "-c", command), memory=_bytes(memory), outputpath=str(folder) if folder else None)
    return client.submit(spec, **options)


def _bytes(text: str) -> int:
    return int(float(text.removesuffix("g")) * GIB)


def parked(broker: servers.RedisServer) -> int:
    with broker.client() as client:
        return sum(client.zcard(keys.PARKED_GROUP + name.decode()) for name in client.smembers(keys.PARKED))


def test_no_more_jobs_run_at_once_than_there_is_memory_for(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client, sampler: RoomSampler
) -> None:
    """Eight jobs of 1 GiB on a host that offers 4, with a slot for each."""
    with Worker(broker.url, dockerd, **OFFER):
        jobs = [submit(client, "1g", "sleep 1") for _ in range(8)]
        assert [job.wait(120) for job in jobs] == [State.SUCCEEDED] * 8
    assert [needs.memory_bytes / GIB for needs in sampler.peaks.values()] == [4]


def test_jobs_of_a_plain_celery_client_start_where_there_is_room(
    broker: servers.RedisServer, dockerd: servers.Dockerd, sampler: RoomSampler
) -> None:
    app = Celery(broker=broker.url, backend=broker.url, set_as_current=False)
    with Worker(broker.url, dockerd, **OFFER):
        kwargs = {"image": "busybox", "command": ["sleep", "1"], "memory": "2g", "cpus": 0.5}
        results = [app.send_task("tasks.run_docker", kwargs=kwargs) for _ in range(5)]
        assert [result.get(timeout=120)["state"] for result in results] == ["succeeded"] * 5
    assert [needs.memory_bytes / GIB for needs in sampler.peaks.values()] == [4]


@contextmanager
def stream(client: Client, *, least: int) -> Iterator[None]:
    """Have so many small jobs in the queue or running, all the time."""
    stopped = Event()

    def keep_submitting() -> None:
        jobs: list[Job] = []
        while not stopped.wait(0.05):
            jobs = [job for job in jobs if not job.state.is_final]
            jobs += [submit(client, "1g", f"sleep 0.{3 + number % 5}") for number in range(least - len(jobs))]
        for job in jobs:
            job.wait(120)

    thread = Thread(target=keep_submitting, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(120)


@pytest.mark.parametrize("hosts", [1, 3])
def test_a_large_job_starts_within_the_bound(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client, sampler: RoomSampler, hosts: int
) -> None:
    """Small ones come all the time, more than there is room for; one that needs the whole host gets its turn."""
    names = [f"{name}@here" for name in ("one", "two", "three")[:hosts]]
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(host(broker.url, dockerd, name, **OFFER, CELERY_DOCKER_RESERVE_AFTER="1"))
        with stream(client, least=8 * hosts):
            eventually(lambda: parked(broker) > hosts, 60, "more jobs than there is room for")
            large = submit(client, "4g", "true")
            assert large.wait(60) == State.SUCCEEDED
    assert all(needs.memory_bytes <= 4 * GIB for needs in sampler.peaks.values())


def test_a_job_says_for_which_other_one_the_room_is_kept(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client, folder: Path
) -> None:
    with Worker(broker.url, dockerd, **OFFER, CELERY_DOCKER_RESERVE_AFTER="1"):
        running = submit(client, "2g", HELD, folder)
        eventually(lambda: running.state is State.RUNNING, 60, "the first job to run")
        large = submit(client, "4g", "true")
        with broker.client() as records:
            eventually(lambda: records.exists(keys.RESERVED + large.id), 60, "room to be kept for it")
        small = submit(client, "1g", "true")
        kept = f"has enough, which it keeps for job {large.id[:8]}"
        eventually(lambda: kept in str(client.documents([small.id])[0]["wait"]), 60, "the reason for its wait")
        (folder / "go").touch()
        assert [job.wait(60) for job in (running, large, small)] == [State.SUCCEEDED] * 3


@pytest.mark.parametrize("is_killed", [True, False])
def test_the_room_in_use_is_the_same_in_the_next_process(
    broker: servers.RedisServer,
    dockerd: servers.Dockerd,
    client: Client,
    folder: Path,
    sampler: RoomSampler,
    is_killed: bool,
) -> None:
    with Worker(broker.url, dockerd, **OFFER) as worker:
        jobs = [submit(client, "1.5g", HELD, folder) for _ in range(5)]
        eventually(lambda: len(dockerd.running()) == 2 and parked(broker) == 3, 60, "two jobs to run, three to wait")
        if is_killed:
            worker.kill()
        else:
            worker.hand_over()
            assert worker.wait() == 0
        worker.start()
        small = submit(client, "1g", HELD, folder)
        eventually(lambda: len(dockerd.running()) == 3, 60, "a job for which there is room")
        assert (small.state, parked(broker)) == (State.RUNNING, 3)
        (folder / "go").touch()
        assert [job.wait(120) for job in [*jobs, small]] == [State.SUCCEEDED] * 6
    assert [needs.memory_bytes / GIB for needs in sampler.peaks.values()] == [4]


def test_parked_jobs_are_cancelled_expire_and_are_purged(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client, folder: Path
) -> None:
    """While the job that takes the room goes on."""
    with Worker(broker.url, dockerd, **OFFER):
        running = submit(client, "4g", HELD, folder)
        eventually(lambda: running.state is State.RUNNING, 60, "the first job to run")
        cancelled, purged = submit(client, "1g", "true"), submit(client, "2g", "true")
        eventually(lambda: parked(broker) == 2, 60, "two jobs to be parked")
        expired = submit(client, "1g", "true", expires=1)
        assert expired.wait(60) == State.EXPIRED
        cancelled.cancel()
        assert cancelled.wait(60) == State.CANCELLED
        assert client.queries.jobs.in_queue("celery") == [purged.id]
        client.cancel_many([purged.id], reason="purged")
        assert purged.wait(60) == State.CANCELLED
        assert parked(broker) == 0
        assert running.state is State.RUNNING
        (folder / "go").touch()
        assert running.wait(60) == State.SUCCEEDED


def test_a_job_that_no_host_can_hold_starts_when_one_comes_that_can(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client
) -> None:
    with host(broker.url, dockerd, "one@here", **OFFER):
        large = submit(client, "6g", "true")
        eventually(lambda: parked(broker) == 1, 60, "it to be parked")
        assert submit(client, "1g", "true").wait(60) == State.SUCCEEDED
        with host(broker.url, dockerd, "two@here", **{**OFFER, "CELERY_DOCKER_MEMORY": "8g"}):
            assert large.wait(60) == State.SUCCEEDED


def test_jobs_of_a_host_that_dies_are_parked_where_there_is_no_room(
    broker: servers.RedisServer, dockerd: servers.Dockerd, client: Client, folder: Path, sampler: RoomSampler
) -> None:
    """What a host had taken and not started goes back to its queue, and waits there for room like any other."""
    with host(broker.url, dockerd, "one@here", **OFFER) as first:
        jobs = [submit(client, "3g", HELD, folder) for _ in range(2)]
        eventually(lambda: len(dockerd.running()) == 1 and parked(broker) == 1, 60, "one to run, one to wait")
        with host(broker.url, dockerd, "two@here", **OFFER) as second:
            eventually(lambda: len(dockerd.running()) == 2, 60, "the other host to take it")
            second.kill()
            first.kill()
            second.start()
            first.start()
            (folder / "go").touch()
            assert [job.wait(120) for job in jobs] == [State.SUCCEEDED] * 2
    assert {name: needs.memory_bytes / GIB for name, needs in sampler.peaks.items()} == {"one@here": 3, "two@here": 3}
