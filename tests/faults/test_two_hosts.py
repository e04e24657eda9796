"""Two hosts on one Redis, each with a Docker of its own: one is lost, both are told the same, jobs are called off.

What ran on a host that is lost has to run again, and nobody could see whether it had ended there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from celery_docker.client.client import Client
from tests import servers
from tests.faults.copies import KINDS, make_three_of_each
from tests.faults.counting import FINAL
from tests.faults.ledger import FULL, HELD, SEED, Entry, Ledger, in_words
from tests.faults.single_host import Conclude
from tests.waiting import eventually
from tests.workers.registry import Registry
from tests.workers.several import Cable, announcements, host
from tests.workers.worker import Worker

SILENT = ("was silent",)
# Nobody is lost in the rows in which nobody dies, however busy this machine is.
NEVER_LOST = {"CELERY_DOCKER_LOST_AFTER": "600"}
_NAMES = ("one@here", "two@here")
_SLOTS = 4
TwoHosts = tuple[Ledger, Worker, Worker]


@contextmanager
def two_hosts(
    redis: servers.RedisServer, dockerds: Sequence[servers.Dockerd], cable: Cable | None = None, /, **variables: str
) -> Iterator[TwoHosts]:
    """Keep the books of two workers that are yet to be started; `cable` is the first one's way to Redis."""
    all_variables = {"CELERY_DOCKER_CONCURRENCY": str(_SLOTS), **variables}
    url, network = (cable.url, cable.namespace) if cable else (redis.url, "")
    workers = [
        host(url, dockerds[0], _NAMES[0], network=network, **all_variables),
        host(redis.url, dockerds[1], _NAMES[1], **all_variables),
    ]
    with (
        tempfile.TemporaryDirectory(prefix="cdt-faults-", dir="/tmp") as output,
        Ledger(redis.url, dockerds, workers, output=output, folder=Path(output), seed=SEED) as ledger,
    ):
        Path(output).chmod(0o777)
        try:
            yield ledger, workers[0], workers[1]
        finally:
            for worker in workers:
                if worker.process is not None:
                    worker.kill()
                worker.stop()
            for dockerd in dockerds:
                if dockerd.process is not None:
                    dockerd.remove_containers()


def test_a_host_loses_power(
    own_redis: servers.RedisServer, own_dockerd: servers.Dockerd, dockerd: servers.Dockerd, conclude: Conclude
) -> None:
    """Its jobs run on the other; in full it comes back, twice, and what was left on it is cleaned away."""
    times = 2 if FULL else 1
    with two_hosts(own_redis, [own_dockerd, dockerd]) as (ledger, first_host, second_host):
        first_host.start()
        second_host.start()
        ledger.submit(80 if FULL else 10, 1, 4, retries=0)
        for _ in range(times):
            eventually(lambda: len(own_dockerd.running()) > 1, 60, "jobs on the host")
            ledger.pause(0, 2)
            lost = _jobs_in(own_dockerd, ledger)
            first_host.kill()
            own_dockerd.lose_power()
            # What it has left can be counted when it is back.
            ledger.dockers, ledger.workers = [dockerd], [second_host]
            ledger.recover_to(lambda lost=lost: all(_goes_on(ledger, entry) for entry in lost))  # type: ignore[misc]
            if FULL:
                own_dockerd.start()
                first_host.start()
                ledger.dockers, ledger.workers = [own_dockerd, dockerd], [first_host, second_host]
        conclude(ledger.settle(f"one of two hosts loses power, {in_words(times)}", due=SILENT, unseen=SILENT))
        reasons = [attempt["reason"] for entry in ledger.entries for attempt in ledger.receipt(entry)["attempts"]]
        assert any("host one@here was silent for" in (reason or "") for reason in reasons)


def test_a_host_is_cut_off_and_comes_back(
    own_redis: servers.RedisServer, own_dockerd: servers.Dockerd, dockerd: servers.Dockerd, conclude: Conclude
) -> None:
    """Its containers run on beside those of the host that took over; when it is back they are stopped: one result."""
    with (
        closing(Cable(own_redis)) as cable,
        announcements(own_redis) as metas,
        two_hosts(own_redis, [own_dockerd, dockerd], cable) as (ledger, first_host, second_host),
    ):
        first_host.start()
        held = [ledger.add(HELD) for _ in range(3 if FULL else 2)]
        names = {f"run-{entry.job_id}" for entry in held}
        eventually(lambda: names <= set(own_dockerd.running()), 30, "the jobs on the first host")
        second_host.start()
        ledger.submit(60 if FULL else 6, 0, 3)
        ledger.under_load(3)
        cable.cut()
        ledger.recover_to(lambda: all(entry.lines() == ["start", "start"] for entry in held))
        assert names <= set(own_dockerd.running()), "nobody could tell the first host"
        # Docker calls a container running a little after its process has begun.
        eventually(lambda: names <= set(dockerd.running()), 30, "the jobs on the second host")
        cable.mend()
        eventually(
            lambda: not names & set(own_dockerd.containers()), 60, f"the end of its containers; log: {first_host.log}"
        )
        assert names <= set(dockerd.running())
        ledger.let_go()
        row = ledger.settle("one of two hosts is cut off from Redis and comes back", due=SILENT, unseen=SILENT)
        assert [entry.lines() for entry in held] == [["start", "start", "end"]] * len(held)
    conclude(row)
    for entry in ledger.entries:
        ends = {json.dumps(meta["result"]) for meta in metas[entry.job_id] if meta["status"] in FINAL}
        assert len(ends) == 1, ends


