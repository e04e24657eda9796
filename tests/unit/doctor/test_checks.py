"""Each bad day as facts, and the line that is said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.doctor import checks, facts
from celery_docker.doctor.checks import Finding
from celery_docker.doctor.facts import Disk, DockerFacts, Host, Redis, StuckQueue, Unit, Worker

GIB = 2**30
RUNNING = Unit("active", "running", True)
WELL = DockerFacts("unix:///d", version="26.1", api="1.45", has_live_restore=True)


def said(found: Sequence[Finding]) -> list[str]:
    return [line for finding in found for line in finding.lines()]


REMOTE = Redis("db:6379", is_local=False)
PUBLIC = (
    "fail  password: Redis at {} can be reached from the network and asks for no password: whoever can connect is root "
    "on the workers → set requirepass in redis.conf, or bind 127.0.0.1 -::1"
)
LOCAL_ONLY = "ok    password: Redis asks for none, and others cannot reach it"


@pytest.mark.parametrize(
    ("check", "known", "expected"),
    [
        (checks.queues, Redis("r"), []),
        (
            checks.queues,
            Redis("r", stuck=(StuckQueue("night", 3, Wait(WaitKind.QUEUE, "no worker serves the queue 'night'")),)),
            [
                "warn  queue: 3 jobs wait in 'night': no worker serves the queue 'night' → let a worker serve it "
                "(CELERY_DOCKER_OPTS=-Q night), or cancel them: celery-docker queue "
                "purge --queue night"
            ],
        ),
        (
            checks.queues,
            Redis("r", stuck=(StuckQueue("celery", 1, Wait(WaitKind.HOST, "node1 takes no jobs: drained by al@n")),)),
            [
                "warn  queue: 1 job waits in 'celery': node1 takes no jobs: drained by al@n → celery-docker resume "
                "HOST for a drained one; mend what another says"
            ],
        ),
        # That is another finding, of all queues.
        (checks.queues, Redis("r", stuck=(StuckQueue("celery", 1, Wait(WaitKind.WORKER, "no worker is alive")),)), []),
        (checks.access, Redis("db", is_local=False, is_open=True), [PUBLIC.format("db")]),
        (checks.access, Redis("r", is_open=True, bind="* -::*", is_protected=False), [PUBLIC.format("r")]),
        (checks.access, Redis("r", is_open=True, bind="", is_protected=False), [PUBLIC.format("r")]),
        (checks.access, Redis("r", is_open=True, bind="127.0.0.1 10.1.2.3", is_protected=False), [PUBLIC.format("r")]),
        (checks.access, Redis("r", is_open=True, bind="*", is_protected=True), [LOCAL_ONLY]),
        (checks.access, Redis("r", is_open=True, bind="127.0.0.1 -::1", is_protected=False), [LOCAL_ONLY]),
        (checks.access, Redis("r", is_open=True), [LOCAL_ONLY]),
        (checks.access, Redis("db", is_local=False, is_open=False), ["ok    password: Redis asks for one"]),
        (checks.access, Redis("db", is_local=False), []),
        (
            checks.persistence,
            Redis("r", has_log=False, save=""),
            ["fail  persistence: a restart of Redis loses every job → set appendonly yes in redis.conf"],
        ),
        (
            checks.persistence,
            Redis("r", has_log=False, save="3600 1"),
            [
                "warn  persistence: a power cut loses what came since Redis' last snapshot → set appendonly yes in "
                "redis.conf"
            ],
        ),
        (
            checks.persistence,
            Redis("r", has_log=True, save="3600 1", last_save_failed=True),
            ["fail  persistence: Redis could not write to its disk → see its log, and mend its disk"],
        ),
        (
            checks.persistence,
            Redis("r", has_log=True, save="", last_save_failed=False),
            ["ok    persistence: Redis writes every change to its append-only file"],
        ),
        (checks.persistence, Redis("r"), []),
        (
            checks.eviction,
            Redis("r", eviction="allkeys-lru", most_bytes=GIB),
            [
                "fail  eviction: with maxmemory-policy allkeys-lru Redis throws jobs away when its memory is full → "
                "set maxmemory-policy noeviction in redis.conf"
            ],
        ),
        (checks.eviction, Redis("r", eviction="noeviction"), ["ok    eviction: Redis throws nothing away"]),
        (
            checks.memory,
            Redis("r", used_bytes=81 * GIB, most_bytes=100 * GIB),
            [
                "warn  memory: Redis uses 81% of its 100 GiB → raise maxmemory in redis.conf, or keep results for less "
                "long"
            ],
        ),
        (checks.memory, Redis("r", used_bytes=GIB, most_bytes=2 * GIB), ["ok    memory: Redis uses 50% of its 2 GiB"]),
        (checks.memory, Redis("r", used_bytes=GIB, most_bytes=0), []),
        (
            checks.workers,
            Redis("r", workers=()),
            ["fail  workers: none is alive → systemctl start celery-worker, on each host"],
        ),
        (
            checks.workers,
            Redis("r", workers=(Worker("b", 2), Worker("a", 600), Worker("c", 29))),
            [
                "ok    workers: 2 alive: b, c",
                "warn  workers: a was last heard 10m ago → on a: systemctl status celery-worker",
            ],
        ),
        (checks.workers, Redis("r"), []),
        (
            checks.clocks,
            Redis("r", ahead_s=-7200, workers=(Worker("a", 1, 6), Worker("b", 1, -5), Worker("c", 1))),
            [
                "warn  clock: a is 6s ahead of Redis' host → let both keep the time with systemd-timesyncd or chrony",
                "warn  clock: this host is 2h behind Redis' host → let both keep the time with systemd-timesyncd or "
                "chrony",
            ],
        ),
        (checks.clocks, Redis("r", ahead_s=0.1), ["ok    clock: all clocks agree to 5 s"]),
        (checks.clocks, Redis("r"), []),
    ],
)
def test_redis(check: Callable[[Redis], list[Finding]], known: Redis, expected: list[str]) -> None:
    assert said(check(known)) == expected


@pytest.mark.parametrize(
    ("check", "known", "expected"),
    [
        (
            checks.service,
            Host(Unit("failed", "failed", True, ("bad setting\x1b[2J", "Failed")), WELL),
            [
                "fail  celery-worker: has failed → mend what its last lines say, then systemctl restart celery-worker",
                "      | bad setting\\x1b[2J",
                "      | Failed",
            ],
        ),
        (
            checks.service,
            Host(Unit("activating", "auto-restart", True, ("Redis away",)), WELL),
            [
                "fail  celery-worker: ends again and again; systemd keeps starting it → mend what its last lines say, "
                "then systemctl restart celery-worker",
                "      | Redis away",
            ],
        ),
        (
            checks.service,
            Host(Unit("inactive", "dead", True), WELL),
            ["warn  celery-worker: is stopped on this host → systemctl start celery-worker"],
        ),
        (checks.service, Host(RUNNING, WELL), ["ok    celery-worker: is active"]),
        (
            checks.docker,
            Host(RUNNING, DockerFacts("unix:///d", "Connection refused")),
            [
                "fail  docker: does not answer at unix:///d: Connection refused → systemctl start docker; if that "
                "fails: journalctl -u docker"
            ],
        ),
        (
            checks.docker,
            Host(RUNNING, DockerFacts("unix:///d", "Permission denied", is_denied=True)),
            [
                "skip  docker: you may not ask Docker at unix:///d, so it was not looked at → sudo celery-docker "
                "doctor; who is in group docker may ask, and is root"
            ],
        ),
        (
            checks.docker,
            Host(RUNNING, DockerFacts("unix:///d", version="19.03", api="1.40")),
            ["fail  docker: 19.03 (API 1.40) is too old → install Docker 20.10 or later"],
        ),
        (checks.docker, Host(RUNNING, WELL), ["ok    docker: 26.1 (API 1.45)"]),
        (
            checks.live_restore,
            Host(RUNNING, DockerFacts("unix:///d", has_live_restore=False)),
            [
                "warn  live-restore: a restart of Docker ends the running jobs; they start again → put "
                '"live-restore": true into /etc/docker/daemon.json, then systemctl reload docker'
            ],
        ),
        (checks.live_restore, Host(RUNNING, WELL), ["ok    live-restore: containers survive a restart of Docker"]),
        (
            checks.group,
            Host(RUNNING, WELL, is_in_docker_group=False),
            [
                "fail  group: user celery, the worker's, is not in group docker → adduser celery docker; systemctl "
                "restart celery-worker"
            ],
        ),
        (checks.group, Host(RUNNING, WELL, is_in_docker_group=True), []),
        (
            checks.disks,
            Host(
                RUNNING, WELL, (Disk("/a", 10 * GIB, GIB - 1), Disk("/b", 100 * GIB, 4 * GIB), Disk("/c", GIB * 9, GIB))
            ),
            [
                "fail  disk: /a has 1 GiB left of 10 GiB → make room; docker system prune removes unused images",
                "fail  disk: /b has 4 GiB left of 100 GiB → make room; docker system prune removes unused images",
            ],
        ),
        (checks.disks, Host(RUNNING, WELL, (Disk("/a", 10 * GIB, 5 * GIB),)), ["ok    disk: at least 5 GiB are free"]),
    ],
)
def test_this_host(check: Callable[[Host], list[Finding]], known: Host, expected: list[str]) -> None:
    assert said(check(known)) == expected


def test_versions() -> None:
    both = (Worker("a", 1, version="1.0"), Worker("b", 1, version="1.1"), Worker("gone", 900, version="0.1"))
    known = facts.Facts(Redis("r", workers=both), version="1.1")
    assert said(checks.versions(known)) == [
        "warn  version: this is 1.1, others are not: a 1.0 → install the same package on all hosts"
    ]
    assert said(checks.versions(replace(known, redis=Redis("r", workers=both[1:])))) == ["ok    version: all run 1.1"]


def test_a_worker_of_this_machine_that_an_upgrade_has_not_reached() -> None:
    """Two workers of this machine, and another machine, which has the old package."""
    workers = (
        Worker("a", 1, version="1.0", machine="m1"),
        Worker("two@a", 1, version="1.1", machine="m1"),
        Worker("b", 1, version="1.0", machine="m2"),
    )
    known = facts.Facts(Redis("r", workers=workers), Host(RUNNING, WELL, machine="m1"), version="1.1")
    assert said(checks.versions(known)) == [
        "warn  version: a runs 1.0, installed is 1.1 → systemctl reload celery-worker",
        "warn  version: this is 1.1, others are not: b 1.0 → install the same package on all hosts",
    ]


def test_what_an_ordinary_user_could_not_look_at() -> None:
    redis = Redis("r", used_bytes=1, workers=(), ahead_s=0.0)
    known = facts.Facts(redis, Host(Unit("failed", "failed", True), WELL), closed=("/etc/default/celery-worker",))
    assert [line for line in said(checks.findings(known)) if line.startswith("skip")] == [
        "skip  redis: this user of Redis may not ask about it, so these were not looked at: persistence, eviction "
        "→ celery-docker doctor --broker URL, with the login of its administrator",
        "skip  journal: you may not read the worker's log → sudo celery-docker doctor",
        "skip  settings: you may not read /etc/default/celery-worker, so the usual values are taken for granted "
        "→ sudo celery-docker doctor",
    ]


def test_a_redis_that_does_not_answer_is_all_that_is_said_of_it() -> None:
    """And where no jobs run, nothing of this host."""
    known = facts.Facts(Redis("db", problem="cannot reach Redis at redis://db"), version="1")
    assert said(checks.findings(known)) == ["fail  redis: cannot reach Redis at redis://db"]


def test_the_host_is_looked_at_even_without_redis() -> None:
    known = facts.Facts(Redis("db", problem="away"), Host(RUNNING, WELL))
    assert [finding.what for finding in checks.findings(known)] == ["redis", "celery-worker", "docker", "live-restore"]


def test_for_programs() -> None:
    assert checks.reach(Redis("db")).to_json() == {
        "level": "ok",
        "what": "redis",
        "says": "answers at db",
        "remedy": None,
        "details": [],
    }
