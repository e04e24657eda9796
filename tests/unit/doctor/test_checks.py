"""The checks together, and those that compare this machine with the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_docker.core.admission import Offer
from celery_docker.core.policy import Policy
from celery_docker.core.redishealth import Redis, Worker
from celery_docker.doctor import checks, facts
from celery_docker.doctor.facts import Host, Unit
from tests.unit.doctor.printed import RUNNING, WELL, lines


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([], []),
        # The host of an older version, another machine, and one that is silent.
        ([Worker("a", 1, machine="m1"), Worker("b", 1, machine="m2", offer=Offer(9000, 0))], []),
        ([Worker("a", 900, machine="m1", offer=Offer(9000, 0))], []),
        ([Worker("a", 1, machine="m1", offer=Offer(4000, 8 * 2**30))], []),
        (
            [Worker("a", 1, machine="m1", offer=Offer(8000, 8 * 2**30))],
            [
                "warn  offer: 8 CPUs are offered to jobs, and there are 4 → set CELERY_DOCKER_CPUS and "
                "CELERY_DOCKER_MEMORY in /etc/default/celery-worker, then reload it"
            ],
        ),
        (
            [
                Worker("a", 1, machine="m1", offer=Offer(2000, 7 * 2**30)),
                Worker("gpu@a", 1, machine="m1", offer=Offer(2000, 2 * 2**30)),
            ],
            [
                "warn  offer: 9 GiB of memory is offered to jobs, and there is 8 GiB → set CELERY_DOCKER_CPUS and "
                "CELERY_DOCKER_MEMORY in /etc/default/celery-worker-NAME of each worker, then reload it"
            ],
        ),
    ],
)
def test_offers_of_more_than_the_host_has(workers: list[Worker], expected: list[str]) -> None:
    host = Host((RUNNING,), WELL, machine="m1", capacity=Offer(4000, 8 * 2**30))
    assert lines(checks.offers(Redis("r", workers=tuple(workers)), host)) == expected
    assert checks.offers(Redis("r", workers=tuple(workers)), replace(host, capacity=None)) == []


def test_versions() -> None:
    both = (Worker("a", 1, version="1.0"), Worker("b", 1, version="1.1"), Worker("gone", 900, version="0.1"))
    all_facts = facts.Facts(Redis("r", workers=both), version="1.1")
    assert lines(checks.versions(all_facts)) == [
        "warn  version: this is 1.1, others are not: a 1.0 → install the same package on all hosts"
    ]
    assert lines(checks.versions(replace(all_facts, redis=Redis("r", workers=both[1:])))) == [
        "ok    version: all run 1.1"
    ]


def test_a_worker_of_this_machine_that_an_upgrade_has_not_reached() -> None:
    """Two workers of this machine, and another machine, which has the old package."""
    workers = (
        Worker("a", 1, version="1.0", machine="m1"),
        Worker("gpu@a", 1, version="1.0", machine="m1", unit="celery-worker@gpu"),
        Worker("two@a", 1, version="1.1", machine="m1"),
        Worker("b", 1, version="1.0", machine="m2"),
    )
    all_facts = facts.Facts(Redis("r", workers=workers), Host((RUNNING,), WELL, machine="m1"), version="1.1")
    assert lines(checks.versions(all_facts)) == [
        "warn  version: a runs 1.0, installed is 1.1 → systemctl reload celery-worker",
        "warn  version: gpu@a runs 1.0, installed is 1.1 → systemctl reload celery-worker@gpu",
        "warn  version: this is 1.1, others are not: b 1.0 → install the same package on all hosts",
    ]


def test_what_an_ordinary_user_could_not_look_at() -> None:
    redis = Redis("r", used_bytes=1, workers=(), ahead_s=0.0)
    all_facts = facts.Facts(
        redis, Host((Unit("celery-worker", "failed", "failed"),), WELL), closed=("/etc/default/celery-worker",)
    )
    assert [line for line in lines(checks.findings(all_facts)) if line.startswith("skip")] == [
        "skip  redis: this user of Redis may not ask about it, so these were not looked at: persistence, eviction "
        "→ celery-docker doctor --broker URL, with the login of its administrator",
        "skip  journal: you may not read the worker's log → sudo celery-docker doctor",
        "skip  settings: you may not read /etc/default/celery-worker, so the defaults are assumed "
        "→ sudo celery-docker doctor",
    ]


def test_a_redis_that_does_not_answer_is_all_that_is_said_of_it() -> None:
    """And where no jobs run, nothing of this host."""
    all_facts = facts.Facts(Redis("db", problem="cannot reach Redis at redis://db"), version="1")
    assert lines(checks.findings(all_facts)) == ["fail  redis: cannot reach Redis at redis://db"]


def test_the_host_is_looked_at_even_without_redis() -> None:
    all_facts = facts.Facts(Redis("db", problem="away"), Host((RUNNING,), WELL))
    assert [finding.what for finding in checks.findings(all_facts)] == [
        "redis",
        "celery-worker",
        "docker",
        "live-restore",
    ]


SIGNED = Policy(submitters="signed", self_only=True)


@pytest.mark.parametrize(
    ("redis", "rules", "expected"),
    [
        (Redis("r", is_open=True), Policy(), "warn  open: any local user can be root here, by a job that runs as root"),
        (Redis("r", is_open=False), Policy(), "warn  open: whoever can write to Redis can be root here, by a job"),
        (Redis("r", is_open=None), Policy(), "warn  open: whoever can write to Redis can be root here, by a job"),
        (Redis("r", is_local=False, is_open=True), Policy(), "warn  open: whoever can write to Redis can be root here"),
        (
            Redis("r"),
            Policy(users=("bob", "1-9")),
            "warn  open: whoever can write to Redis can run a job here as 'bob', '1-9'",
        ),
        (Redis("r", is_open=True), SIGNED, "ok    open: only signed jobs run here"),
        (
            Redis("r", is_open=True),
            replace(SIGNED, unsigned=Policy(users=("bob",))),
            "warn  open: any local user can run a job here as 'bob' → remove [unsigned] from its policy.toml",
        ),
    ],
)
def test_one_line_says_how_open_this_host_is(redis: Redis, rules: Policy, expected: str) -> None:
    (finding,) = checks.openness(redis, Host((RUNNING,), WELL, policy=rules))
    (line,) = finding.lines()
    assert line.startswith(expected)
    assert ("submitters = 'signed'" in line) == (rules.submitters == "any")


def test_of_a_policy_that_is_not_known_nothing_is_said() -> None:
    assert checks.openness(Redis("r"), Host((RUNNING,), WELL)) == []
