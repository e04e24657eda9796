"""The exit status of the command line for every end of a job, and the sentence beside it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.cli import exitcodes
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt


def receipt(state: str, exit_code: int | None = None, **more: Any) -> Receipt:
    return Receipt("j1", state=state, exit_code=exit_code, **more)


STATUS = [
    (State.SUCCEEDED, 0, {}, 0),
    (State.SUCCEEDED, None, {}, 125),
    (State.FAILED, 1, {}, 1),
    (State.FAILED, 255, {}, 255),
    (State.FAILED, 126, {}, 126),
    (State.FAILED, 139, {"signal": 11}, 139),
    (State.FAILED, 137, {"oom_killed": True, "signal": 9}, 137),
    # A shell whose child was killed says so in its own words.
    (State.FAILED, 3, {"oom_killed": True}, 3),
    (State.FAILED, None, {}, 125),
    (State.FAILED, None, {"oom_killed": True}, 137),
    (State.FAILED, None, {"signal": 9}, 137),
    (State.FAILED, None, {"signal": 15}, 143),
    (State.FAILED, None, {"signal": 0}, 125),
    # What no process can exit with would come out as 0.
    (State.FAILED, 0, {}, 125),
    (State.FAILED, 256, {}, 125),
    (State.FAILED, -1, {}, 125),
    (State.TIMED_OUT, None, {}, 124),
    (State.TIMED_OUT, 137, {"signal": 9}, 124),
    (State.TIMED_OUT, 0, {}, 124),
    (State.EXPIRED, None, {}, 124),
    (State.CANCELLED, None, {}, 143),
    (State.CANCELLED, 137, {"signal": 9}, 143),
    (State.CANCELLED, 0, {}, 143),
    (State.REJECTED, None, {}, 125),
    (State.REJECTED, 126, {}, 126),
    (State.REJECTED, 127, {}, 127),
    (State.REJECTED, 1, {}, 125),
    (State.REJECTED, 0, {}, 125),
    (State.ERROR, None, {}, 125),
    (State.ERROR, 0, {}, 125),
    (State.ERROR, 3, {}, 125),
    (State.LOST, None, {}, 125),
    # Not at their end: whoever asks does not know how they will end.
    (State.QUEUED, None, {}, 125),
    (State.STARTING, None, {}, 125),
    (State.RUNNING, None, {}, 125),
    # Of a worker newer than this client.
    ("paused", 0, {}, 125),
]


@pytest.mark.parametrize(("state", "exit_code", "more", "expected"), STATUS)
def test_status(state: str, exit_code: int | None, more: dict[str, Any], expected: int) -> None:
    assert exitcodes.exit_status(receipt(state, exit_code, **more)) == expected


def test_the_table_has_every_state() -> None:
    assert {state for state, *_ in STATUS} >= set(State)


@given(
    st.sampled_from([*State, "paused"]),
    st.none() | st.integers(-5, 300),
    st.none() | st.integers(-1, 70),
    st.none() | st.booleans(),
)
def test_only_a_success_comes_to_0(state: str, code: int | None, signal: int | None, oom_killed: bool | None) -> None:
    status = exitcodes.exit_status(receipt(state, code, signal=signal, oom_killed=oom_killed))
    assert (status == 0) == (state == State.SUCCEEDED and code == 0)
    assert 0 <= status <= 255


def test_a_record_without_a_receipt_has_a_status_too() -> None:
    assert exitcodes.exit_status(Receipt("j1", state="cancelled")) == 143
    assert exitcodes.exit_status(Receipt("j1")) == 125


@pytest.mark.parametrize(("codes", "expected"), [([], 0), ([0, 0], 0), ([0, 3, 1], 3), ([124, 143, 125], 143)])
def test_the_highest_of_several(codes: list[int], expected: int) -> None:
    assert exitcodes.highest(codes) == expected


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        (State.SUCCEEDED, None, None),
        (State.FAILED, "exit code 3", "exit code 3"),
        (State.FAILED, "out of memory: limit 512m, raise it with -m", "out of memory: limit 512m, raise it with -m"),
        (State.FAILED, None, "failed"),
        (State.TIMED_OUT, "timed out after 90 s", "timed out after 90 s"),
        (State.TIMED_OUT, "ran longer than its timeout of 90 s", "timed out: ran longer than its timeout of 90 s"),
        (State.TIMED_OUT, None, "timed out"),
        (State.CANCELLED, "cancelled by alice", "cancelled by alice"),
        (State.CANCELLED, "wrong file", "cancelled: wrong file"),
        (State.EXPIRED, "waited 3600 s", "expired: waited 3600 s"),
        (State.REJECTED, "image: 'X' is not allowed here", "rejected: image: 'X' is not allowed here"),
        (State.ERROR, "log: no space left", "error: log: no space left"),
        (State.LOST, "host n3 is silent", "lost: host n3 is silent"),
        (State.RUNNING, None, "running"),
        (State.ERROR, "two\nlines \x1b[2J", "error: two lines \\x1b[2J"),
    ],
)
def test_explain(state: State, reason: str | None, expected: str | None) -> None:
    assert exitcodes.explain(receipt(state, reason=reason)) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "exit code 3"), (1, "exit code 3"), (4, "exit code 3 (after 4 attempts)")]
)
def test_explain_counts_attempts(count: int, expected: str) -> None:
    assert exitcodes.explain(receipt(State.FAILED, 3, reason="exit code 3", attempts=({},) * count)) == expected
