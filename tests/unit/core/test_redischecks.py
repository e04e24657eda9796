"""Each bad day of a queue as facts, and the line that `doctor` prints about it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from celery_docker.core import redischecks
from celery_docker.core.findings import Finding
from celery_docker.core.redishealth import FailedNotices, Redis, StuckQueue, Worker
from celery_docker.core.waiting import Wait, WaitKind
from tests.unit.doctor.printed import lines

GIB = 2**30
PUBLIC = (
    "fail  password: Redis at {} can be reached from the network and asks for no password: whoever can connect is root "
    "on the workers → set requirepass in redis.conf, or bind 127.0.0.1 -::1"
)
LOCAL_ONLY = "ok    password: Redis asks for none, and others cannot reach it"


@pytest.mark.parametrize(
    ("check", "subject", "expected"),
    [
        (redischecks.queues, Redis("r"), []),
        (redischecks.notices, Redis("r"), []),
        (
            redischecks.notices,
            Redis("r", notices=FailedNotices(1, ("lab-chat",))),
            [
                "warn  notices: 1 notice of ends waits after a failure, to lab-chat → "
                "see why, on each host: journalctl -u celery-worker -g 'tried again'"
            ],
        ),
        (
            redischecks.notices,
            Redis("r", notices=FailedNotices(1200, ("a@b.c\x1b", "b", "c", "d", "e", "f"), is_more=True)),
            [
                "warn  notices: at least 1,200 notices of ends wait after a failure, to a@b.c\\x1b, b, c, d, e, ... → "
                "see why, on each host: journalctl -u celery-worker -g 'tried again'"
            ],
        ),
        (
            redischecks.notices,
            Redis("r", notices=FailedNotices(2)),
            [
                "warn  notices: 2 notices of ends wait after a failure → "
                "see why, on each host: journalctl -u celery-worker -g 'tried again'"
            ],
        ),
        (
            redischecks.queues,
            Redis("r", stuck=(StuckQueue("night", 3, Wait(WaitKind.QUEUE, "no worker serves the queue 'night'")),)),
            [
                "warn  queue: 3 jobs wait in 'night': no worker serves the queue 'night' → let a worker serve it "
                "(CELERY_DOCKER_OPTS=-Q night), or cancel them: celery-docker queue "
                "purge --queue night"
            ],
        ),
        (
            redischecks.queues,
            Redis("r", stuck=(StuckQueue("celery", 1, Wait(WaitKind.HOST, "node1 takes no jobs: drained by al@n")),)),
            [
                "warn  queue: 1 job waits in 'celery': node1 takes no jobs: drained by al@n → celery-docker resume "
                "HOST for a drained one; mend what another says"
            ],
        ),
        # That is another finding, of all queues.
        (
            redischecks.queues,
            Redis("r", stuck=(StuckQueue("celery", 2, Wait(WaitKind.OFFER, "no host offers 64 GiB")),)),
            [
                "warn  queue: 2 jobs wait in 'celery': no host offers 64 GiB → let a host of this queue offer as much "
                "(CELERY_DOCKER_CPUS, _MEMORY, _GPUS), or cancel them: celery-docker ps shows their ids"
            ],
        ),
        (
            redischecks.queues,
            Redis("r", stuck=(StuckQueue("celery", 1, Wait(WaitKind.WORKER, "no worker is alive")),)),
            [],
        ),
        (redischecks.access, Redis("db", is_local=False, is_open=True), [PUBLIC.format("db")]),
        (redischecks.access, Redis("r", is_open=True, bind="* -::*", is_protected=False), [PUBLIC.format("r")]),
        (redischecks.access, Redis("r", is_open=True, bind="", is_protected=False), [PUBLIC.format("r")]),
        (
            redischecks.access,
            Redis("r", is_open=True, bind="127.0.0.1 10.1.2.3", is_protected=False),
            [PUBLIC.format("r")],
        ),
        (redischecks.access, Redis("r", is_open=True, bind="*", is_protected=True), [LOCAL_ONLY]),
        (redischecks.access, Redis("r", is_open=True, bind="127.0.0.1 -::1", is_protected=False), [LOCAL_ONLY]),
        (redischecks.access, Redis("r", is_open=True), [LOCAL_ONLY]),
        (redischecks.access, Redis("db", is_local=False, is_open=False), ["ok    password: Redis asks for one"]),
        (redischecks.access, Redis("db", is_local=False), []),
        (
            redischecks.persistence,
            Redis("r", has_log=False, save=""),
            [
                "fail  persistence: a restart of Redis loses every job → set appendonly yes in redis.conf, or: "
                "sudo celery-docker setup-redis"
            ],
        ),
        (
            redischecks.persistence,
            Redis("r", has_log=False, save="3600 1"),
            [
                "warn  persistence: a power cut loses what came since Redis' last snapshot → set appendonly yes in "
                "redis.conf, or: sudo celery-docker setup-redis"
            ],
        ),
        (
            redischecks.persistence,
            Redis("r", has_log=True, save="3600 1", last_save_failed=True),
            ["fail  persistence: Redis could not write to its disk → see its log, and mend its disk"],
        ),
        (
            redischecks.persistence,
            Redis("r", has_log=True, log_sync="always", save="", last_save_failed=False),
            ["ok    persistence: Redis writes every change to its append-only file"],
        ),
        (
            redischecks.persistence,
            Redis("r", has_log=True, log_sync="everysec"),
            [
                "ok    persistence: Redis writes every change to its append-only file; a power cut loses those of the "
                "last second"
            ],
        ),
        (redischecks.persistence, Redis("r"), []),
        (
            redischecks.eviction,
            Redis("r", eviction="allkeys-lru", most_bytes=GIB),
            [
                "fail  eviction: with maxmemory-policy allkeys-lru Redis throws jobs away when its memory is full → "
                "set maxmemory-policy noeviction in redis.conf, or: sudo celery-docker setup-redis"
            ],
        ),
        (redischecks.eviction, Redis("r", eviction="noeviction"), ["ok    eviction: Redis throws nothing away"]),
        (
            redischecks.memory,
            Redis("r", used_bytes=81 * GIB, most_bytes=100 * GIB),
            [
                "warn  memory: Redis uses 81% of its 100 GiB → raise maxmemory in redis.conf, or keep results for less "
                "long"
            ],
        ),
        (
            redischecks.memory,
            Redis("r", used_bytes=GIB, most_bytes=2 * GIB),
            ["ok    memory: Redis uses 50% of its 2 GiB"],
        ),
        (redischecks.memory, Redis("r", used_bytes=GIB, most_bytes=0), []),
        (
            redischecks.workers,
            Redis("r", workers=()),
            ["fail  workers: none is alive → systemctl start celery-worker, on each host"],
        ),
        (
            redischecks.workers,
            Redis("r", workers=(Worker("b", 2), Worker("a", 600), Worker("c", 29))),
            [
                "ok    workers: 2 alive: b, c",
                "warn  workers: a was last heard 10m ago → on a: systemctl status celery-worker",
            ],
        ),
        (redischecks.workers, Redis("r"), []),
        (
            redischecks.clocks,
            Redis("r", ahead_s=-7200, workers=(Worker("a", 1, 6), Worker("b", 1, -5), Worker("c", 1))),
            [
                "warn  clock: a is 6s ahead of Redis' host → let both keep the time with systemd-timesyncd or chrony",
                "warn  clock: this host is 2h behind Redis' host → let both keep the time with systemd-timesyncd or "
                "chrony",
            ],
        ),
        (redischecks.clocks, Redis("r", ahead_s=0.1), ["ok    clock: all clocks agree within 5 s"]),
        (redischecks.clocks, Redis("r"), []),
    ],
)
def test_redis(check: Callable[[Redis], list[Finding]], subject: Redis, expected: list[str]) -> None:
    assert lines(check(subject)) == expected


def test_for_programs() -> None:
    assert redischecks.reach(Redis("db")).to_json() == {
        "level": "ok",
        "what": "redis",
        "says": "answers at db",
        "remedy": None,
        "details": [],
    }
