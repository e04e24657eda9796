"""Progress of a batch: the bar, the plain line, when it is due, and the summary."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.cli import progress, tables
from celery_docker.cli.progress import PlainLine
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt

COUNTS = {"succeeded": 40, "failed": 3, "cancelled": 2, "running": 8, "queued": 47}


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (110, "[" + "#" * 18 + "." * 22 + "] 45/100 45%  8 running  3 failed  2 cancelled  30.0/min  ETA 1m 50s"),
        (90, "[" + "#" * 9 + "." * 12 + "] 45/100 45%  8 running  3 failed  2 cancelled  30.0/min  ETA 1m 50s"),
        (76, "45/100 45%  8 running  3 failed  2 cancelled  30.0/min  ETA 1m 50s"),
        (40, "45/100 45%  8 running  3 failed  2 canc…"),
    ],
)
def test_the_bar_takes_what_the_words_leave(width: int, expected: str) -> None:
    assert progress.line(COUNTS, 100, 90.0, width) == expected


@pytest.mark.parametrize(
    ("counts", "total", "elapsed_s", "already", "expected"),
    [
        pytest.param({}, 100, 0.0, 0, "0/100 0%", id="nothing yet"),
        pytest.param({"running": 3}, 100, 9.0, 0, "0/100 0%  3 running", id="no rate without an end"),
        pytest.param({"succeeded": 999}, 1000, 10.0, 0, "999/1000 99%  99.9/s  ETA 0s", id="not all is not 100%"),
        pytest.param({"succeeded": 5}, 5, 10.0, 0, "5/5 100%  30.0/min", id="all"),
        pytest.param({"succeeded": 1}, 2, 7200.0, 0, "1/2 50%  0.5/h  ETA 2h", id="slow"),
        pytest.param({"succeeded": 60}, 100, 10.0, 50, "60/100 60%  1.0/s  ETA 40s", id="joined later"),
        pytest.param({"succeeded": 50}, 100, 10.0, 50, "50/100 50%", id="joined now"),
        pytest.param({"succeeded": 1}, 2, 0.0, 0, "1/2 50%", id="no time has passed"),
        pytest.param({"lost": 1, "timed_out": 2}, 3, 1.0, 0, "3/3 100%  2 timed out  1 lost  3.0/s", id="words"),
        pytest.param(
            {"succeeded": 1, "paused": 1}, 2, 1.0, 0, "1/2 50%  1.0/s  ETA 1s", id="a state of a newer worker"
        ),
        pytest.param({}, 0, 1.0, 0, "0/0 100%", id="an empty batch"),
    ],
)
def test_plain_lines(counts: dict[str, int], total: int, elapsed_s: float, already: int, expected: str) -> None:
    assert progress.plain_line(counts, total, elapsed_s, already) == expected


@given(
    st.dictionaries(st.sampled_from(list(State)), st.integers(0, 10**6)),
    st.integers(0, 10**6),
    st.floats(0, 1e8),
    st.integers(1, 200),
)
def test_a_line_is_never_wider_than_the_terminal(
    counts: dict[str, int], total: int, elapsed_s: float, width: int
) -> None:
    assert tables.display_width(progress.line(counts, total, elapsed_s, width)) <= width


@pytest.mark.parametrize(
    ("last", "ended", "total", "now_s", "expected"),
    [
        pytest.param(None, 0, 100, 0.0, True, id="the first"),
        pytest.param(PlainLine(0, 0.0), 9, 100, 59.0, False, id="less than a tenth"),
        pytest.param(PlainLine(0, 0.0), 10, 100, 1.0, True, id="a tenth"),
        pytest.param(PlainLine(10, 0.0), 19, 100, 1.0, False, id="less than a tenth more"),
        pytest.param(PlainLine(10, 5.0), 10, 100, 65.0, True, id="nothing for a minute"),
        pytest.param(PlainLine(95, 0.0), 100, 100, 1.0, True, id="the last"),
        pytest.param(PlainLine(100, 0.0), 100, 100, 999.0, False, id="once only"),
        pytest.param(PlainLine(0, 0.0), 0, 3, 1.0, False, id="a tenth of few is one"),
        pytest.param(PlainLine(0, 0.0), 1, 3, 1.0, True, id="one of few"),
    ],
)
def test_when_a_plain_line_is_due(last: PlainLine | None, ended: int, total: int, now_s: float, expected: bool) -> None:
    assert progress.is_plain_line_due(last, {"succeeded": ended, "running": 1}, total, now_s) is expected


def test_the_interval_is_the_callers() -> None:
    assert progress.is_plain_line_due(PlainLine(0, 0.0), {}, 100, 5.0, every_s=5.0)
    assert not progress.is_plain_line_due(PlainLine(0, 0.0), {}, 100, 4.9, every_s=5.0)


# The summary


def receipt(number: int, state: str, **more: Any) -> Receipt:
    job_id = f"{number:08x}-0000-4000-8000-000000000000"
    return Receipt(job_id, state=state, attempts=({},), **more)


def test_a_summary_without_failures_is_one_line() -> None:
    results = [receipt(1, "succeeded", exit_code=0), receipt(2, "cancelled"), receipt(3, "succeeded", exit_code=0)]
    assert progress.summary(results, "b1", 3) == ["3 jobs: 2 succeeded, 1 cancelled"]


def test_a_summary_names_the_first_failures_and_what_to_type() -> None:
    results = [
        receipt(1, "succeeded", exit_code=0),
        receipt(2, "failed", exit_code=3, reason="exit code 3", output="reading\nno such \x1b[1mchromosome\n\n"),
        receipt(3, "failed", exit_code=1, reason="exit code 1", name="scan 3"),
        receipt(4, "timed_out", reason="timed out after 90 s", output="97%"),
        receipt(5, "failed", exit_code=137, oom_killed=True, reason="out of memory: limit 512m", output="97%"),
        receipt(6, "rejected", reason="image 'x' is not allowed here"),
        receipt(7, "lost"),
        receipt(8, "running"),
    ]
    assert progress.summary(results, "b1", 8) == [
        "8 jobs: 1 running, 1 succeeded, 3 failed, 1 timed out, 1 rejected, 1 lost",
        "  00000002  exit 3  no such \\x1b[1mchromosome",
        "  00000003  exit 1  scan 3: exit code 1",
        "  00000004  exit 124  timed out after 90 s",
        "  00000005  exit 137  out of memory: limit 512m",
        "  00000006  exit 125  rejected: image 'x' is not allowed here",
        "  and 1 more",
        "Run the failed ones again: celery-docker retry --failed b1",
    ]


def test_a_summary_tells_what_is_not_there() -> None:
    assert progress.summary([receipt(1, "succeeded", exit_code=0)], "b1", 3) == [
        "1 job: 1 succeeded",
        "2 of 3 jobs are not there: they were not submitted, or their records are gone",
    ]


def test_a_summary_of_nothing() -> None:
    assert progress.summary([], "b1", 0) == ["0 jobs: none"]
