"""The notices that real workers send of ends: to a stand-in for the host's sendmail, a command, a web server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from celery_docker.client.client import Client
from celery_docker.store import keys
from tests import servers
from tests.integration.test_worker import RESULT_S, Plain, clean_redis, folder, plain
from tests.receivers import HOOK, Place, Web
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain"]

RULES = 'mounts = ["/tmp"]\nnetworks = ["none"]\nnotify = ["*@example.org", "lab-chat", "pager"]\n'
THOUSANDS = 3000


@pytest.fixture
def web() -> Iterator[Web]:
    with Web() as server:
        yield server


@pytest.fixture
def place(folder: Path) -> Place:
    made = Place(folder)
    made.program("sendmail", "cat >mail.$$")
    return made


@pytest.fixture
def worker(clean_redis: servers.RedisServer, dockerd: servers.Dockerd, place: Place) -> Iterator[Worker]:
    with_targets = {"NOTICE_FILE": str(place.folder / "notify.toml"), "NOTICE_SOCKET": "/nonexistent"}
    sendmail = {"NOTICE_SENDMAIL": str(place.folder / "sendmail")}
    process = Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0", **with_targets, **sendmail)
    process.policy.write_text(RULES)
    with process:
        yield process
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")


@pytest.fixture
def client(clean_redis: servers.RedisServer) -> Iterator[Client]:
    with closing(Client(clean_redis.url)) as made:
        yield made


def listed(server: servers.RedisServer) -> list[bytes]:
    with server.client() as redis:
        entries: list[bytes] = redis.zrange(keys.NOTICES, 0, -1)
    return entries


@pytest.mark.usefixtures("worker")
def test_a_job_tells_of_its_end(plain: Plain, place: Place, web: Web, clean_redis: servers.RedisServer) -> None:
    """A plain Celery client's too, whether it succeeds or not."""
    place.target(lab_chat=web.url)
    plain.succeed("busybox", "true", notify=["alice@example.org", "lab-chat"], name="sums")
    plain.fail("busybox", ["sh", "-c", "exit 3"], notify=["lab-chat"], retries=0)
    eventually(lambda: len(web.posts) == 2 and len(place.mails()) == 1 and not listed(clean_redis), RESULT_S)
    assert sorted((body["state"], body["exit_code"]) for _, _, body in web.posts) == [("failed", 3), ("succeeded", 0)]
    assert place.mails()[0]["Subject"].startswith("Job sums (")


@pytest.mark.usefixtures("worker")
def test_a_job_that_names_whom_the_policy_does_not_have(plain: Plain, clean_redis: servers.RedisServer) -> None:
    error, _ = plain.fail("busybox", "true", notify=["bob@example.com", "alice@example.org"])
    assert "notify: 'bob@example.com' is not allowed on this host; rule notify = " in error
    assert listed(clean_redis) == []


@pytest.mark.usefixtures("worker")
def test_a_job_that_is_cancelled_while_it_waits_tells_of_it(client: Client, place: Place, web: Web) -> None:
    place.target(lab_chat=web.url)
    job = client.submit("busybox", "true", notify=["lab-chat"], queue="nobody-serves-this")
    job.cancel()
    eventually(lambda: [body["state"] for _, _, body in web.posts] == ["cancelled"], RESULT_S)


@pytest.mark.usefixtures("worker")
def test_a_batch_tells_of_its_end_once(
    client: Client, place: Place, web: Web, clean_redis: servers.RedisServer
) -> None:
    place.target(lab_chat=web.url)
    template = {"image": "busybox", "command": "sh -c 'exit {}'", "retries": 0, "notify": ["lab-chat"]}
    batch = client.map({**template, "inputpath": None}, ["0", "0", "3", "0"], name="night")
    assert len(list(batch)) == 4
    eventually(lambda: web.posts and not listed(clean_redis), RESULT_S)
    ((_, _, body),) = web.posts
    assert (body["batch"], body["name"], body["size"]) == (batch.id, "night", 4)
    assert body["counts"] == {"succeeded": 3, "failed": 1}


def test_a_worker_that_is_killed_while_it_sends_has_another_one_send_it(
    worker: Worker, client: Client, place: Place, clean_redis: servers.RedisServer
) -> None:
    """The lease of the first is over then; the id is the same."""
    place.target(pager=[place.program("page", 'echo "$CELERY_DOCKER_NOTICE_ID" >>told; [ -e go ] || sleep 1000')])
    job = client.submit("busybox", "true", notify=["pager"])
    told = place.folder / "told"
    eventually(told.exists, RESULT_S)
    worker.kill()
    (place.folder / "go").touch()
    assert listed(clean_redis) == [f"{job.id} 1".encode()]
    with clean_redis.client() as redis:
        redis.zadd(keys.NOTICES, {f"{job.id} 1": 0})
    worker.start()
    eventually(lambda: listed(clean_redis) == [], RESULT_S)
    assert told.read_text() == f"{job.id}.1\n" * 2


def test_a_batch_of_thousands_tells_of_its_end_once_whoever_is_killed(
    worker: Worker, client: Client, place: Place, clean_redis: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    """Two workers end its jobs, and one is killed amid that; then both while the notice is sent: the id is the same."""
    script = 'echo "$CELERY_DOCKER_NOTICE_ID $CELERY_DOCKER_NOTICE" >>told; [ -e go ] || exec sleep 20'
    place.target(pager=[place.program("page", script)])
    told = place.folder / "told"
    variables = {name: text for name, text in worker.environ.items() if name.startswith("NOTICE_")}
    second = Worker(clean_redis.url, dockerd, CELERY_DOCKER_OPTS="-n second@here", **variables)
    second.policy.write_text(RULES)
    with second:
        batch = client.map({"image": "busybox", "command": "true {}", "notify": ["pager"]}, range(THOUSANDS))
        eventually(lambda: batch.counts().get("succeeded", 0) >= 4, RESULT_S, "some to run")
        cancelling = Thread(target=batch.cancel, daemon=True)
        cancelling.start()
        eventually(lambda: batch.counts().get("cancelled", 0) >= THOUSANDS // 10, RESULT_S, "some to be cancelled")
        second.kill()
        second.start()
        cancelling.join(RESULT_S)
        counts = batch.wait(RESULT_S)
        eventually(told.exists, RESULT_S, "the notice to be sent")
        for process in (worker, second):
            process.kill()
        (place.folder / "go").touch()
        (entry,) = listed(clean_redis)
        with clean_redis.client() as redis:
            redis.zadd(keys.NOTICES, {entry: 0})
        for process in (worker, second):
            process.start()
        eventually(lambda: listed(clean_redis) == [], RESULT_S, "the notice to be struck off")
    first, again = told.read_text().splitlines()
    assert first == again
    assert first.startswith(f"{batch.id}.1 Batch {batch.id} has ended: {counts['cancelled']:,} cancelled, ")
    assert sum(counts.values()) == THOUSANDS


def test_nothing_secret_reaches_the_log(worker: Worker, plain: Plain, place: Place, web: Web) -> None:
    web.status = 500
    place.target(lab_chat=web.url)
    plain.succeed("busybox", "true", notify=["lab-chat"])
    eventually(lambda: "127.0.0.1 answered with HTTP status 500; lab-chat is tried again in 10 s" in worker.log, 60)
    assert HOOK not in worker.log
