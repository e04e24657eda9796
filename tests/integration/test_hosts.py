"""Several hosts on one Redis: real workers, each with a Docker of its own unless a test says otherwise."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from celery import Celery
from celery.result import AsyncResult

from celery_docker.core import message
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.store import hosts, jobstore, keys, redislink
from celery_docker.store.queries import Queries
from celery_docker.version import version
from tests import servers
from tests.conftest import require
from tests.waiting import eventually
from tests.workers.several import TAKEN_OVER_S, Cable, announcements, host

RESULT_S = 60
# Says that it has begun, and goes on until its test says so.
JOB = "echo begun >> /output/runs; until [ -e /output/go ]; do sleep 0.05; done; echo done"


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="cdt-job-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def broker(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


def send(server: servers.RedisServer, folder: Path, command: str = JOB) -> AsyncResult:
    app = Celery(broker=server.url, backend=server.url, set_as_current=False)
    kwargs = {"image": "busybox", "command": ["sh", "-c", command], "outputpath": str(folder)}
    return app.send_task("tasks.run_docker", kwargs=kwargs)


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text().splitlines()) if path.exists() else 0


def receipt_of(result: AsyncResult) -> dict[str, Any]:
    receipt: dict[str, Any] = result.get(timeout=RESULT_S)
    return receipt


def states(metas: list[dict[str, Any]]) -> list[str]:
    return [meta["status"] for meta in metas]


def test_the_jobs_of_a_host_without_power_run_on_another(
    broker: servers.RedisServer, dockerd: servers.Dockerd, own_dockerd: servers.Dockerd, folder: Path
) -> None:
    with host(broker.url, own_dockerd, "one@here") as worker_one:
        result = send(broker, folder)
        eventually(lambda: runs(folder) == 1, 30, "the first run")
        with announcements(broker) as metas, host(broker.url, dockerd, "two@here") as worker_two:
            worker_one.kill()
            own_dockerd.stop()
            eventually(lambda: runs(folder) == 2, TAKEN_OVER_S, f"the run on the other host; log: {worker_two.log}")
            (folder / "go").touch()
            receipt = receipt_of(result)
            assert receipt["host"] == "two@here"
            first, second = receipt["attempts"]
            assert (first["host"], second["host"]) == ("one@here", "two@here")
            assert first["reason"].startswith("host one@here was silent for ")
            assert first["finished_at"] is None
            eventually(lambda: "host one@here was silent for " in worker_two.log, 10, "the judgement")
            assert ": 1 job queued again" in worker_two.log
            eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
        assert states(metas[result.id]).count("SUCCESS") == 1
        assert set(states(metas[result.id])) == {"STARTED", "SUCCESS"}
        assert runs(folder) == 2


def test_a_host_that_was_cut_off_stops_what_another_has_taken_over(
    broker: servers.RedisServer, dockerd: servers.Dockerd, own_dockerd: servers.Dockerd, folder: Path
) -> None:
    """It ran all the time, and had no way to know."""
    cable = Cable(broker)
    try:
        with host(cable.url, own_dockerd, "one@here", network=cable.namespace) as worker_one:
            result = send(broker, folder)
            eventually(lambda: runs(folder) == 1, 30, "the first run")
            with announcements(broker) as metas, host(broker.url, dockerd, "two@here") as worker_two:
                cable.cut()
                eventually(lambda: runs(folder) == 2, TAKEN_OVER_S, f"the run on the other host; log: {worker_two.log}")
                name = f"run-{result.id}"
                assert own_dockerd.containers() == dockerd.containers() == [name], "nobody could tell the first host"
                cable.mend()
                eventually(lambda: own_dockerd.containers() == [], 60, f"the end of the first; log: {worker_one.log}")
                assert dockerd.containers() == [name]
                (folder / "go").touch()
                receipt = receipt_of(result)
                assert receipt["host"] == "two@here"
                assert len(receipt["attempts"]) == 2
                eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
                # The first host is a host like any other again.
                with redis_hosts(broker) as presence:
                    eventually(
                        lambda: {row.host: row.lost for row in Queries(presence.link).hosts.rows()} == LIVING,
                        20,
                        "both hosts",
                    )
            assert states(metas[result.id]).count("SUCCESS") == 1
            assert set(states(metas[result.id])) == {"STARTED", "SUCCESS"}
            assert runs(folder) == 2
    finally:
        cable.close()


LIVING = {"one@here": False, "two@here": False}


@contextmanager
def redis_hosts(server: servers.RedisServer) -> Iterator[hosts.HostStore]:
    link = redislink.connect(server.url)
    try:
        yield hosts.HostStore(link)
    finally:
        link.close()


def test_what_a_lost_host_had_not_told_is_told_by_another(
    broker: servers.RedisServer, dockerd: servers.Dockerd, folder: Path
) -> None:
    """It died between the job's record and Celery's result; nothing runs again."""
    with host(broker.url, dockerd, "two@here") as worker_two, redis_hosts(broker) as presence:
        receipt = receipt_of(send(broker, folder, "echo once"))
        records = jobstore.Store(presence.link)
        envelope = message.task_message("j1", {"image": "busybox"}, queue="celery", tag="t1", origin="1@here")
        presence.beat("one@here", machine="m1", about={})
        claim = records.claim("j1", host="one@here", queue="celery", envelope=envelope)
        records.finish(Holding("j1", "one@here", claim.fence), State.SUCCEEDED, {**receipt, "id": "j1"})
        result = AsyncResult("j1", app=Celery(broker=broker.url, backend=broker.url, set_as_current=False))
        assert result.get(timeout=TAKEN_OVER_S) == {**receipt, "id": "j1"}
        eventually(lambda: "host one@here was silent for " in worker_two.log, 10, "the judgement")
        assert ": 1 job ended already" in worker_two.log
        eventually(lambda: presence.jobs("two@here") == {}, 10, "the end of the job's bookkeeping")
        assert dockerd.containers() == []


def test_a_job_that_is_not_to_be_queued_again_is_lost_with_its_host(
    broker: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    with host(broker.url, dockerd, "two@here") as worker_two, redis_hosts(broker) as presence:
        kwargs = {"image": "busybox", "requeue": False}
        envelope = message.task_message("j1", kwargs, queue="celery", tag="t1", origin="1@here")
        presence.beat("one@here", machine="m1", about={})
        jobstore.Store(presence.link).claim("j1", host="one@here", queue="celery", envelope=envelope)
        with announcements(broker) as metas:
            result = AsyncResult("j1", app=Celery(broker=broker.url, backend=broker.url, set_as_current=False))
            error = result.get(timeout=TAKEN_OVER_S, propagate=False)
        assert states(metas["j1"]) == ["FAILURE"]
        assert str(error).startswith("lost: its host one@here was silent for ")
        assert "and the job says requeue=false" in str(error)
        attempts = result.backend.get_task_meta("j1")["receipt"]["attempts"]
        assert attempts[0]["host"] == "one@here"
        eventually(lambda: ": 1 job lost" in worker_two.log, 10, "the judgement")
        eventually(lambda: presence.jobs("two@here") == {}, 10, "the end of the job's bookkeeping")
        assert dockerd.containers() == []


def test_two_workers_share_a_docker_and_leave_each_others_containers_alone(
    broker: servers.RedisServer, dockerd: servers.Dockerd, folder: Path
) -> None:
    """Each is a host of its own: the one that died takes up its own job again, and no other."""

    def containers() -> dict[str, str]:
        _, body = dockerd.request("GET", "/containers/json")
        return {listed["Id"]: listed["Labels"]["celery-docker.host"] for listed in json.loads(body)}

    alone = {"CELERY_DOCKER_CONCURRENCY": "1", "CELERY_DOCKER_LOST_AFTER": "600"}
    with host(broker.url, dockerd, "one@%h", **alone) as worker_one, host(broker.url, dockerd, "two@%h", **alone):
        results = [send(broker, folder) for _ in range(2)]
        eventually(lambda: runs(folder) == len(containers()) == 2, 30, "a job on each")
        before = containers()
        assert sorted(before.values()) == [f"one@{socket.gethostname()}", f"two@{socket.gethostname()}"]
        worker_one.kill()
        worker_one.start()
        eventually(lambda: "taken over" in worker_one.log, 30, f"the adoption; log: {worker_one.log}")
        assert worker_one.log.count(": taken over") == 1
        assert containers() == before
        (folder / "go").touch()
        receipts = [receipt_of(result) for result in results]
        assert sorted(receipt["host"] for receipt in receipts) == sorted(before.values())
        assert [len(receipt["attempts"]) for receipt in receipts] == [1, 1]
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
    assert runs(folder) == 2


def test_nobody_is_lost_when_redis_was(dockerd: servers.Dockerd, folder: Path) -> None:
    """After an outage longer than it takes to be lost, every host looks dead to every other."""
    require("redis", servers.RedisServer.missing())
    with (
        servers.RedisServer({"appendonly": "yes"}) as server,
        host(server.url, dockerd, "one@here", CELERY_DOCKER_CONCURRENCY="1") as worker_one,
        host(server.url, dockerd, "two@here", CELERY_DOCKER_CONCURRENCY="1") as worker_two,
    ):
        results = [send(server, folder) for _ in range(2)]
        eventually(lambda: runs(folder) == 2, 30, "a job on each")
        with redis_hosts(server) as presence:
            heard_at = sum(presence.link.client.zrange(keys.HOSTS, 0, 0, withscores=True)[0][1:])
            server.end()
            clock = Event()
            clock.wait(12)
            server.start()
            # The host that takes over holds this key first: once it is there anew, and once more, that host has looked.
            for _ in range(2):
                presence.link.client.delete(keys.TAKEOVER_LOCK)
                eventually(
                    lambda: presence.link.client.exists(keys.TAKEOVER_LOCK),
                    TAKEN_OVER_S,
                    f"a holder; log: {worker_one.log}",
                )
            assert {row.host: row.lost for row in Queries(presence.link).hosts.rows()} == LIVING
            assert min(score for _, score in presence.link.client.zrange(keys.HOSTS, 0, -1, withscores=True)) > heard_at
        (folder / "go").touch()
        assert [len(receipt_of(result)["attempts"]) for result in results] == [1, 1]
        assert "was silent" not in worker_one.log + worker_two.log
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
    assert runs(folder) == 2


def test_a_second_worker_under_the_same_name_on_the_same_machine(
    broker: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    with host(broker.url, dockerd, "one@here") as worker_one:
        second = host(broker.url, dockerd, "one@here", STATE_DIRECTORY=worker_one.environ["STATE_DIRECTORY"])
        try:
            second.launch()
            assert second.wait() == 69
            assert second.log.splitlines()[-1] == (
                "celery-worker: another worker on this machine works under the name one@here "
                f"(lock {worker_one.environ['STATE_DIRECTORY']}/one@here.lock); "
                "give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
            )
        finally:
            second.stop()


def test_a_second_worker_under_the_same_name_on_another_machine(
    broker: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    stopped = Event()
    with redis_hosts(broker) as presence:

        def beat() -> None:
            while not stopped.wait(0.5):
                presence.beat("one@here", machine="m1", about={"machine": "m1", "started_at": "then"})

        beating = Thread(target=beat, daemon=True)
        beating.start()
        worker = host(broker.url, dockerd, "one@here")
        try:
            eventually(Queries(presence.link).hosts.rows, 10, "the other machine")
            worker.launch()
            assert worker.wait() == 69
            assert worker.log.splitlines()[-1] == (
                "celery-worker: another machine (m1) works under the name one@here since then; "
                "give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
            )
        finally:
            stopped.set()
            beating.join()
            worker.stop()


def test_a_host_that_is_stopped_is_not_missed(broker: servers.RedisServer, dockerd: servers.Dockerd) -> None:
    with host(broker.url, dockerd, "one@here") as worker_one, redis_hosts(broker) as presence:
        (row,) = Queries(presence.link).hosts.rows()
        assert (row.host, row.lost, row.jobs) == ("one@here", False, 0)
        assert (row.about["slots"], row.about["running"], row.about["queues"]) == (2, 0, ["celery"])
        assert set(row.about) >= {"machine", "pid", "started_at", "docker", "python", "clock"}
        # The worker of this test runs from a source tree, which may have no version.
        assert row.about.get("version") == version()
        worker_one.terminate()
        assert worker_one.wait() == 0
        assert Queries(presence.link).hosts.rows() == []
