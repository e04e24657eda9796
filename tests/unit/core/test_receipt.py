"""The receipt: its fields, what is unknown in it, and its one-line forms."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from celery_docker.core import lifecycle, output, receipt
from celery_docker.core.container import Frame, Stream, Usage
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import Cause, Outcome, State
from celery_docker.core.receipt import Attempt, Receipt

CLAIMED = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)
STARTED = CLAIMED + timedelta(seconds=2.5)
FINISHED = STARTED + timedelta(seconds=61.2345)
SUBMITTED = CLAIMED.timestamp() - 4.25

# DESIGN, section 4; the order is what people see in `--json`.
FIELDS = [
    *("id", "name", "state", "reason", "exit_code", "signal", "oom_killed", "image", "image_digest", "host"),
    *("container_id", "attempts", "submitted_at", "started_at", "finished_at", "queue_s", "pull_s", "run_s", "cpu_s"),
    *("memory_peak_bytes", "logoutfile", "logerrfile", "stdout_bytes", "stderr_bytes", "output", "output_truncated"),
    "last_stderr_line",
]


def ran(number: int = 1) -> Attempt:
    return Attempt(
        number,
        "node1",
        CLAIMED,
        container_id="c" * 64,
        image_digest="busybox@sha256:0",
        pull_s=1.5,
        started_at=STARTED,
        finished_at=FINISHED,
        usage=Usage(cpu_s=3.25, memory_peak_bytes=2**20),
    )


def printed(out: bytes = b"", err: bytes = b"") -> output.Tail:
    tail = output.Tail()
    tail.add(Frame(Stream.STDOUT, out))
    tail.add(Frame(Stream.STDERR, err))
    return tail


def built(outcome: Outcome, state: State, attempt: Attempt, **changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "spec": JobSpec("busybox", logoutfile="/log/o"),
        "earlier": (),
        "submitted_at": SUBMITTED,
        "tail": printed(b"hello\n", b"warning\n"),
        **changed,
    }
    spec = arguments.pop("spec")
    return receipt.build("j1", spec, state=state, outcome=outcome, attempt=attempt, **arguments).to_dict()


def test_a_job_that_ran() -> None:
    assert built(Outcome(Cause.EXIT, "exit code 137, ended by SIGKILL", 137, False), State.FAILED, ran()) == {
        "id": "j1",
        "name": None,
        "state": "failed",
        "reason": "exit code 137, ended by SIGKILL",
        "exit_code": 137,
        "signal": 9,
        "oom_killed": False,
        "image": "busybox",
        "image_digest": "busybox@sha256:0",
        "host": "node1",
        "container_id": "c" * 64,
        "attempts": (
            {
                "attempt": 1,
                "host": "node1",
                "container_id": "c" * 64,
                "started_at": "2026-11-22T10:00:02.500Z",
                "finished_at": "2026-11-22T10:01:03.734Z",
                "exit_code": 137,
                "reason": "exit code 137, ended by SIGKILL",
            },
        ),
        "submitted_at": "2026-11-22T09:59:55.750Z",
        "started_at": "2026-11-22T10:00:02.500Z",
        "finished_at": "2026-11-22T10:01:03.734Z",
        "queue_s": 4.25,
        "pull_s": 1.5,
        "run_s": 61.234,
        "cpu_s": 3.25,
        "memory_peak_bytes": 1048576,
        "logoutfile": "/log/o",
        "logerrfile": None,
        "stdout_bytes": 6,
        "stderr_bytes": 8,
        "output": "hello\nwarning\n",
        "output_truncated": False,
        "last_stderr_line": "warning",
    }


def test_the_fields_are_the_contract_in_this_order() -> None:
    assert list(built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran())) == FIELDS


def test_of_what_was_asked_the_name_is_told_and_the_environment_is_not() -> None:
    spec = JobSpec("busybox", name="night run", env={"TOKEN": "hunter2"})
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran(), spec=spec)
    assert fields["name"] == "night run"
    assert "hunter2" not in str(fields)


def test_it_is_json() -> None:
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran())
    assert json.loads(json.dumps(fields)) == {**fields, "attempts": list(fields["attempts"])}


def test_what_is_unknown_is_none_and_never_0() -> None:
    """A job that was refused before anything ran: nothing was measured, so nothing is claimed."""
    fields = built(
        Outcome(Cause.REQUEST, "image: is missing"),
        State.REJECTED,
        Attempt(1, "node1", CLAIMED),
        spec=None,
        submitted_at=None,
        tail=output.Tail(),
    )
    present = {name: value for name, value in fields.items() if value is not None}
    assert present == {
        "id": "j1",
        "state": "rejected",
        "reason": "image: is missing",
        "host": "node1",
        "attempts": (
            {
                "attempt": 1,
                "host": "node1",
                "container_id": None,
                "started_at": "2026-11-22T10:00:00.000Z",
                "finished_at": None,
                "exit_code": None,
                "reason": "image: is missing",
            },
        ),
        "output": "",
        "output_truncated": False,
    }


def test_success_has_no_reason() -> None:
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran())
    assert fields["reason"] is None
    assert fields["exit_code"] == 0
    assert fields["attempts"][0]["reason"] is None


def test_earlier_attempts_come_first_and_the_queue_time_ends_with_the_first_of_them() -> None:
    earlier = Attempt(1, "node0", CLAIMED).entry(Outcome(Cause.HOST, "Docker does not answer"))
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran(2), earlier=(earlier,))
    assert [entry["host"] for entry in fields["attempts"]] == ["node0", "node1"]
    assert fields["queue_s"] == 4.25


def test_a_submitter_whose_clock_is_ahead_does_not_make_the_queue_time_negative() -> None:
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran(), submitted_at=CLAIMED.timestamp() + 60)
    assert fields["queue_s"] == 0.0


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (None, None),
        (datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC), "2026-01-02T03:04:05.678Z"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.000Z"),
    ],
)
def test_timestamp(moment: datetime | None, expected: str | None) -> None:
    assert receipt.rfc3339(moment) == expected


def test_sentence() -> None:
    fields = built(Outcome(Cause.EXIT, "", 0), State.SUCCEEDED, ran())
    assert Receipt.from_dict(fields).sentence() == "succeeded in 61.234 s (host node1, attempt 1)"
    fields = built(Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran())
    assert Receipt.from_dict(fields).sentence() == "failed: exit code 3 (host node1, attempt 1)"


def test_the_line_about_a_failure_has_the_last_line_of_output() -> None:
    fields = built(
        Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran(), tail=printed(b"x\n", b"no such file\n\n")
    )
    assert Receipt.from_dict(fields).failure_line() == (
        "failed: exit code 3 (host node1, attempt 1); last line of output: no such file"
    )


def test_a_receipt_comes_back_from_its_stored_form() -> None:
    stored = json.loads(json.dumps(built(Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran())))
    assert json.loads(json.dumps(Receipt.from_dict(stored).to_dict())) == stored


def test_a_receipt_of_another_version_is_read_as_far_as_it_is_known() -> None:
    stored = {"id": "j1", "state": "failed", "attempts": None, "a_field_of_tomorrow": 1}
    assert Receipt.from_dict(stored) == Receipt("j1", state="failed")


def test_the_line_about_a_failure_from_a_receipt_of_an_earlier_version() -> None:
    ended = built(Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran(), tail=printed(b"x\n", b"no such file\n"))
    ended["last_complaint"] = ended.pop("last_stderr_line")
    assert Receipt.from_dict(ended).failure_line().endswith("; last line of output: no such file")
    ended["output"] = ""
    assert Receipt.from_dict(ended).last_output_line() == "no such file"


def test_the_line_about_the_failure_of_a_silent_job() -> None:
    fields = built(Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran(), tail=output.Tail())
    assert Receipt.from_dict(fields).failure_line() == Receipt.from_dict(fields).sentence()


@pytest.mark.parametrize(
    "text", [b"a\nb\r\nc\rd", b"\x1b[31mred\x1b[0m\n", b"\xff\x00\x85", "a\u2028b\u2029c".encode()]
)
def test_the_one_line_forms_are_one_line(text: bytes) -> None:
    fields = built(Outcome(Cause.EXIT, "exit code 3", 3), State.FAILED, ran(), tail=printed(text))
    assert len(Receipt.from_dict(fields).failure_line().splitlines()) == 1
    assert Receipt.from_dict(fields).failure_line().startswith("failed: ")


@pytest.mark.parametrize("state", [state for state in State if state.is_final])
def test_the_state_comes_first_so_that_a_client_can_tell(state: State) -> None:
    fields = built(Outcome(Cause.ERROR, "because"), state, ran())
    assert Receipt.from_dict(fields).failure_line().startswith(f"{lifecycle.State(fields['state'])}: because")


@pytest.mark.parametrize("cause", lifecycle.ENDED_BEFORE_RUN)
def test_a_job_that_was_called_off_in_the_queue_had_no_attempt(cause: lifecycle.Cause) -> None:
    """A host had to take it to end it, but nothing was tried."""
    state = lifecycle.decide(Outcome(cause, "no"), lifecycle.Tally(), lifecycle.Budget(0, 0), 2.0)
    assert isinstance(state, lifecycle.Finish)
    attempt = receipt.Attempt(1, "node1", datetime.now(UTC))
    common: dict[str, Any] = {
        "state": state.state,
        "outcome": Outcome(cause, "no"),
        "earlier": (),
        "submitted_at": None,
    }
    fields = receipt.build("j1", None, attempt=attempt, tail=output.Tail(), **common).to_dict()
    assert fields["attempts"] == ()
    assert Receipt.from_dict(fields).sentence() == f"{state.state}: no (host node1)"
    attempt.container_id = "c1"
    fields = receipt.build("j1", None, attempt=attempt, tail=output.Tail(), **common).to_dict()
    assert len(fields["attempts"]) == 1
