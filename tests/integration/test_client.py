"""The client library against real workers: order, limits, logs, repetitions, and a host that takes no jobs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.core.lifecycle import State
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import ROOT, Worker

END_S = 60
FOLLOWER = """
import sys
from celery_docker import Client
with open(sys.argv[3], "wb", buffering=0) as file:
    for output in Client(sys.argv[1]).job(sys.argv[2]).logs(follow=True):
        assert output.gap_bytes == 0, output
        file.write(output.data)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cdt-client-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def own_redis(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def client(own_redis: servers.RedisServer) -> Iterator[Client]:
    client = Client(own_redis.url)
    yield client
    client.close()


@pytest.fixture
def worker(own_redis: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(own_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0", CELERY_DOCKER_CONCURRENCY="4") as process:
        yield process
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")


def test_jobs_run_one_after_the_other(worker: Worker, client: Client, folder: Path) -> None:
    """Each begins when the one before it has succeeded, although there are slots for all."""
    jobs = [client.submit("busybox", "sh -c 'sleep 0.5; echo 0 >> /output/order'", outputpath=str(folder))]
    for number in (1, 2):
        command = f"sh -c 'echo {number} >> /output/order'"
        jobs.append(client.submit("busybox", command, outputpath=str(folder), after=jobs))
    assert jobs[-1].wait(END_S) is State.SUCCEEDED
    assert (folder / "order").read_text() == "0\n1\n2\n"


def test_what_was_to_run_after_a_failure_is_cancelled(worker: Worker, client: Client, folder: Path) -> None:
    """All that hangs on it, with a reason that a person understands, and nothing of it ran."""
    first = client.submit("busybox", "sh -c 'sleep 0.5; exit 3'", retries=0)
    second = client.submit("busybox", "touch /output/ran", outputpath=str(folder), after=first)
    third = client.submit("busybox", "touch /output/ran", outputpath=str(folder), after=second)
    assert third.wait(END_S) is State.CANCELLED
    for job, before, state in ((second, first, "failed"), (third, second, "cancelled")):
        receipt = job.receipt
        assert receipt is not None
        assert receipt["reason"] == f"job {before}, after which it was to run, ended as {state}"
    assert not (folder / "ran").exists()


def test_of_a_batch_with_a_limit_no_more_run_at_a_time(worker: Worker, client: Client, folder: Path) -> None:
    script = "touch /output/on-$0; ls /output | grep -c on- >> /output/seen; sleep 0.5; rm /output/on-$0"
    document = {"image": "busybox", "outputpath": str(folder)}
    batch = client.map(lambda n: {**document, "command": ["sh", "-c", script, str(n)]}, range(6), limit=2)
    counts_seen: list[int] = []
    followed = client.batch(batch.id, progress=lambda counts, total: counts_seen.append(counts.get("succeeded", 0)))
    assert followed.wait(END_S) == {"succeeded": 6}
    running_at_once = [int(line) for line in (folder / "seen").read_text().split()]
    assert len(running_at_once) == 6
    assert max(running_at_once) <= 2
    assert counts_seen == sorted(counts_seen)
    assert counts_seen[-1] == 6


def test_a_log_is_followed_from_another_process_while_the_worker_dies_and_comes_back(
    own_redis: servers.RedisServer, dockerd: servers.Dockerd, client: Client, folder: Path
) -> None:
    """From the first byte to the last, each once."""
    wait = "until [ -e /output/$i ]; do sleep 0.05; done"
    script = f"for i in 1 2 3; do echo line $i; {wait}; done; printf end"
    read = folder / "read"
    read.touch()
    with Worker(own_redis.url, dockerd) as worker:
        job = client.submit("busybox", ["sh", "-c", script], outputpath=str(folder))
        follower = subprocess.Popen(
            [sys.executable, "-c", FOLLOWER, own_redis.url, job.id, str(read)],
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        )
        eventually(lambda: read.read_text() == "line 1\n", 20, "the first line")
        worker.kill()
        (folder / "1").touch()
        worker.start()
        eventually(lambda: read.read_text() == "line 1\nline 2\n", 20, "the second line")
        (folder / "2").touch()
        (folder / "3").touch()
        assert follower.wait(END_S) == 0
        assert job.wait(END_S) is State.SUCCEEDED
    assert (job.receipt or {})["output"] == read.read_text() == "line 1\nline 2\nline 3\nend"


def test_what_failed_in_a_batch_is_tried_again(worker: Worker, client: Client, folder: Path) -> None:
    """Under new ids in the old places; what succeeded does not run again."""
    script = "echo $0 >> /output/runs; [ $0 = good ] || [ -e /output/mended ]"
    document = {"image": "busybox", "outputpath": str(folder), "retries": 0, "name": "demo"}
    batch = client.map(lambda word: {**document, "command": ["sh", "-c", script, word]}, ["good", "bad", "good"])
    assert batch.wait(END_S) == {"succeeded": 2, "failed": 1}
    before = batch.jobs()
    (folder / "mended").touch()
    (again,) = batch.retry_failed()
    assert batch.wait(END_S) == {"succeeded": 3}
    assert batch.jobs() == [before[0], again, before[2]]
    (row,) = client.queries.jobs.rows([again.id])
    assert (row.retry_of, row.batch_index, row.name, row.image) == (before[1].id, 2, "demo", "busybox")
    assert (folder / "runs").read_text().split().count("good") == 2
    assert [receipt["state"] for receipt in batch.results()] == ["succeeded"] * 3


def test_a_batch_that_was_not_queued_whole_can_be_found_and_cancelled(client: Client) -> None:
    document = {"image": "busybox"}
    with pytest.raises(errors.NoSuchJob, match=r"'j9'.*some jobs of batch [0-9a-f-]{36} may be queued") as raised:
        client.map(lambda after: {**document, "after": after}, [[], ["j9"]])
    batch = client.batch(str(raised.value).partition("batch ")[2].split()[0])
    assert batch.counts() == {"queued": 1}
    assert batch.cancel() == ["queued"]


def test_what_waits_for_jobs_waits_for_redis_too(dockerd: servers.Dockerd, folder: Path) -> None:
    totals: list[int] = []
    wait = ["sh", "-c", "until [ -e /output/go ]; do sleep 0.05; done"]
    document = {"image": "busybox", "command": wait, "outputpath": str(folder)}
    with (
        servers.RedisServer({"appendonly": "yes"}) as server,
        Worker(server.url, dockerd),
        closing(Client(server.url)) as client,
        ThreadPoolExecutor() as elsewhere,
    ):
        batch = client.map(lambda _: document, range(2), progress=lambda _, total: totals.append(total))
        results = elsewhere.submit(batch.results)
        eventually(lambda: totals, 20, "the batch to be watched")
        server.kill()
        server.start()
        (folder / "go").touch()
        assert [receipt["exit_code"] for receipt in results.result(END_S)] == [0, 0]


def test_a_drained_host_takes_no_jobs_until_it_is_resumed(
    worker: Worker, own_redis: servers.RedisServer, client: Client, folder: Path
) -> None:
    """A restart changes nothing about that; what it had in hand is taken over all the same and goes on to its end."""
    wait = "touch /output/on; until [ -e /output/go ]; do sleep 0.05; done"
    running = client.submit("busybox", ["sh", "-c", wait], outputpath=str(folder))
    eventually((folder / "on").exists, 20, "the job to run")
    worker.kill()
    client.drain(socket.gethostname(), "a new disk")
    later = client.submit("busybox", "true")
    worker.start()
    eventually(lambda: "is running: taken over" in worker.log, 20, "the running job to be taken over")
    (folder / "go").touch()
    assert running.wait(END_S) is State.SUCCEEDED
    assert later.state is State.QUEUED
    assert client.resume(socket.gethostname())
    assert later.wait(END_S) is State.SUCCEEDED
    log = worker.log
    closed, opened = log.index(": a new disk"), log.index("takes jobs again")
    assert closed < log.index("is running: taken over") < opened < log.rindex("attempt 1 runs")


def test_jobs_that_share_a_log_file_are_refused_before_one_is_queued(client: Client) -> None:
    with pytest.raises(errors.BatchError, match=r"^'/logs/all' is the log file of 2 jobs "):
        client.map({"image": "busybox", "inputpath": "/in/{}", "logoutfile": "/logs/all"}, ["a", "b"])
    with pytest.raises(errors.BatchError, match=r"^'/logs/all' is the log file of 3 jobs "):
        client.map(lambda n: {"image": "busybox", "logerrfile": "/logs/all"}, range(3))
    assert list(client.queries.jobs.each_live()) == []


def test_a_job_whose_log_file_another_job_writes_is_refused_and_nothing_is_lost(
    own_redis: servers.RedisServer, dockerd: servers.Dockerd, client: Client, folder: Path
) -> None:
    """Also by another name, and after the worker of the first has died and its container was adopted."""
    script = "echo first; touch /output/on; until [ -e /output/go ]; do sleep 0.05; done; echo last"
    (folder / "link").symlink_to(folder / "log")
    with Worker(own_redis.url, dockerd) as before:
        first = client.submit("busybox", ["sh", "-c", script], outputpath=str(folder), logoutfile=f"{folder}/log")
        eventually((folder / "on").exists, END_S, "the first job runs")
        before.kill()
    with Worker(own_redis.url, dockerd):
        for out, err in ((f"{folder}/link", None), (f"{folder}/other", f"{folder}/log")):
            second = client.submit("busybox", "echo second", logoutfile=out, logerrfile=err)
            assert second.wait(END_S) is State.REJECTED
            receipt = second.receipt
            assert receipt is not None
            assert "is being written by another job; give each job its own" in receipt["reason"]
        (folder / "go").touch()
        assert first.wait(END_S) is State.SUCCEEDED
        assert (folder / "log").read_text() == "first\nlast\n"
        third = client.submit("busybox", "echo third", logoutfile=f"{folder}/log")
        assert third.wait(END_S) is State.SUCCEEDED
    assert (folder / "log").read_text() == "third\n"