@pytest.mark.parametrize(
    "kind", [*(pytest.param(kind, marks=pytest.mark.only_in_full) for kind in KINDS[:-1]), KINDS[-1]]
)
def test_a_message_delivered_three_times_to_two_hosts(
    own_redis: servers.RedisServer,
    own_dockerd: servers.Dockerd,
    dockerd: servers.Dockerd,
    conclude: Conclude,
    kind: str,
) -> None:
    """More jobs are held than one host has slots, so that both have some."""
    with two_hosts(own_redis, [own_dockerd, dockerd], **NEVER_LOST) as (ledger, first_host, second_host):
        ledger.hold()
        for _ in range(_SLOTS + 1):
            ledger.add(HELD)
        ledger.submit(60 if FULL else 10, 0, 1)
        make_three_of_each(own_redis, ledger.random, kind)
        with own_redis.client() as queue:
            queue.rename("celery", "held back")
            first_host.start()
            second_host.start()
            queue.rename("held back", "celery")
        ledger.under_load(_SLOTS + 1)
        ledger.let_go()
        ledger.recover()
        row = ledger.settle(f"each message three times, to two hosts, {kind}")
        assert {attempt["host"] for entry in ledger.entries for attempt in ledger.receipt(entry)["attempts"]} == {
            *_NAMES
        }
    conclude(row)


def test_cancel_in_each_state(
    own_redis: servers.RedisServer, own_dockerd: servers.Dockerd, dockerd: servers.Dockerd, conclude: Conclude
) -> None:
    """Two jobs in each, one called off by our client and one by `revoke`: all are REVOKED, and nothing runs on."""
    variables = {"CELERY_DOCKER_CONCURRENCY": "3", "CELERY_DOCKER_RETRY_DELAY": "600", **NEVER_LOST}
    with (
        Registry() as registry,
        closing(Client(own_redis.url)) as client,
        two_hosts(own_redis, [own_dockerd, dockerd], **variables) as (ledger, first_host, second_host),
    ):
        registry.speaks.clear()
        first_host.start()
        second_host.start()
        states = _in_each_state(ledger, registry.address)
        with own_redis.client() as queue:
            assert queue.llen("celery") == len(states["queued"]) == 2
        cancels: tuple[Callable[[str], object], ...] = (client.cancel, ledger.plain.control.revoke)
        *states_with_an_owner, _ = states
        for state in states_with_an_owner:
            for cancel, entry in zip(cancels, states[state], strict=True):
                cancel(entry.job_id)
        called_off = [entry for state in states_with_an_owner for entry in states[state]]
        ledger.recover_to(lambda: all(ledger.status(entry) == "REVOKED" for entry in called_off))
        owners = dict(zip(_NAMES, (first_host, second_host), strict=True))
        leaving: tuple[Callable[[Worker], None], ...] = (Worker.kill, Worker.hand_over)
        for leave, cancel, entry in zip(leaving, cancels, states["its owner is down"], strict=True):
            owner = owners[ledger.record(entry)["owner"]]
            leave(owner)
            cancel(entry.job_id)
            owner.wait()
            owner.start()
            ledger.recover_to(lambda entry=entry: ledger.status(entry) == "REVOKED")  # type: ignore[misc]
        registry.speaks.set()
        row = ledger.settle("cancel in each of six states, by client and revoke")
        assert {ledger.status(entry) for entry in ledger.entries} == {"REVOKED"}
        assert {state: [entry.lines() for entry in entries] for state, entries in states.items()} == {
            "delayed": [[], []],
            "backing off": [["start"], ["start"]],
            "running": [["start"], ["start"]],
            "pulling": [[], []],
            "queued": [[], []],
            "its owner is down": [["start"], ["start"]],
        }
    conclude(row)


def _in_each_state(ledger: Ledger, registry: str) -> dict[str, list[Entry]]:
    """Bring two jobs into each state; those that hold slots hold all six, so that the last two wait in the queue."""

    def second_host(body: str, image: str = "busybox", countdown_s: float | None = None) -> list[Entry]:
        return [ledger.add(body, image=image, ends=False, countdown_s=countdown_s) for _ in range(2)]

    delayed, backing_off = second_host("true", countdown_s=600), second_host("exit 1")
    eventually(lambda: all(ledger.record(entry) for entry in delayed), 30, "the delayed jobs to be noted")
    eventually(lambda: {ledger.status(entry) for entry in backing_off} == {"RETRY"}, 30, "the first attempts to fail")
    running, owned = second_host("sleep 600"), second_host("sleep 600")
    pulling = second_host("true", image=f"{registry}/slow:1.0")
    eventually(lambda: all(entry.lines() for entry in running + owned), 30, "the jobs to run")
    eventually(lambda: all(_is_pulling(ledger, entry) for entry in pulling), 30, "the pulls to begin")
    return {
        "delayed": delayed,
        "backing off": backing_off,
        "running": running,
        "pulling": pulling,
        "queued": second_host("true"),
        "its owner is down": owned,
    }


def _is_pulling(ledger: Ledger, entry: Entry) -> bool:
    return any(f"job {entry.job_id}: pulling" in worker.log for worker in ledger.workers)


def _jobs_in(dockerd: servers.Dockerd, ledger: Ledger) -> list[Entry]:
    names = dockerd.running()
    return [entry for entry in ledger.entries if f"run-{entry.job_id}" in names]


def _goes_on(ledger: Ledger, entry: Entry) -> bool:
    return entry.lines().count("start") > 1 or ledger.status(entry) in FINAL
