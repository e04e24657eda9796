"""The things that are wrong now: which are told, to whom, in which order, and in how many words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from celery_docker.client import problems
from celery_docker.client.summary import Overall
from celery_docker.core.findings import Finding, Level
from celery_docker.core.redishealth import Redis, StuckQueue, Worker
from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.store import listing
from celery_docker.store.listing import JobRow, Load, WorkerRow

READY = {"slots": 4, "queues": ["celery"], "accepting": True, "status": "0 jobs running"}
SICK = {**READY, "accepting": False, "status": "Takes no jobs: Docker does not answer; 0 jobs running"}
STOPPING = {**READY, "phase": "stopping"}


def host(
    name: str = "node1",
    about: Mapping[str, Any] = READY,
    heard_s: float = 1.0,
    *,
    jobs: int = 0,
    drained: str | None = None,
    lost: bool = False,
) -> WorkerRow:
    return WorkerRow(name, heard_s, None, jobs, about, drained, lost)


def overall(*hosts: WorkerRow, stuck: tuple[StuckQueue, ...] = ()) -> Overall:
    return Overall(Load(0, 0, 0, 0), hosts, {"celery": 0}, stuck)


def said(*hosts: WorkerRow, stuck: tuple[StuckQueue, ...] = ()) -> list[tuple[str, str, str]]:
    rows = problems.listed(problems.of(overall(*hosts, stuck=stuck)))["problems"]
    return [(row["level"], row["says"], row["advice"]) for row in rows]


START = ("fail", "none is alive", "systemctl start celery-worker, on each host")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (host(), []),
        (host(about=STOPPING), []),
        (host(about={}), []),
        (
            host(about=SICK),
            [("warn", "node1 takes no jobs: Docker does not answer", "on node1: sudo celery-docker doctor")],
        ),
        (
            host(drained="root@a: disk"),
            [("warn", "node1 takes no jobs: drained by root@a: disk", "celery-docker resume node1")],
        ),
        (
            host(heard_s=61),
            [START, ("warn", "node1 was last heard 1m ago", "on node1: systemctl status celery-worker")],
        ),
        (
            host(about={**READY, "unit": "celery-worker@b"}, heard_s=7200, lost=True),
            [
                START,
                (
                    "warn",
                    "node1 was last heard 2h ago and is lost: its jobs are others' now",
                    "on node1: systemctl status celery-worker@b",
                ),
            ],
        ),
        (host(heard_s=200_000, lost=True), [START]),
    ],
)
def test_a_host(row: WorkerRow, expected: list[tuple[str, str, str]]) -> None:
    assert said(row) == expected


def test_without_a_host() -> None:
    waits = StuckQueue("celery", 3, Wait(WaitKind.WORKER, "no worker is alive"))
    assert said(stuck=(waits,)) == [START]


def test_the_gravest_comes_first() -> None:
    stuck = StuckQueue("gpu", 3, Wait(WaitKind.QUEUE, "no worker serves the queue 'gpu'"))
    rows = said(host("a", drained="root"), host("b", SICK), host("c"), stuck=(stuck,))
    assert [says.partition(":")[0] for _, says, _ in rows] == [
        "3 jobs wait in 'gpu'",
        "b takes no jobs",
        "a takes no jobs",
    ]


def test_what_each_is_about() -> None:
    stuck = StuckQueue("gpu", 1, Wait(WaitKind.OFFER, "no host offers 1 GPU"))
    rows = problems.listed(problems.of(overall(host("a", SICK), host("b"), stuck=(stuck,))))["problems"]
    assert [(row["what"], row["host"], row["queue"], row["command"]) for row in rows] == [
        ("queue", None, "gpu", "celery-docker queue"),
        ("host", "a", None, "celery-docker workers"),
    ]


def test_redis_is_for_administrators() -> None:
    redis = Redis(
        "db",
        is_local=False,
        is_open=True,
        has_log=False,
        save="",
        eviction="noeviction",
        refused=2,
        last_refusal="no job",
        ahead_s=9.0,
        workers=(Worker("node1", 100),),
    )
    found = problems.listed(problems.of_redis(redis))["problems"]
    # Hosts are told of already, and what is well is no problem.
    assert [(row["level"], row["what"]) for row in found] == [
        ("fail", "persistence"),
        ("fail", "password"),
        ("warn", "refused"),
        ("warn", "clock"),
    ]
    assert found[2]["command"] == "celery-docker queue refused"
    assert found[0]["advice"].endswith("or: sudo celery-docker setup-redis")


def job(job_id: str = "j1", queue: str = "celery") -> JobRow:
    values = {"state": "queued", "queue": queue}
    return listing.job(job_id, [values.get(name) for name in listing.ROW_FIELDS])


TURN = Wait(WaitKind.SLOT, "it is next")


@pytest.mark.parametrize(
    ("hosts", "wait", "waited_s", "says"),
    [
        ([host()], TURN, 720, "a job has waited in 'celery' for 12m while node1 has free slots"),
        ([host()], TURN, 59, None),
        ([host(jobs=4)], TURN, 720, None),
        ([host(about=SICK)], TURN, 720, None),
        ([host(drained="root")], TURN, 720, None),
        ([host(heard_s=31)], TURN, 720, None),
        ([host(about={**READY, "queues": ["other"]})], TURN, 720, None),
        ([host()], Wait(WaitKind.ROOM, "waits for room"), 720, None),
        ([host()], None, 720, None),
        ([], TURN, 720, None),
    ],
)
def test_a_job_that_waits_beside_free_slots(
    hosts: list[WorkerRow], wait: Wait | None, waited_s: float, says: str | None
) -> None:
    waits = {} if wait is None else {"j1": wait}
    found = list(problems.late([job()], {"j1": 1000.0}, waits, overall(*hosts), 1000.0 + waited_s))
    assert [problem.finding.says for problem in found] == ([] if says is None else [says])
    # Whose it is, is nobody's business.
    assert all("j1" not in json.dumps(problem.to_json()) for problem in found)


def test_only_the_longest_wait_is_told() -> None:
    rows, put_at = [job("j1"), job("j2"), job("j3")], {"j1": 900.0, "j2": 500.0, "j3": 700.0}
    (found,) = problems.late(rows, put_at, dict.fromkeys(put_at, TURN), overall(host()), 1000.0)
    assert "for 8m 20s" in found.finding.says


def test_many_problems_are_few_bytes() -> None:
    name = "\U0001f600" * 300
    hosts = [host(f"{number}{name}", {**SICK, "status": f"Takes no jobs: {name * 9}; 0"}) for number in range(200)]
    stuck = tuple(StuckQueue(f"{name}{number}", 1, Wait(WaitKind.QUEUE, name * 9)) for number in range(200))
    table = problems.listed(problems.of(overall(*hosts, stuck=stuck)))
    assert (len(table["problems"]), table["more_problems"]) == (20, 380)
    ascii_name = "x" * 300
    rows = [problems.Problem(Finding(Level.WARN, "host", ascii_name, ascii_name), ascii_name, ascii_name)] * 99
    assert len(json.dumps(problems.listed(rows))) < 16_000


def test_a_name_has_no_control_characters() -> None:
    (row,) = problems.listed(problems.of(overall(host("a\x1b[31m\n", SICK))))["problems"]
    assert "\\u001b" not in json.dumps(row)
    assert "\n" not in row["says"]
