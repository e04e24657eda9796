"""Pulls from a real registry, Debian's: with a password, with all the trouble it can have, and shared by jobs."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.client.handles import Job
from celery_docker.engine.dockerd import DockerEngine
from tests import servers
from tests.conftest import require
from tests.integration.test_run import called, ended, started
from tests.waiting import eventually
from tests.workers.realregistry import LOGIN, PASSWORD, Proxy, RealRegistry, remove_image
from tests.workers.worker import Worker

_LAYER, _LARGE_LAYER = 4 * 2**20, 32 * 2**20
_NO_LOGIN = "bm9ib2R5Ondyb25n"


@pytest.fixture(scope="module")
def docker() -> Iterator[servers.Dockerd]:
    """A dockerd that tries each download once, not for a minute."""
    require("docker", servers.Dockerd.missing() or RealRegistry.missing())
    with servers.Dockerd("--max-download-attempts=1") as dockerd:
        dockerd.import_busybox()
        yield dockerd
    assert dockerd.leftovers() == []


@pytest.fixture(scope="module")
def store() -> Iterator[RealRegistry]:
    require("docker", RealRegistry.missing())
    with RealRegistry() as registry:
        yield registry


@pytest.fixture
def proxy(store: RealRegistry) -> Iterator[Proxy]:
    with Proxy(store) as server:
        yield server


@pytest.fixture
def tool(store: RealRegistry, proxy: Proxy, docker: servers.Dockerd) -> Iterator[str]:
    """A new image in the registry, which Docker knows nothing of."""
    yield from pushed(store, proxy, docker, _LAYER)


@pytest.fixture
def large(store: RealRegistry, proxy: Proxy, docker: servers.Dockerd) -> Iterator[str]:
    """The same, with a layer that no buffer holds."""
    yield from pushed(store, proxy, docker, _LARGE_LAYER)


def pushed(store: RealRegistry, proxy: Proxy, docker: servers.Dockerd, size: int) -> Iterator[str]:
    store.push(docker, "lab/tool:1", size=size)
    image = f"{proxy.address}/lab/tool:1"
    yield image
    docker.remove_containers()
    remove_image(docker, image)


@pytest.fixture
def engine(docker: servers.Dockerd) -> Iterator[DockerEngine]:
    with closing(DockerEngine(docker.url, connections=8, pull_silence_s=2)) as adapter:
        yield adapter


@pytest.fixture
def redis(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


def has_image(docker: servers.Dockerd, image: str) -> bool:
    return docker.request("GET", f"/images/{image}/json")[0] == 200


# One pull, and what can happen to it


def test_a_tag_that_is_not_there(engine: DockerEngine, proxy: Proxy, tool: str) -> None:
    with pytest.raises(errors.RequestError, match=r"cannot be pulled: .*manifest unknown.*; check its name and tag$"):
        engine.pull(f"{tool}.1")


@pytest.mark.parametrize(("status", "words"), [(403, "denied"), (404, "manifest unknown|not found")])
def test_a_registry_that_refuses(
    engine: DockerEngine, proxy: Proxy, tool: str, status: int, words: str, docker: servers.Dockerd
) -> None:
    """No other try would go better."""
    proxy.failures["/manifests/"] = status
    with pytest.raises(errors.RequestError, match=f"(?i)cannot be pulled: .*({words})"):
        engine.pull(tool)
    assert not has_image(docker, tool)


@pytest.mark.parametrize(
    ("status", "words"), [(429, "toomanyrequests"), (500, "HTTP status: 500"), (503, "HTTP status: 503")]
)
def test_a_registry_in_trouble(engine: DockerEngine, proxy: Proxy, tool: str, status: int, words: str) -> None:
    """It passes: then the same pull works."""
    proxy.failures["/manifests/"] = status
    with pytest.raises(errors.HostError, match=f"(?i)cannot be pulled now: .*({words}).*; check registry and network"):
        engine.pull(tool)
    proxy.failures.clear()
    engine.pull(tool)


def test_a_layer_that_is_cut_in_the_middle(
    engine: DockerEngine, proxy: Proxy, tool: str, docker: servers.Dockerd
) -> None:
    proxy.cuts = True
    with pytest.raises(errors.HostError, match="cannot be pulled now: "):
        engine.pull(tool)
    assert not has_image(docker, tool)
    proxy.cuts = False
    engine.pull(tool)
    assert has_image(docker, tool)


def test_a_layer_that_stops_in_the_middle(engine: DockerEngine, proxy: Proxy, large: str) -> None:
    """The silence has a bound, not the pull; Docker gives it up, and Docker itself is not blamed."""
    proxy.flows.clear()
    with pytest.raises(errors.HostError, match=r"nothing of it has come for 2s; check registry and network") as caught:
        engine.pull(large)
    assert not isinstance(caught.value, errors.EngineAway)
    proxy.flows.set()
    eventually(lambda: proxy.given_up, 30, "Docker to give the layer up")
    engine.pull(large)


def test_a_disk_that_is_full(proxy: Proxy, store: RealRegistry, docker: servers.Dockerd) -> None:
    """The host takes no jobs then, until there is room again."""
    store.push(docker, "lab/large:1", size=40 * 2**20)
    small = servers.Dockerd("--max-download-attempts=1")
    (small.folder / "data").mkdir()
    servers.run("mount", "-t", "tmpfs", "-o", "size=32m", "cdt-disk", str(small.folder / "data"))
    with (
        small,
        closing(DockerEngine(small.url, connections=2)) as engine,
        pytest.raises(errors.NoSpace, match="no space left on device; make room for Docker"),
    ):
        engine.pull(f"{proxy.address}/lab/large:1")
    assert small.leftovers() == []


# A password


@pytest.fixture(scope="module")
def private(docker: servers.Dockerd) -> Iterator[RealRegistry]:
    with RealRegistry(is_private=True) as registry:
        registry.push(docker, "lab/secret:1")
        yield registry


def login(folder: Path, registry: RealRegistry, auth: str) -> None:
    """Write what `docker --config FOLDER login` writes."""
    (folder / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": auth}}}))


def test_the_right_password(
    engine: DockerEngine,
    private: RealRegistry,
    docker: servers.Dockerd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = f"{private.address}/lab/secret:1"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(errors.RequestError, match=r"no basic auth credentials.*root has to log this host in"):
        engine.pull(image)
    login(tmp_path, private, _NO_LOGIN)
    with pytest.raises(errors.RequestError, match=r"(?i)unauthorized.*root has to log this host in"):
        engine.pull(image)
    login(tmp_path, private, LOGIN)
    engine.pull(image)
    assert has_image(docker, image)
    remove_image(docker, image)


def test_what_docker_login_writes_is_what_the_worker_reads(
    private: RealRegistry, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    """An administrator logs in while the worker runs; nothing is restarted, and the password is nowhere."""
    image = f"{private.address}/lab/secret:1"
    with (
        Worker(redis.url, docker, DOCKER_CONFIG=str(tmp_path)) as worker,
        closing(Client(redis.url)) as client,
    ):
        refused = client.submit(image, "true")
        assert refused.wait(60) == "rejected"
        command = ["/usr/bin/docker", "--config", str(tmp_path), "--host", docker.url, "login", private.address]
        servers.run(*command, "-u", "lab", "-p", PASSWORD)
        job = client.submit(image, "true")
        assert job.wait(60) == "succeeded"
        with redis.client() as keys:
            texts = [worker.log, json.dumps(job.receipt), str([keys.hgetall(key) for key in keys.keys("*job:*")])]
        assert not [text for text in texts if PASSWORD in text or LOGIN in text]
    remove_image(docker, image)


# Many jobs of one image


def test_sixteen_jobs_of_a_new_image_are_one_pull(
    proxy: Proxy,
    store: RealRegistry,
    tool: str,
    docker: servers.Dockerd,
    engine: DockerEngine,
    redis: servers.RedisServer,
    tmp_path: Path,
) -> None:
    """All follow its progress; one that is cancelled ends at once, and the others have the image all the same."""
    store.push(docker, "lab/other:1")
    engine.pull(f"{proxy.address}/lab/other:1")
    remove_image(docker, f"{proxy.address}/lab/other:1")
    of_one_pull = len(proxy.requests)
    proxy.requests.clear()
    proxy.flows.clear()
    with (
        Worker(redis.url, docker, CELERY_DOCKER_CONCURRENCY="16", CELERY_DOCKER_OPTS="-n one@lab") as worker,
        closing(Client(redis.url)) as client,
    ):
        jobs = [client.submit(tool, "true") for _ in range(16)]

        def follow() -> list[str]:
            lines = called(worker, tmp_path, "ps")[1].splitlines()
            return [line for line in lines if f"pulling {tool} on one@lab: " in line and " of " in line]

        eventually(lambda: len(follow()) == 16, 60, "all to follow the pull")
        jobs[0].cancel()
        assert jobs[0].wait(60) == "cancelled"
        assert not proxy.given_up
        proxy.flows.set()
        assert {job.wait(120) for job in jobs[1:]} == {"succeeded"}
    assert len(proxy.requests) == of_one_pull
    pull_s = [(job.receipt or {})["pull_s"] for job in jobs[1:]]
    assert all(pull_s)


def test_a_pull_that_nobody_waits_for_is_given_up(
    proxy: Proxy, large: str, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    proxy.flows.clear()
    with Worker(redis.url, docker) as worker:
        process = started(worker, tmp_path, "run", large, "true")
        eventually(lambda: proxy.stopped, 60, "the pull to begin")
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 143
        proxy.flows.set()
        eventually(lambda: proxy.given_up, 60, "Docker to give the layer up")
    assert not has_image(docker, large)


def test_a_silent_registry_costs_no_retry_and_closes_nothing(
    proxy: Proxy, tool: str, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    proxy.flows.clear()
    with Worker(redis.url, docker, CELERY_DOCKER_PULL_SILENCE="5", CELERY_DOCKER_RETRY_DELAY="1") as worker:
        process = started(worker, tmp_path, "run", tool, "true")
        eventually(lambda: "nothing of it has come for 5s" in worker.log, 60, "the pull to fail")
        proxy.flows.set()
        status, _, err = ended(process)
        assert status == 0, err
        assert "attempt 1 failed: image " in err
        assert "takes no new jobs" not in worker.log


def test_a_tag_that_is_moved_during_a_pull(
    docker: servers.Dockerd, proxy: Proxy, store: RealRegistry, tool: str
) -> None:
    """A job that pulls always, and comes then, gets the new image; one that takes what is there is not held up."""
    engine = DockerEngine(docker.url, connections=8)
    proxy.flows.clear()
    first = Thread(target=engine.pull, args=(tool,))
    first.start()
    eventually(lambda: proxy.stopped, 60, "the pull to begin")
    moved_to = store.push(docker, "lab/tool:1")
    late = Thread(target=engine.pull, args=(tool,), kwargs={"fresh": True})
    late.start()
    proxy.flows.set()
    first.join(60)
    late.join(60)
    engine.close()
    about = json.loads(docker.request("GET", f"/images/{tool}/json")[1])
    assert [digest.rpartition("@")[2] for digest in about["RepoDigests"]] == [moved_to]


# The digest of a job


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder below a root that the policy allows."""
    with tempfile.TemporaryDirectory(prefix="cdt-job-", dir="/tmp") as path:
        yield Path(path)


