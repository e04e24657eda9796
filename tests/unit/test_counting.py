"""The counters of the fault tests can fire: a lost job, a doubled run and an orphan, each made on purpose."""

from __future__ import annotations

from typing import Any

import pytest

from tests.faults.counting import Count, Seen, count

RAN = ("start", "end")
UNSEEN = "Docker or the host went down under it (exit code 255)"
DUE = ("was stopped", "went down under it")


def seen(*lines: str, status: str = "SUCCESS", reasons: tuple[str | None, ...] = (), ends: bool = True) -> Seen:
    """Return a job whose attempts before the last one ended for these reasons."""
    receipt: dict[str, Any] = {"attempts": [{"reason": reason} for reason in (*reasons, None)]}
    return Seen("j", lines, status, receipt, ends)


LOST = {
    "no run, no result": seen(status="PENDING"),
    "ran, no result": seen(*RAN, status="STARTED"),
    "a run that never ended, no result": seen("start", status="STARTED"),
    "waits for a retry that never comes": seen("start", status="RETRY"),
    "a result without a run": seen(status="SUCCESS"),
    "a result before the end of the run": seen("start", status="SUCCESS"),
    "failed without having been told to": seen("start", status="FAILURE"),
    "made to fail, no result": seen("start", status="STARTED", ends=False),
}
DOUBLED = {
    "two whole runs": seen(*RAN, *RAN),
    "two runs at once": seen("start", "start", "end", "end"),
    "a second run that was cut off": seen("start", "start", "end"),
    "a second run for a reason that is not due": seen("start", *RAN, reasons=("exit code 137",)),
    "three runs, one of them due": seen("start", "start", *RAN, reasons=("the worker was stopped",)),
    "a due second run of a job that had ended": seen(*RAN, *RAN, reasons=("the worker was stopped",)),
    "a due second run of a job that had ended, by another exit code": seen(
        *RAN, *RAN, reasons=("Docker or the host went down under it (exit code 137)",)
    ),
    "one end that nobody saw, and three": seen(*RAN, *RAN, "end", reasons=(UNSEEN,)),
    "one end that nobody saw, and three runs": seen("start", *RAN, *RAN, reasons=(UNSEEN,)),
    "cancelled and run twice": seen("start", "start", status="REVOKED"),
}
WELL = {
    "ran once": seen(*RAN),
    "run again for a due reason": seen("start", *RAN, reasons=("Docker or the host went down under it",)),
    "an attempt that never started": seen(*RAN, reasons=("the worker was stopped",)),
    "cancelled before its run": seen(status="REVOKED"),
    "cancelled in its run": seen("start", status="REVOKED"),
    "made to fail": seen("start", status="FAILURE", ends=False),
    "no receipt": Seen("j", RAN, "SUCCESS"),
}
REPEATED = {
    "run again after an end that nobody saw": seen(*RAN, *RAN, reasons=(UNSEEN,)),
    "two runs at once, one of them out of sight": seen("start", "start", "end", "end", reasons=(UNSEEN,)),
}


@pytest.mark.parametrize("job", LOST.values(), ids=LOST)
def test_a_lost_job_is_counted(job: Seen) -> None:
    assert count([seen(*RAN), job], [], DUE) == Count(lost=("j",), doubled=(), repeated=(), orphans=())


@pytest.mark.parametrize("job", DOUBLED.values(), ids=DOUBLED)
def test_a_doubled_run_is_counted(job: Seen) -> None:
    assert count([seen(*RAN), job], [], DUE, ["(exit code 255)"]) == Count(
        lost=(), doubled=("j",), repeated=(), orphans=()
    )


@pytest.mark.parametrize("job", WELL.values(), ids=WELL)
def test_a_job_that_kept_the_promise_is_not_counted(job: Seen) -> None:
    assert count([job], [], DUE, ["(exit code 255)"]) == Count(lost=(), doubled=(), repeated=(), orphans=())


@pytest.mark.parametrize("job", REPEATED.values(), ids=REPEATED)
def test_an_end_that_nobody_saw_is_counted_apart(job: Seen) -> None:
    assert count([job], [], DUE, ["(exit code 255)"]) == Count(lost=(), doubled=(), repeated=("j",), orphans=())


def test_a_second_end_counts_unless_the_row_says_that_nobody_could_see_the_first() -> None:
    assert count([seen(*RAN, *RAN, reasons=(UNSEEN,))], [], DUE).doubled == ("j",)


def test_an_orphan_is_counted() -> None:
    assert count([seen(*RAN)], ["run-j"]) == Count(lost=(), doubled=(), repeated=(), orphans=("run-j",))


def test_one_job_may_be_both_lost_and_doubled() -> None:
    faults = count([seen("start", "start", status="PENDING")], ["run-j"])
    assert (len(faults.lost), len(faults.doubled), len(faults.orphans)) == (1, 1, 1)
