"""A record that somebody has damaged, or a newer version has written, breaks nobody: it is shown for what it is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from celery_docker.cli import exitcodes
from celery_docker.client.client import Client
from celery_docker.core import message
from celery_docker.store import keys
from celery_docker.store.housekeeping import Housekeeping
from celery_docker.store.queries import Queries
from tests import servers
from tests.integration.test_poison import cli
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain"]

BAD = "damaged"
# The fields of a running job's record, or all of it (None), as somebody may leave them.
DAMAGE: dict[str, dict[str, str | bytes] | None] = {
    "no record": None,
    "an unknown state": {"state": "evil"},
    "a state of bytes": {"state": b"\xff\xfe\x1b[31m"},
    "labels": {"labels": "{"},
    "labels of a list": {"labels": "[1]"},
    "attempt": {"attempt": "foo"},
    "attempts": {"attempts": "5"},
    "deep attempts": {"attempts": "[" * 50_000},
    "times": {"submitted_at": "x", "claimed_at": "1e999", "finished_at": "-1", "run_s": "nan"},
    "late times": {"submitted_at": "1e300", "claimed_at": "1e300"},
    "message": {"message": "{"},
    "message of another": {"message": json.dumps(message.task_message("o", {}, queue="celery", tag="", origin=""))},
    "message of bytes": {"message": b"\xff\xfe"},
    "spec": {"spec": "[" * 50_000},
    "receipt": {"state": "succeeded", "receipt": "{"},
    "receipt of a list": {"state": "succeeded", "receipt": "[]"},
    "receipt of other types": {"state": "failed", "receipt": '{"state": 5, "attempts": 7, "output": {}, "host": []}'},
    "numbers": {"exit_code": "x", "batch_index": "x", "pending": "x", "fence": "x", "exits": "x", "host_faults": "x"},
    "queue": {"queue": keys.HOSTS},
    "the next version": {"state": "suspended", "suspended_at": "12", "plan": "{}", "cancel_cause": "evicted"},
    "its end": {"state": "evicted", "receipt": '{"state": "evicted", "reason": "by x", "new": 1}', "finished_at": "1"},
}
READERS = (
    ("ps",),
    ("ps", "--all"),
    ("ps", "--all", "--json"),
    ("ps", "--state", "running"),
    ("status",),
    ("status", BAD),
    ("status", BAD, "--json"),
    ("inspect", BAD),
    ("results", BAD),
    ("results", BAD, "--json"),
    ("logs", BAD),
    ("queue",),
    ("workers",),
    ("workers", "--json"),
    ("doctor",),
)


def damage(
    server: servers.RedisServer,
    fields: dict[str, Any] | None,
    *,
    job_id: str = BAD,
    waits: bool = True,
    **base: Any,
) -> None:
    now = time.time()
    with server.client() as client:
        client.delete(keys.job(job_id))
        if fields is None:
            client.set(keys.job(job_id), "no record")
        else:
            envelope = message.task_message(job_id, {"image": "busybox"}, queue="celery", tag="", origin="")
            whole = {"state": "queued", "queue": "celery", "message": json.dumps(envelope), "submitted_at": now}
            client.hset(keys.job(job_id), mapping={**whole, **base, **fields})
        client.zadd(keys.INDEX, {job_id: now})
        for place in (keys.WAITING, keys.BLOCKED, keys.EXPIRING):
            client.zadd(place, {job_id: 1}) if waits else client.zrem(place, job_id)
        client.zadd(keys.INDEX, {b"\xff\xfe": 2, "": 3, "a\nb": 4})


@pytest.mark.parametrize("name", DAMAGE)
def test_every_reader_survives_a_damaged_record(
    name: str, server: servers.RedisServer, steady: Worker, plain: Plain
) -> None:
    client = Client(server.url)
    good = client.submit("busybox", "echo fine", name="good")
    assert good.wait(RESULT_S) == "succeeded"
    damage(server, DAMAGE[name])
    for words in READERS:
        status, out, complaint = cli(server, *words)
        assert "Traceback" not in complaint, (words, complaint)
        # The worker drops a key that is no record; after that there is no such job.
        is_gone = DAMAGE[name] is None and status == exitcodes.NO_SUCH_JOB and BAD in words
        is_about_all = BAD not in words and words != ("doctor",)
        expected = (0,) if is_about_all else (0, 1, 2, 125, 128)
        assert is_gone or status in expected, (words, status, complaint)
        if "--all" in words:
            assert good.id[:8] in out, (words, out, complaint)
            assert BAD in out or DAMAGE[name] is None, "what is no record at all counts as lost"
        assert "\x1b" not in out
    after = client.submit("busybox", "echo fine", after=[good])
    assert after.wait(RESULT_S) == "succeeded"
    with server.client() as redis:
        redis.zrem(keys.INDEX, b"\xff\xfe", "", "a\nb")
        redis.delete(keys.job(BAD))
    client.close()


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_record_is_in_the_way_of_no_other_job(name: str, clean_redis: servers.RedisServer) -> None:
    """While no worker has ended it: not of a listing, nor of a wait's reason, nor of a message that was lost."""
    damage(clean_redis, DAMAGE[name])
    client = Client(clean_redis.url)
    client.store.link.client.zadd(keys.HOSTS, {"gone": 1})
    good = client.submit("busybox", "true")
    asked = Queries(client.store.link)
    waits = asked.waits.of(list(asked.jobs.each_recent()))
    assert waits[good.id].reason == "no worker is alive"
    client.store.link.client.delete("celery")
    Housekeeping(client.store.link).republish(asked.now() + 1)
    assert good.id in map(message.job_id, client.store.link.client.lrange("celery", 0, -1))
    client.close()