def retry_now(redis: servers.RedisServer, job: Job, docker: servers.Dockerd) -> None:
    """Let a job whose first attempt has failed wait no longer."""
    eventually(lambda: job.state == "queued" and docker.containers() == [], 60, "the end of the first attempt")
    with redis.client() as client:
        client.zadd("celery-docker:delayed", {job.id: 1})


@pytest.mark.parametrize("is_gone", [False, True], ids=["still in the registry", "gone"])
def test_a_retry_runs_the_digest_of_the_first_attempt(
    proxy: Proxy,
    store: RealRegistry,
    docker: servers.Dockerd,
    redis: servers.RedisServer,
    folder: Path,
    is_gone: bool,
) -> None:
    """The tag was moved, and the host has lost the image meanwhile, as another host would not have it."""
    digest = store.push(docker, "lab/pinned:1")
    image = f"{proxy.address}/lab/pinned:1"
    command = ["sh", "-c", "md5sum /chance >>/output/sums; [ $(wc -l </output/sums) = 2 ]"]
    with (
        Worker(redis.url, docker, CELERY_DOCKER_RETRY_DELAY="3600") as worker,
        closing(Client(redis.url)) as client,
    ):
        job = client.submit(image, command, outputpath=str(folder), user="root", pull="always")
        eventually(lambda: "attempt 1" in worker.log and (folder / "sums").exists(), 60, "the first attempt")
        eventually(lambda: job.state == "queued", 60, "its end")
        assert store.push(docker, "lab/pinned:1") != digest
        eventually(lambda: docker.containers() == [], 60, "its container to go")
        remove_image(docker, image)
        if is_gone:
            store.delete("lab/pinned", digest)
        retry_now(redis, job, docker)
        state = job.wait(120)
        receipt = job.receipt or {}
    if is_gone:
        assert state == "rejected"
        assert f"@{digest}' cannot be pulled: " in receipt["reason"]
        assert receipt["reason"].endswith(
            f"an earlier attempt ran this digest: submit the job again, to run {image} as it is now"
        )
    else:
        assert state == "succeeded", receipt
        assert receipt["image_digest"] == f"{proxy.address}/lab/pinned@{digest}"
        assert len(set((folder / "sums").read_text().splitlines())) == 1
