"""`celery-docker images`, `images pull`, and the removal of images, with real workers, Dockers and registries."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from celery_docker.client.client import Client
from celery_docker.core.signingkeys import Keys
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host.keyfile import KeyFile
from celery_docker.store.imagestore import ImageStore
from tests import servers
from tests.conftest import require
from tests.integration.test_run import called, ended, started
from tests.integration.test_worker import Plain
from tests.waiting import eventually
from tests.workers.realregistry import Proxy, RealRegistry, remove_image
from tests.workers.worker import Worker

_MIB = 2**20
_IMAGES = 30
_LEFT = 10


@pytest.fixture(scope="module")
def docker() -> Iterator[servers.Dockerd]:
    """A dockerd of the module's own: its images go."""
    require("docker", servers.Dockerd.missing() or RealRegistry.missing())
    with servers.Dockerd() as dockerd:
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
def redis(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


def state_of(images: ImageStore, order_id: str) -> str:
    report = images.told(order_id).get("one@lab")
    return "" if report is None else report.state.value


def tags(docker: servers.Dockerd) -> set[str]:
    rows = json.loads(docker.request("GET", "/images/json")[1])
    return {tag for row in rows for tag in row["RepoTags"] or ()}


def test_an_order_on_two_hosts(
    proxy: Proxy, store: RealRegistry, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    """Each host pulls once, by its own policy; the list shows the image then, and the journal says what was done."""
    digest = store.push(docker, "lab/order:1", size=_MIB)
    image = f"{proxy.address}/lab/order:1"
    with (
        Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n one@lab") as one,
        Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n two@lab") as two,
    ):
        two.policy.write_text('mounts = ["/tmp"]\nnetworks = ["none"]\nimages = ["other/*"]\n')
        two.kill()
        two.start()
        status, out, err = called(one, tmp_path, "images", "pull", image)
        assert (status, out) == (1, "")
        lines = sorted(err.splitlines())
        assert lines[-2] == f"one@lab: pulled {image}, {digest}"
        assert lines[-1].startswith(f"two@lab: refused: image: '{image}' is not allowed on this host; rule images")
        assert len(proxy.layers) == len(set(proxy.layers)), "one host has pulled, once"
        status, out, _ = called(one, tmp_path, "images", "--host", "one@lab")
        (line,) = [line.split() for line in out.splitlines() if image in line]
        assert line[:3] == ["one@lab", image, digest.partition(":")[2][:12]]
        again = called(one, tmp_path, "images", "pull", "--host", "one@lab", "--json", image)
        assert again[0] == 0
        assert [(row["host"], row["state"], row["digest"]) for row in json.loads(again[1])] == [
            ("one@lab", "pulled", digest)
        ]
    remove_image(docker, image)


def test_the_progress_is_shown_and_an_interrupt_stops_no_host(
    proxy: Proxy, store: RealRegistry, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    store.push(docker, "lab/slow:1", size=4 * _MIB)
    image = f"{proxy.address}/lab/slow:1"
    proxy.flows.clear()
    with Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n one@lab") as worker:
        process = started(worker, tmp_path, "images", "pull", image)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith(f"one@lab: pulling {image}")
        process.send_signal(2)
        status, _, err = ended(process)
        assert status == 130
        assert "the hosts go on pulling it; see celery-docker images" in err
        proxy.flows.set()
        eventually(lambda: image in tags(docker), 60, "the host to go on")
    remove_image(docker, image)


def test_what_cannot_be_pulled_and_who_is_not_there(
    proxy: Proxy, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    image = f"{proxy.address}/lab/no-such:1"
    with Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n one@lab") as worker:
        status, _, err = called(worker, tmp_path, "images", "pull", image)
        assert (status, err[:16]) == (1, "one@lab: failed:")
        assert f"image '{image}' cannot be pulled: " in err
        status, _, err = called(worker, tmp_path, "images", "pull", "--host", "nine@lab", image)
        assert status == 2
        assert "no worker has the name 'nine@lab'; known are one@lab" in err
        worker.kill()
        with redis.client() as client:
            client.zadd("celery-docker:hosts", {"one@lab": 5})
        status, _, err = called(worker, tmp_path, "images", "pull", image)
        assert (status, err) == (1, "no host is there to pull it; see celery-docker workers\n")


def test_a_host_of_signed_jobs(
    proxy: Proxy, store: RealRegistry, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    """root signs an order as it signs a job; one that somebody has put into Redis is refused."""
    store.push(docker, "lab/signed:1")
    image = f"{proxy.address}/lab/signed:1"
    with Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n one@lab") as worker, closing(Client(redis.url)) as client:
        key = KeyFile(worker.environ["CELERY_DOCKER_KEY"])
        key.write(Keys(os.urandom(32)))
        worker.policy.write_text('submitters = "signed"\nusers = ["*"]\nmounts = ["/tmp"]\n')
        worker.kill()
        worker.start()
        images = ImageStore(client.store.link)
        images.order("forged", json.dumps({"pull": image}))
        report = eventually(lambda: images.told("forged").get("one@lab"), 60, "the answer")
        assert report is not None
        assert "signature: the job has none" in report.reason
        assert not proxy.requests
        os.environ["CELERY_DOCKER_KEY"] = key.path
        try:
            order_id = client.images.order(image)
        finally:
            del os.environ["CELERY_DOCKER_KEY"]
        eventually(lambda: state_of(images, order_id) == "pulled", 60, "the pull")
    remove_image(docker, image)


def test_the_images_that_jobs_want(redis: servers.RedisServer) -> None:
    """Of jobs that wait for a slot, for other jobs and for a retry, of plain clients, and of those that a host has."""
    plain, digest = Plain(redis.url), f"sha256:{'a' * 64}"
    with closing(Client(redis.url)) as client, redis.client() as keys:
        first = client.submit("waits:1", "true")
        client.submit("follows:1", "true", after=[first.id])
        client.submit("prior:1", "true", priority=9)
        plain.send("plain:1", "true")
        plain.send(image="keyword:1")
        retried = client.submit("retried:1", "true")
        keys.hset(f"celery-docker:job:{retried.id}", "image_pin", f"{digest} 0123456789abcdef {'0' * 64}")
        keys.zrem("celery-docker:waiting", retried.id)
        keys.zadd("celery-docker:delayed", {retried.id: 1e12})
        taken = client.submit("taken:1", "true")
        keys.zrem("celery-docker:waiting", taken.id)
        keys.zadd("celery-docker:hosts", {"one": 1e12})
        keys.sadd("celery-docker:host:one:jobs", taken.id)
        keys.rpush("celery", "no message")
        ended = client.submit("ended:1", "true", queue="night")
        keys.zrem("celery-docker:waiting", ended.id)
        keys.delete("night")
        names = ("waits", "follows", "prior", "plain", "keyword", "retried", "taken")
        expected = {*(f"{name}:1" for name in names), f"retried:1@{digest}"}
        assert ImageStore(client.store.link).wanted() == expected
    plain.app.close()


def test_thirty_images_and_a_budget_for_ten(
    proxy: Proxy, store: RealRegistry, docker: servers.Dockerd, redis: servers.RedisServer, tmp_path: Path
) -> None:
    """Those go that were used longest ago; a foreign one, one that runs and one that a queued job wants stay."""
    names = [f"{proxy.address}/lab/many:{number:02}" for number in range(_IMAGES)]
    for number in range(_IMAGES):
        store.push(docker, f"lab/many:{number:02}", size=2 * _MIB)
    foreign = f"{proxy.address}/lab/foreign:1"
    store.push(docker, "lab/foreign:1", size=2 * _MIB)
    with closing(DockerEngine(docker.url, connections=2)) as engine:
        engine.pull(foreign)
        size = max(image.size_bytes for image in engine.images() if foreign in image.tags)
    with (
        Worker(redis.url, docker, CELERY_DOCKER_OPTS="-n one@lab") as worker,
        closing(Client(redis.url)) as client,
    ):
        running = client.submit(names[0], ["sleep", "600"])
        eventually(lambda: running.state == "running", 60, "the job to run")
        for name in names[1:]:
            assert client.submit(name, "true").wait(120) == "succeeded"
        queued = client.submit(names[1], "true", queue="later")
        assert {*names, foreign} <= tags(docker)
        worker.hand_over()
        worker.wait()
        worker.start({"CELERY_DOCKER_IMAGE_BUDGET": str(size * _LEFT)})
        eventually(lambda: len(tags(docker) & {*names}) <= _LEFT, 120, f"the budget to be kept; log: {worker.log}")
        left = tags(docker)
        assert {foreign, names[0], names[1], "busybox:latest"} <= left
        assert left & {*names} == {names[0], names[1], *names[-(_LEFT - 2) :]}
        (report,) = eventually(lambda: list(client.images.reports(["one@lab"]).values()), 60, "a report")
        eventually(lambda: client.images.reports(["one@lab"])["one@lab"]["count"] == len(left), 90, "the report")
        assert report
        queued.cancel()
        running.cancel()
        assert running.wait(60) == "cancelled"
    docker.remove_containers()