@pytest.mark.parametrize("command", ["inspect", "logs"])
def test_a_key_that_is_no_record_is_no_job(command: str, clean_redis: servers.RedisServer) -> None:
    """Before a worker drops it, and without any."""
    damage(clean_redis, None)
    status, out, complaint = cli(clean_redis, command, BAD)
    assert (status, out) == (exitcodes.NO_SUCH_JOB, "")
    assert "no job has the id 'damaged'; list the jobs with: celery-docker ps --all" in complaint


@pytest.mark.parametrize(
    ("name", "word", "reason"),
    [
        ("an unknown state", "evil", "this version does not know the state 'evil'"),
        ("labels", "broken", "its record is broken: labels: "),
        ("attempt", "broken", "its record is broken: attempt: 'foo' is not a whole number"),
        ("its end", "evicted (ended)", "this version does not know the state 'evicted'"),
        ("the next version", "suspended", "this version does not know the state 'suspended'"),
    ],
)
def test_a_damaged_record_is_shown_as_what_it_is(
    name: str, word: str, reason: str, server: servers.RedisServer, steady: Worker
) -> None:
    damage(server, DAMAGE[name], owner="elsewhere", claimed_at=time.time(), waits=False)
    rows = {row["id"]: row for row in map(json.loads, cli(server, "ps", "--all", "--json")[1].splitlines())}
    assert rows[BAD]["state"] == word
    assert reason in rows[BAD]["reason"]
    assert word.partition(" ")[0] in cli(server, "status", BAD)[1]


def test_the_end_of_a_newer_version_is_an_end(server: servers.RedisServer, steady: Worker) -> None:
    damage(server, DAMAGE["its end"])
    client = Client(server.url)
    assert client.job(BAD).wait(timeout=120).is_final
    client.close()


@dataclass(frozen=True)
class Places:
    """The places in Redis in which the worker of a host meets a job, and what is left in each."""

    client: Any
    host: str

    def put(self, place: str, job_id: str) -> None:
        envelope = message.task_message(job_id, {"image": "busybox"}, queue="celery", tag=job_id, origin="")
        put: dict[str, Callable[[], object]] = {
            "host": lambda: self.client.sadd(keys.host_jobs(self.host), job_id),
            "queue": lambda: self.client.lpush("celery", json.dumps(envelope)),
            "cancelling": lambda: self.client.sadd(keys.CANCELLING, job_id),
            "delayed": lambda: self.client.zadd(keys.DELAYED, {job_id: 1}),
            "expiring": lambda: self.client.zadd(keys.EXPIRING, {job_id: 1}),
        }
        put[place]()

    def left(self) -> dict[str, set[bytes]]:
        taken = list(self.client.scan_iter(f"{keys.PREFIX}host:*:taken:*"))
        return {
            "host": set(self.client.smembers(keys.host_jobs(self.host))),
            "queue": {text for key in ("celery", *taken) for text in self.client.lrange(key, 0, -1)},
            "cancelling": set(self.client.smembers(keys.CANCELLING)),
            "delayed": set(self.client.zrange(keys.DELAYED, 0, -1)),
            "expiring": set(self.client.zrange(keys.EXPIRING, 0, -1)),
        }


PLACES = ("host", "queue", "cancelling", "delayed", "expiring")
# Jobs that wait for nothing, and that no host has, have nobody who could end them; one id can be no text.
NOBODYS = (
    *("an unknown state", "a state of bytes", "receipt", "receipt of a list", "receipt of other types"),
    *("the next version", "its end"),
)
LEFT: dict[str, set[bytes]] = {
    "host": set(),
    "queue": set(),
    "cancelling": {f"cancelling-{name.replace(' ', '-')}".encode() for name in NOBODYS},
    "delayed": set(),
    "expiring": {b"\xff\xfe"},
}
ODD_IDS = (b"\xff\xfe", "", "a\nb", "x:dependents")


