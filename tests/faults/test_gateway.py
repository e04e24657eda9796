"""The gateway is killed, its key is gone, a clock is wrong: each request is answered, and each job runs once."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from types import MappingProxyType

from celery_docker.client.client import Client
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.core import signature
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row as InputRow
from celery_docker.core.batchinputs import Source
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys as names
from tests import servers
from tests.conftest import require
from tests.faults.ledger import FULL, Entry, Ledger, Row, in_words
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.faults.wallclock import WallClock
from tests.gateways import Gateway
from tests.waiting import eventually

SIGNED = 'submitters = "signed"\nmounts = ["/tmp"]\nnetworks = ["none"]\n'
KEY = b"k" * 32
HOUR_S = 3600
FIVE_YEARS_S = 5 * 365 * 86_400
# A queue that no worker serves.
NOWHERE = "nowhere"


def test_kill_of_the_gateway_in_the_middle_of_a_batch(own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """A job is lost if its number is missing, and doubled if two messages have it."""
    jobs, kills = (10_000, 5) if FULL else (4_000, 2)
    rows = (InputRow(number, Source.ARRAY, {}) for number in range(1, jobs + 1))
    expanded = [
        Expanded(row, {"image": "busybox", "labels": {"n": str(row.index)}}, {"queue": NOWHERE}) for row in rows
    ]
    with (
        Gateway(own_redis.url) as gateway,
        closing(Client(gateway.url)) as client,
        own_redis.client(decode_responses=True) as redis,
    ):
        batches: list[str] = []
        submitting = threading.Thread(target=lambda: batches.append(client.submit_batch(expanded).id))
        submitting.start()
        for number in range(kills):
            least = jobs * (2 * number + 1) // (2 * kills)
            eventually(lambda: redis.zcard(names.WAITING) >= least, 120, f"{least} jobs")  # noqa: B023  # asked at once
            gateway.kill()
            gateway.start()
        submitting.join(600)
        (batch_id,) = batches
        by_number = Counter(
            int(number) for _, number in redis.zrange(names.batch_jobs(batch_id), 0, -1, withscores=True)
        )
        messages = [json.loads(text)["headers"]["id"] for text in redis.lrange(NOWHERE, 0, -1)]
        lost = {*range(1, jobs + 1)} - {*by_number}
        doubled = (Counter(messages) - Counter({*messages})).total() + max(0, len({*messages}) - jobs)
        lost_count = len(lost) + max(0, jobs - len({*messages}))
        fault = f"celery-docker-api kill -9 in the middle of a batch, {in_words(kills)}"
        conclude(Row(fault, jobs, lost_count, doubled, 0, 0, (), 0, None, None))


@contextmanager
def signed_hosts(
    redis: servers.RedisServer,
    dockerd: servers.Dockerd,
    folder: Path,
    gateway_environ: Mapping[str, str] = MappingProxyType({}),
    /,
    **variables: str,
) -> Iterator[tuple[Ledger, Gateway, KeyFile, KeyFile]]:
    """Start a worker that runs signed jobs only, and a gateway, as on two hosts: each has a key file of its own."""
    policy, key = folder / "policy.toml", folder / "key"
    policy.write_text(SIGNED)
    workers_key = KeyFile(str(key))
    workers_key.write(Keys(KEY))
    variables |= {"CELERY_DOCKER_POLICY": str(policy), "CELERY_DOCKER_KEY": str(key)}
    with (
        ledger_and_worker(redis, dockerd, **variables) as (ledger, _),
        Gateway(redis.url, environ=gateway_environ) as gateway,
    ):
        gateways_key = KeyFile(str(gateway.key))
        gateways_key.write(Keys(KEY))
        yield ledger, gateway, workers_key, gateways_key


def submitted(
    ledger: Ledger, gateway: Gateway, body: str = "sleep 0.1", *, ends: bool = True, **options: object
) -> Entry:
    entry, document = ledger.planned(body, ends=ends)
    HttpSocket(gateway.path).send("POST", "jobs", body={"jobs": [{**document, **options}], "ids": [entry.job_id]})
    return entry


def test_the_keys_are_missing_for_a_while(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, tmp_path: Path
) -> None:
    """On the worker's host jobs wait until they are back. On the gateway's jobs are not signed, and told so."""
    with signed_hosts(own_redis, dockerd, tmp_path) as (ledger, gateway, workers_key, gateways_key):
        held = Path(f"{workers_key.path}.held")
        Path(workers_key.path).rename(held)
        waiting = [submitted(ledger, gateway) for _ in range(20 if FULL else 4)]
        eventually(
            lambda: any(ledger.record(entry).get("attempts", "[]") != "[]" for entry in waiting), 60, "an attempt"
        )
        assert not any(entry.lines() for entry in waiting)
        (attempt, *_) = json.loads(
            next(text for entry in waiting if (text := ledger.record(entry).get("attempts", "[]")) != "[]")
        )
        assert f"there is no {workers_key.path}" in attempt["reason"]
        held.rename(workers_key.path)
        ledger.recover()
        held = Path(f"{gateways_key.path}.held")
        Path(gateways_key.path).rename(held)
        unsigned = [submitted(ledger, gateway, ends=False) for _ in range(4)]
        held.rename(gateways_key.path)
        submitted(ledger, gateway)
        row = ledger.settle("the key file missing on the worker's host, then on the gateway's", due=("there is no ",))
        assert not any(entry.lines() for entry in unsigned)
        assert {ledger.receipt(entry)["state"] for entry in unsigned} == {"rejected"}
        assert all("signature: the job has none" in ledger.receipt(entry)["reason"] for entry in unsigned)
    conclude(row)


def test_the_workers_clock_is_years_behind(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, tmp_path: Path
) -> None:
    """Signed jobs seem to come from the future there: they wait until it is set, and say so."""
    require("docker", WallClock.missing())
    clock = WallClock(tmp_path)
    clock.set_off(-FIVE_YEARS_S)
    with signed_hosts(own_redis, dockerd, tmp_path, **clock.environ) as (ledger, gateway, _, _):
        for _ in range(20 if FULL else 4):
            submitted(ledger, gateway)
        first = ledger.entries[0]
        eventually(lambda: ledger.record(first).get("attempts", "[]") != "[]", 60, "an attempt")
        assert (
            "more than a day ahead of this host's clock; set the clocks of both hosts"
            in ledger.record(first)["attempts"]
        )
        assert not any(entry.lines() for entry in ledger.entries)
        clock.set_off(0)
        ledger.recover()
        row = ledger.settle("the worker's clock five years behind, then set right", due=("ahead of this host's clock",))
        assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
    conclude(row)


def test_a_clock_is_an_hour_ahead(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, tmp_path: Path
) -> None:
    """The gateway's, then the worker's; some jobs fail, and are tried again once the other one's is.

    An hour is no reason to refuse or put off a job, nor does one expire early; what is told has the times of Redis.
    """
    require("docker", WallClock.missing())
    clocks = []
    for name in ("gateway", "worker"):
        (tmp_path / name).mkdir()
        clocks.append(WallClock(tmp_path / name))
    gateways, workers = clocks
    variables = {"CELERY_DOCKER_RETRY_DELAY": "2", **workers.environ}
    with signed_hosts(own_redis, dockerd, tmp_path, gateways.environ, **variables) as (ledger, gateway, _, _):
        for times in range(6 if FULL else 2):
            ahead, right = (workers, gateways) if times % 2 else (gateways, workers)
            # At no moment is neither wrong.
            ahead.set_off(HOUR_S)
            right.set_off(0)
            for _ in range(3):
                submitted(ledger, gateway, expires=600)
                submitted(ledger, gateway, "[ -e /output/go ] || exit 1", retries=1000)
            failing = ledger.entries[-1]
            eventually(lambda: ledger.status(failing) == "RETRY", 60, "an attempt that failed")  # noqa: B023
            signed_at_s = json.loads(ledger.record(failing)["message"])["headers"][signature.HEADER]["at"]
            assert (signed_at_s > time.time() + HOUR_S / 2) == (ahead is gateways)
            _, page = gateway.ask("GET", "/api/v1/jobs")
            told = [page["now"], *(job["submitted_at"] for job in page["jobs"])]
            assert all(abs(datetime.fromisoformat(text).timestamp() - time.time()) < HOUR_S / 2 for text in told)
        ledger.let_go()
        ledger.recover()
        row = ledger.settle("a clock an hour ahead, the gateway's and the worker's by turns", due=("exit code 1",))
        assert {ledger.status(entry) for entry in ledger.entries} == {"SUCCESS"}
        assert not any("clock" in json.dumps(ledger.receipt(entry)) for entry in ledger.entries)
    conclude(row)
