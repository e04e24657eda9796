"""Random and damaged messages, records, marks and index entries, while jobs run: none of them is touched."""

from __future__ import annotations

import json
from contextlib import closing
from random import Random
from typing import Any

from celery_docker.client.client import Client
from celery_docker.core import message
from celery_docker.store import keys
from tests import mutations, servers
from tests.faults.ledger import FULL, SEED, Ledger
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.waiting import eventually

_MESSAGES = 10_000 if FULL else 2_000
_JOBS = 8
# Threads, and libraries such as that of the registries' passwords, cost memory once.
_WARM = 500
_GROWTH_BYTES = 12 * 2**20
_ENVELOPE = message.task_message("poison-0", {"image": "busybox"}, queue="celery", tag="t", origin="1@there")
_PULLS = message.task_message("pulls", {"image": "no/such/image"}, queue="celery", tag="t", origin="1@there")


def _poison(random: Random, number: int) -> bytes:
    if random.random() < 0.2:
        return random.randbytes(random.randrange(300))
    envelope: dict[str, Any] = {**_ENVELOPE, "headers": {**_ENVELOPE["headers"], "id": f"poison-{number}"}}
    return mutations.message(random, envelope)


def _ids(ledger: Ledger) -> set[bytes]:
    return {entry.job_id.encode() for entry in ledger.entries}


def _cancel_others(client: Client, ledger: Ledger) -> bool:
    """Cancel the jobs that damaged messages have made, and return True once none is left.

    Without a registry to reach, those that name another image wait up to 17 minutes for it.
    """
    own = {entry.job_id for entry in ledger.entries}
    others = [row.job_id for row in client.queries.jobs.each_live() if row.job_id not in own]
    client.cancel_many(others, reason="the test is over")
    return not others


def test_poison_messages_under_load(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """No restart, no slot lost, the jobs end, and the worker is as large as after the first of them."""
    random = Random(SEED)  # noqa: S311  # the same at each run
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker), own_redis.client() as client:
        ledger.submit(_JOBS, 5, 10)
        ledger.under_load()
        client.lpush("celery", json.dumps(_PULLS), *(_poison(random, number) for number in range(_WARM)))
        eventually(lambda: client.llen("celery") == 0, 300, f"an empty queue; log: {worker.log[-2000:]}")
        eventually(lambda: "no/such/image" in worker.log, 60, "the pull to fail")
        process, before = worker.process, worker.rss_bytes
        client.lpush("celery", *(_poison(random, number) for number in range(_WARM, _MESSAGES)))
        ledger.submit(4, 0, 1)
        eventually(
            lambda: client.llen("celery") == 0, 1500 if FULL else 400, f"an empty queue; log: {worker.log[-2000:]}"
        )
        ledger.recover()
        with closing(Client(own_redis.url)) as others:
            eventually(lambda: _cancel_others(others, ledger), 120, "the end of the other jobs")
        row = ledger.settle(f"{_MESSAGES:,} random and damaged messages at a worker with running jobs")
        assert process is not None
        assert process.poll() is None
        assert worker.process is process
        assert "Traceback" not in worker.log
        assert "its slot broke" not in worker.log
        eventually(lambda: "4 of 4 slots free" in worker.status, 60, "all slots to be free")
        eventually(lambda: worker.rss_bytes < before + _GROWTH_BYTES, 60, f"memory as before, {before}")
        assert 0 < client.hlen(keys.REFUSED) <= 500
    conclude(row)


def test_damaged_records_under_load(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """Records of others, their marks, index entries and reports, of this version and the next."""
    random = Random(SEED)  # noqa: S311
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker), own_redis.client() as client:
        ledger.submit(2, 0, 1)
        ledger.recover_to(lambda: ledger.ended() == 2)
        models = [client.hgetall(keys.job(entry.job_id)) for entry in ledger.entries]
        (host,) = (member.decode() for member in client.zrange(keys.HOSTS, 0, -1))
        report = client.hget(keys.host_about(host), "about") or b"{}"
        ledger.submit(_JOBS, 5, 10)
        ledger.under_load()
        process = worker.process
        places = (keys.INDEX, keys.WAITING, keys.DELAYED, keys.BLOCKED, keys.EXPIRING)
        for number in range(_MESSAGES // 10):
            damaged, model = f"damaged-{number}", random.choice(models)
            fields = {**model, b"state": random.choice((b"queued", b"running", b"suspended", b"\xff", b"failed"))}
            if random.random() < 0.5:
                fields.pop(b"receipt", None)
            fields |= mutations.record(random, fields) | {b"a_new_field": random.randbytes(9)}
            client.hset(keys.job(damaged), mapping=fields) if number % 9 else client.set(keys.job(damaged), "x")
            for place in random.sample(places, 2):
                client.zadd(place, {random.choice((damaged, random.randbytes(5))): random.choice((1, 0, 2e9))})
            client.sadd(random.choice((keys.CANCELLING, keys.host_jobs(host))), damaged, random.randbytes(4))
            odd = f"odd-{number % 20}"
            client.zadd(keys.HOSTS, {odd: client.time()[0]})
            client.hset(keys.host_about(odd), "about", mutations.bytes_of(random, report))
        ledger.submit(4, 0, 1)
        ledger.recover()
        # A job whose record is damaged keeps its place in a share until the record is gone.
        for place in (*places, *client.scan_iter(f"{keys.SHARE}*:published"), *client.scan_iter(f"{keys.SHARE}*:held")):
            client.zrem(place, *(member for member in client.zrange(place, 0, -1) if member not in _ids(ledger)), b"")
        for marks in (keys.CANCELLING, keys.host_jobs(host)):
            client.srem(marks, *(member for member in client.smembers(marks) if member not in _ids(ledger)), b"")
        row = ledger.settle(f"{_MESSAGES // 10:,} damaged records, marks, index entries and reports of hosts")
        assert process is not None
        assert process.poll() is None
        assert "Traceback" not in worker.log
        assert "its slot broke" not in worker.log
        assert json.loads(report)["slots"] == 4
    conclude(row)
