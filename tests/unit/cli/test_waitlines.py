"""The lines that somebody sees who looks at one job while it waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from celery_docker.cli.waitlines import ObstacleLines, WaitLines
from celery_docker.core.receipt import Receipt
from celery_docker.core.waiting import Wait, WaitKind

SLOT = Wait(WaitKind.SLOT, "no free slot; 3 jobs before it")
NOBODY = Wait(WaitKind.WORKER, "no worker is alive")
FAILED = "attempt 1 failed: exit code 1"
ENTRY = {"attempt": 1, "reason": "exit code 1"}
RETRY = Wait(WaitKind.RETRY, f"{FAILED}; attempt 2 in 10s")
ADVICE = "see celery-docker doctor"
NO_WORKER_LINE = f"no worker is alive: the job waits; {ADVICE}"


@dataclass
class Looks:
    """One job in a Redis in memory, and the lines about it; `at` is the clock of whoever looks."""

    wait: Wait | None = None
    entries: list[Mapping[str, Any]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    questions: int = 0
    at: float = 100.0

    def __post_init__(self) -> None:
        self.lines_of_job = WaitLines(self, "j1", self.lines.append, ADVICE, lambda: self.at)  # type: ignore[arg-type]

    @property
    def jobs(self) -> Looks:
        return self

    @property
    def waits(self) -> Looks:
        return self

    def now(self) -> float:
        return self.at

    def row(self, job_id: str) -> str:
        return job_id

    def rows(self, job_ids: Sequence[str]) -> list[str]:
        return list(job_ids)

    def of(self, rows: Sequence[str]) -> dict[str, Wait]:
        self.questions += 1
        return {} if self.wait is None else {"j1": self.wait}

    def attempts(self, job_ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        return {"j1": list(self.entries)} if self.entries else {}

    def pass_s(self, seconds: float) -> list[str]:
        """Look all the time for so long; return the lines that this brings, without the program's name."""
        before = len(self.lines)
        for _ in range(round(seconds * 5)):
            self.lines_of_job.look()
            self.at = round(self.at + 0.2, 1)
        return [line.removeprefix("celery-docker: ") for line in self.lines[before:]]


def test_a_job_that_starts_soon_is_worth_no_line() -> None:
    looks = Looks(SLOT)
    assert looks.pass_s(2) == []
    looks.wait = None
    assert looks.pass_s(100) == []


def test_a_wait_that_lasts_is_worth_one() -> None:
    assert Looks(SLOT).pass_s(100) == [SLOT.reason]


@pytest.mark.parametrize("seconds", [0.2, 100])
def test_an_obstacle_is_told_at_once(seconds: float) -> None:
    assert Looks(NOBODY).pass_s(seconds) == [NO_WORKER_LINE]


def test_another_kind_of_wait_is_another_line() -> None:
    looks = Looks(NOBODY)
    looks.pass_s(1)
    looks.wait = SLOT
    assert looks.pass_s(10) == [SLOT.reason]


def test_numbers_that_change_are_told_now_and_then() -> None:
    looks, lines = Looks(), []
    for percent in range(100):
        looks.wait = Wait(WaitKind.PULL, f"pulling a: {percent} MiB of 100 MiB")
        lines += looks.pass_s(1)
    assert 2 <= len(lines) <= 4


def test_each_end_of_an_attempt_is_told_with_the_next_try() -> None:
    """At once, although Redis is asked seldom while a job runs."""
    looks = Looks()
    assert looks.pass_s(60) == []
    looks.entries, looks.wait = [ENTRY], RETRY
    assert looks.pass_s(0.2) == [RETRY.reason]
    # The pause grows shorter, which is no news.
    looks.wait = Wait(WaitKind.RETRY, f"{FAILED}; attempt 2 in 1s")
    assert looks.pass_s(60) == []


def test_an_attempt_whose_next_one_runs_already() -> None:
    looks = Looks()
    looks.pass_s(1)
    # The second is of a version that says less.
    looks.entries = [ENTRY, {}]
    assert looks.pass_s(60) == [FAILED, "attempt 2 failed"]


def test_a_wait_that_follows_an_attempt_is_not_told_twice() -> None:
    looks = Looks(Wait(WaitKind.WORKER, f"{FAILED}; attempt 2: no worker is alive"), [ENTRY])
    assert looks.pass_s(60) == [f"{FAILED}; attempt 2: no worker is alive"]


def test_attempts_that_nobody_saw_are_told_at_the_end() -> None:
    """The last is left to whoever tells of the job's end."""
    looks = Looks()
    entries = ({**ENTRY}, {"attempt": 2, "reason": "exit code 2"}, {"attempt": 3, "reason": "exit code 3"})
    looks.entries = [ENTRY]
    looks.pass_s(1)
    looks.lines_of_job.end(Receipt("j1", attempts=entries))
    assert looks.lines == [f"celery-docker: {FAILED}", "celery-docker: attempt 2 failed: exit code 2"]


def test_redis_is_asked_seldom_while_nothing_changes() -> None:
    looks = Looks(SLOT)
    looks.pass_s(105)
    assert looks.questions <= 5 + 11


def test_a_reason_cannot_move_the_cursor() -> None:
    looks = Looks()
    looks.entries = [{"attempt": 1, "reason": "a\x1bb"}]
    assert looks.pass_s(1) == ["attempt 1 failed: a\\x1bb"]


# Many jobs


def test_what_nobody_runs_of_many_jobs_is_a_line_once() -> None:
    """Of a size that no host offers there is one for each size."""
    looks, at = Looks(), [0.0]
    waits = {
        "j1": Wait(WaitKind.SLOT, "it is next"),
        "j2": Wait(WaitKind.OFFER, "no host offers 64 GiB"),
        "j3": Wait(WaitKind.OFFER, "no host offers 64 GiB"),
        "j4": Wait(WaitKind.HOST, "its host node1 has been silent for 45s"),
    }
    looks.of = lambda rows: {job_id: waits[job_id] for job_id in rows}  # type: ignore[method-assign]
    lines = ObstacleLines(looks, looks.lines.append, ADVICE, lambda: at[0])  # type: ignore[arg-type]
    lines.look(["j1", "j2", "j3"])
    assert looks.lines == ["celery-docker: j2: no host offers 64 GiB: it waits; see celery-docker doctor"]
    lines.look(["j4"])
    assert len(looks.lines) == 1, "it was asked a moment ago"
    at[0] = 11.0
    lines.look(["j1", "j2", "j3", "j4"])
    waits["j3"] = Wait(WaitKind.OFFER, "no host offers 2 GPUs\x1b[2J")
    waits["j4"] = Wait(WaitKind.HOST, "its host node1 has been silent for 65s")
    at[0] = 22.0
    lines.look(["j1", "j2", "j3", "j4"])
    assert [line.removeprefix("celery-docker: ") for line in looks.lines[1:]] == [
        "j4: its host node1 has been silent for 45s: it waits; see celery-docker doctor",
        "j3: no host offers 2 GPUs\\x1b[2J: it waits; see celery-docker doctor",
    ]