def test_a_worker_survives_damaged_records_in_every_place(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """Among the jobs of its host, in its queue, those that are to end, are due, expire; with a job that runs on.

    Each place has records of its own: one that another place has mended already shows nothing. In the end all are
    empty, and so are the slots.
    """
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0") as worker, clean_redis.client() as client:
        running = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}; echo done"], outputpath=str(folder))
        eventually((folder / "on").exists, 20)
        (host,) = (key.decode().split(":")[2] for key in client.scan_iter(f"{keys.PREFIX}host:*:about"))
        worker.kill()
        places = Places(client, host)
        for place in PLACES:
            for name, fields in DAMAGE.items():
                job_id = f"{place}-{name.replace(' ', '-')}"
                owner = {"owner": host, "fence": 1} if place == "host" else {}
                damage(clean_redis, fields, job_id=job_id, waits=False, **owner)
                places.put(place, job_id)
        client.sadd(keys.host_jobs(host), *ODD_IDS)
        client.sadd(keys.CANCELLING, *ODD_IDS, "ghost")
        for place in (keys.DELAYED, keys.EXPIRING):
            client.zadd(place, dict.fromkeys(ODD_IDS, 1))
        worker.start()
        assert plain.succeed("busybox", "echo fine")["output"] == "fine\n"
        cancelled = plain.send("busybox", "sleep 100")
        eventually(lambda: client.hget(keys.job(cancelled.id), "state") == b"running", RESULT_S)
        cancelled.revoke()
        eventually(lambda: cancelled.state == "REVOKED", RESULT_S, f"the cancel; log {worker.log[-2000:]}")
        (folder / "go").touch()
        assert running.get(timeout=RESULT_S)["output"] == "done\n"
        eventually(lambda: places.left() == LEFT, RESULT_S, f"every place to be empty; left: {places.left()}")
        eventually(lambda: worker.status == "0 jobs running, 2 of 2 slots free", RESULT_S, "the slots to be free")
        assert "Traceback" not in worker.log
        assert "its turn failed" not in worker.log
        # One bad record would close the intake for a second, and keep the others of its turn waiting.
        assert "takes no jobs" not in worker.log


def test_reports_of_other_hosts_may_say_anything(server: servers.RedisServer, steady: Worker) -> None:
    reports = (
        b"{",
        b"[]",
        b"\xff",
        b'{"slots": "x", "queues": 5, "status": {}, "clock": [], "version": 7}',
        b"[" * 9999,
    )
    with server.client() as client:
        for number, report in enumerate(reports):
            client.zadd(keys.HOSTS, {f"odd{number}": time.time()})
            client.hset(keys.host_about(f"odd{number}"), mapping={"about": report})
        client.zadd(keys.HOSTS, {b"\xff\xfe": time.time()})
        client.set(keys.host_about("string"), "x")
        client.zadd(keys.HOSTS, {"string": time.time()})
        # Heartbeats of no clock.
        client.zadd(keys.HOSTS, {"never": -math.inf, "\x1b[31mlate": math.inf, "late": 1e300, "early": -1e300})
        client.zadd(keys.LOST_HOSTS, {"lost": -math.inf, "lost late": math.inf})
    for words in (("workers",), ("workers", "--json"), ("status",), ("doctor",), ("ps",), ("metrics",)):
        status, out, complaint = cli(server, *words)
        assert "Traceback" not in complaint, (words, complaint)
        assert status in (0, 1), (words, complaint)
        assert "\x1b" not in out or words == ("metrics",), words
    assert "odd3" in cli(server, "workers")[1]
    rows = {row["host"]: row for row in map(json.loads, cli(server, "workers", "--json")[1].splitlines())}
    assert rows["never"]["state"] == "silent"
    # As long ago as can be, but for the time between two looks at the clock.
    assert rows["never"]["heard_at"].startswith("1970-01-01T00:")
    assert 0 <= rows["late"]["heard_s"] < 60
    assert rows["lost"]["state"] == rows["lost late"]["state"] == "lost"
    odd = [*(f"odd{number}" for number in range(len(reports))), "never", "\x1b[31mlate", "late", "early"]
    with server.client() as client:
        client.zrem(keys.HOSTS, b"\xff\xfe", "string", *odd)
        client.zrem(keys.LOST_HOSTS, "lost", "lost late")
