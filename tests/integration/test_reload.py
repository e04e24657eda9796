"""A reload of the worker under a running job: a good change is applied, a bad one is refused without harm."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.client.handles import Job
from celery_docker.core.jobspec import JobSpec
from celery_docker.worker import reload
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import ROOT, Worker

POLICY = ROOT / "etc/celery-docker/policy.toml"
HELD = "touch /output/on; until [ -e /output/go ]; do sleep 0.05; done"


@dataclass
class Held:
    """A worker with a job that runs until the test lets it end."""

    worker: Worker
    job: Job
    folder: Path
    dockerd: servers.Dockerd

    def refuses(self, **settings: str) -> str:
        """Reload with changed settings, which is refused; return the one line that says why."""
        process = self.worker.reload({f"CELERY_DOCKER_{name}": value for name, value in settings.items()})
        assert process.returncode == 78, process.stderr
        assert process.stderr.startswith("celery-worker: not reloaded, the worker goes on with its old settings: ")
        assert process.stderr.count("\n") == 1
        assert self.worker.process is not None
        assert self.worker.process.poll() is None
        return process.stderr


@pytest.fixture
def held(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Held]:
    folder = Path(tempfile.mkdtemp(prefix="cdt-job-", dir="/tmp"))
    folder.chmod(0o777)
    with Worker(redis_server.url, dockerd) as worker, closing(Client(redis_server.url)) as client:
        job = client.submit(JobSpec("busybox", ("sh", "-c", HELD), outputpath=str(folder), retries=0))
        eventually((folder / "on").exists, 30, "the job to run")
        eventually(dockerd.running, 30, "Docker to say so")
        yield Held(worker, job, folder, dockerd)
        (folder / "go").touch()
        eventually(lambda: dockerd.containers() == [], 30, "the end of the container")
    with redis_server.client() as client:
        client.flushall()
    shutil.rmtree(folder)


def test_a_changed_setting_is_applied_and_the_job_goes_on(held: Held) -> None:
    containers = held.dockerd.running()
    assert held.worker.reload({"CELERY_DOCKER_CONCURRENCY": "5"}).returncode == 0
    assert held.worker.wait() == 0
    held.worker.start({"CELERY_DOCKER_CONCURRENCY": "5"})
    eventually(lambda: held.worker.status == "1 job running, 4 of 5 slots free", 30, "the job in a slot")
    assert held.dockerd.running() == containers
    (held.folder / "go").touch()
    receipt = held.job.result(timeout=30)
    assert (receipt["state"], len(receipt["attempts"])) == ("succeeded", 1)


@pytest.fixture
def elsewhere() -> Iterator[dict[str, str]]:
    """The settings that somebody has edited: another name, another Redis, another Docker."""
    with servers.RedisServer() as redis_server, servers.Dockerd() as dockerd:
        dockerd.import_busybox()
        yield {"OPTS": "-n two@%h", "BROKER_URL": redis_server.url, "DOCKER_HOST": dockerd.url}


@pytest.mark.parametrize(
    "edited", [("OPTS",), ("BROKER_URL",), ("DOCKER_HOST",), ("OPTS", "BROKER_URL", "DOCKER_HOST")], ids=", ".join
)
def test_what_jobs_depend_on_and_was_edited_before_a_kill_waits_for_the_next_restart(
    held: Held, elsewhere: dict[str, str], edited: tuple[str, ...]
) -> None:
    """With the new value nobody would look after the container: its job would run twice, or never be reported."""
    new = {f"CELERY_DOCKER_{name}": elsewhere[name] for name in edited}
    for _ in range(2):
        held.worker.kill()
        held.worker.start(new)
        eventually(lambda: held.worker.status == "1 job running, 1 of 2 slots free", 30, "the job in a slot")
    assert held.worker.log.count("jobs here (1) need the old value, and the worker goes on with it") == 2
    (held.folder / "go").touch()
    receipt = held.job.result(timeout=30)
    assert (receipt["state"], len(receipt["attempts"])) == ("succeeded", 1)
    held.worker.terminate()
    assert held.worker.wait() == 0
    held.worker.start(new)
    with closing(Client({**held.worker.environ, **new}["CELERY_DOCKER_BROKER_URL"])) as client:
        assert client.submit("busybox", "true").result(timeout=30)["host"].startswith("two@") is ("OPTS" in edited)
    assert held.worker.log.count("need the old value") == 2


def test_an_old_redis_that_is_gone_is_waited_for_only_a_while(held: Held, redis_server: servers.RedisServer) -> None:
    """It may have moved: the worker takes the new one, and says what it leaves behind."""
    with servers.RedisServer() as moved:
        with redis_server.client() as client:
            client.save()
        redis_server.kill()
        try:
            held.worker.kill()
            held.worker.start({"CELERY_DOCKER_BROKER_URL": moved.url})
            assert "what the last worker has left there is left: " in held.worker.log
            with closing(Client(moved.url)) as submitter:
                assert submitter.submit("busybox", "true").wait(30) == "succeeded"
        finally:
            redis_server.start()
        held.worker.kill()
    held.worker.start()
    (held.folder / "go").touch()
    assert held.job.wait(30) == "succeeded"


BAD = {
    "a word for a number": ({"CONCURRENCY": "many"}, "CELERY_DOCKER_CONCURRENCY='many': must be a whole number from 0"),
    "an unknown option": ({"OPTS": "--nonsense"}, "CELERY_DOCKER_OPTS='--nonsense': No such option"),
    "no policy": ({"POLICY": "/none.toml"}, "CELERY_DOCKER_POLICY='/none.toml': cannot be read"),
    "another Redis": ({"BROKER_URL": "redis://127.0.0.1:1/0"}, "systemctl restart celery-worker waits for them"),
    "another name": ({"OPTS": "-n two@%h"}, "the worker's name cannot change from"),
    "another Docker": ({"DOCKER_HOST": "unix:///none"}, "CELERY_DOCKER_DOCKER_HOST cannot change from"),
}


@pytest.mark.parametrize(("settings", "expected"), BAD.values(), ids=BAD)
def test_a_bad_setting_is_named_and_the_worker_goes_on(held: Held, settings: dict[str, str], expected: str) -> None:
    assert expected in held.refuses(**settings)


def test_a_login_that_redis_refuses_is_named_and_the_worker_goes_on(
    held: Held, redis_server: servers.RedisServer
) -> None:
    """The next process would end with status 78, and nobody would look after the containers."""
    url = redis_server.url.replace("redis://", "redis://nobody:s3cret@")
    line = held.refuses(BROKER_URL=url)
    assert "refuses the login" in line
    assert "s3cret" not in line


def test_by_hand_it_points_to_systemctl(capsys: pytest.CaptureFixture[str]) -> None:
    assert reload.main({}) == 78
    assert "this is called by systemctl reload celery-worker\n" in capsys.readouterr().err


def test_a_redis_or_docker_that_is_away_refuses_no_reload_but_a_new_url_has_to_answer() -> None:
    """The next process waits for them as this one does: an upgrade must not depend on them."""
    environ = {
        "CELERY_DOCKER_BROKER_URL": f"redis://127.0.0.1:{servers.free_port()}/0",
        "CELERY_DOCKER_DOCKER_HOST": "unix:///none",
        "CELERY_DOCKER_POLICY": str(POLICY),
    }
    reload.check(environ, environ)
    with_login = environ["CELERY_DOCKER_BROKER_URL"].replace("redis://", "redis://me:new@")
    with pytest.raises(errors.StoreAway):
        reload.check({**environ, "CELERY_DOCKER_BROKER_URL": with_login}, environ)
