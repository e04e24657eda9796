"""One user's many jobs beside another's few, with a real worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from celery_docker.client.client import Client
from celery_docker.client.submission import JobBuilder
from celery_docker.core.jobspec import Submission
from celery_docker.store import keys
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import Worker

SLOTS = 4
WINDOW = 2 * SLOTS


@pytest.fixture(scope="module")
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY=str(SLOTS)) as running:
        yield running
    dockerd.remove_containers()
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def client(redis_server: servers.RedisServer, worker: Worker) -> Iterator[Client]:
    with closing(Client(redis_server.url)) as client:
        eventually(lambda: client.store.link.client.hget(keys.WINDOWS, "celery") == str(WINDOW), 30, "the window")
        yield client


def queue(client: Client, user: str, count: int, command: str, priority: int = 0) -> list[str]:
    builder = JobBuilder(f"{user}@here", "1@here")
    kwargs = {"image": "busybox", "command": ["sh", "-c", command], "retries": 0}
    new_jobs = [builder.job(kwargs, Submission(priority=priority)) for _ in range(count)]
    client.store.submit(new_jobs)
    return [new.job_id for new in new_jobs]


def test_ten_jobs_come_before_the_next_of_a_hundred(client: Client) -> None:
    """At most as many of the others as had places are taken before the last of the ten; and all of them run."""
    many = queue(client, "alice", 100, "true")
    assert client.job(many[0]).wait(60) == "succeeded"
    before = {row.job_id for row in client.queries.jobs.rows(many) if row.claimed_at is not None}
    few = queue(client, "bob", 10, "true")
    for job_id in few:
        assert client.job(job_id).wait(120) == "succeeded"
    rows = client.queries.jobs.rows([*many, *few])
    taken = {row.job_id: row.claimed_at for row in rows if row.claimed_at is not None}
    last = max(taken[job_id] for job_id in few)
    between = [job_id for job_id in many if taken.get(job_id, last + 1) < last and job_id not in before]
    # Those of the window, and what began while the ten were submitted, and those that slots claimed in another order.
    assert len(between) <= WINDOW + 2 * SLOTS
    for job_id in many:
        assert client.job(job_id).wait(120) == "succeeded"
    assert client.queries.jobs.load().blocked == 0


def test_the_queue_counts_what_is_held_back_and_a_purge_ends_it(client: Client) -> None:
    many = queue(client, "alice", 50, "sleep 600")
    eventually(lambda: client.queries.jobs.load().in_hand == SLOTS, 60, "all slots to be taken")
    assert client.queries.jobs.queue_lengths(["celery"]) == {"celery": 50 - SLOTS}
    row = client.queries.jobs.row(many[-1])
    wait = client.queries.waits.of([row])[many[-1]]
    assert wait.reason == f"held back: alice has {WINDOW} jobs queued or running, {50 - WINDOW - 1} more before it"
    client.cancel_many(many, reason="enough")
    for job_id in many:
        assert client.job(job_id).wait(120) == "cancelled"
    eventually(lambda: not client.store.link.client.keys(f"{keys.SHARE}*"), 30, "the shares to be empty")


def test_an_urgent_job_waits_for_none_of_its_submitter_s_others(client: Client) -> None:
    many = queue(client, "alice", 50, "sleep 600", priority=5)
    eventually(lambda: client.queries.jobs.load().in_hand == SLOTS, 60, "all slots to be taken")
    (urgent,) = queue(client, "alice", 1, "true")
    client.cancel_many(many[:1], reason="enough")
    assert client.job(urgent).wait(120) == "succeeded"
    client.cancel_many(many, reason="enough")
    for job_id in many:
        assert client.job(job_id).wait(120) == "cancelled"


def test_jobs_that_fail_give_places_to_the_next(client: Client) -> None:
    """Those that wait for their next attempt keep no place, or nothing else of the submitter would run."""
    builder = JobBuilder("carol@here", "1@here")
    failing = {"image": "busybox", "command": ["false"], "retries": 1}
    new_jobs = [builder.job(failing, Submission()) for _ in range(3 * WINDOW)]
    client.store.submit(new_jobs)
    (good,) = queue(client, "carol", 1, "true")
    assert client.job(good).wait(120) == "succeeded"
    for new in new_jobs:
        assert client.job(new.job_id).wait(180) == "failed"
        receipt = client.queries.jobs.receipt(new.job_id)
        assert receipt is not None
        assert len(receipt["attempts"]) == 2
