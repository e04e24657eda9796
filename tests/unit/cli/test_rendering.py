"""Rows of jobs, batches and hosts as they are shown: cells, facts and JSON, from rows as they come from Redis."""

from __future__ import annotations

import json

import pytest

from celery_docker.cli import rendering, tables
from celery_docker.client import views
from celery_docker.core import message
from celery_docker.core.hoststate import WorkerState
from celery_docker.core.waiting import Wait, WaitKind
from celery_docker.store import listing
from celery_docker.store.listing import BatchRow, JobRow, WorkerRow

NOW = 1_700_000_000.0
JOB_ID = "0f3a1b2c-0000-4000-8000-000000000001"
SLOT = Wait(WaitKind.SLOT, "no free slot; 3 jobs before it", jobs_before=3)


def row(**fields: str) -> JobRow:
    """Return the row of a record that has these fields."""
    record = {"state": "queued", "submitted_at": str(NOW - 60), **fields}
    return listing.job(JOB_ID, [record.get(name) for name in listing.ROW_FIELDS])


def worker(**values: object) -> WorkerRow:
    about = {"status": values.pop("status", "2 jobs, 0 of 2 slots free"), "slots": 2, "version": "1.0"}
    fields = {"host": "node1", "heard_s": 3.0, "ahead_s": 0.0, "jobs": 2, "drained": None, "lost": False, **values}
    return WorkerRow(about=about, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "wait", "expected"),
    [
        ({}, SLOT, "no free slot; 3 jobs before it"),
        ({"state": "running", "owner": "node1"}, None, "node1"),
        ({"state": "running", "owner": "node1"}, Wait(WaitKind.END, "being stopped: no"), "being stopped: no"),
        ({"state": "cancelled", "owner": "node1", "cancel_reason": "no"}, None, "node1"),
        ({"state": "lost"}, None, "-"),
    ],
    ids=str,
)
def test_where_a_job_is_or_what_it_waits_for(fields: dict[str, str], wait: Wait | None, expected: str) -> None:
    assert rendering.where(row(**fields), wait) == expected


@pytest.mark.parametrize(
    ("fields", "since"),
    [
        ({}, "1m ago"),
        ({"state": "running", "claimed_at": str(NOW - 5)}, "5s ago"),
        ({"state": "failed", "claimed_at": str(NOW - 50), "finished_at": str(NOW - 2)}, "2s ago"),
        ({"state": "running"}, "-"),
    ],
    ids=str,
)
def test_the_cells_of_a_job(fields: dict[str, str], since: str) -> None:
    cells = rendering.job_cells(row(name="n", **fields), None, NOW, whole=False)
    assert cells == ("0f3a1b2c", fields.get("state", "queued"), "n", "-", "-", since)
    assert rendering.job_cells(row(**fields), None, NOW, whole=True)[0] == JOB_ID


def test_a_table_of_long_names_fits_60_columns() -> None:
    fields = {"name": "n" * 80, "image": "registry.example.org/group/image:tag", "owner": "node" * 20}
    cells = rendering.job_cells(row(state="succeeded", finished_at=str(NOW - 3599), **fields), None, NOW, whole=False)
    assert max(map(len, tables.render(rendering.JOB_COLUMNS, [cells], 60))) == 60
    result = rendering.result_cells(JOB_ID, ["10000", "timed_out", "143", "86399", "r" * 300], whole=False)
    assert max(map(len, tables.render(rendering.RESULT_COLUMNS, [result], 60))) == 60


def test_a_result_that_is_not_known_is_not_nothing() -> None:
    cells = rendering.result_cells(JOB_ID, [None, "lost", None, None, None], whole=False)
    assert cells == ("-", "0f3a1b2c", "lost", "-", "-", "")
    assert rendering.result_cells("a", ["0", "succeeded", "0", "0.0", None], whole=True)[3:5] == ("0", "0s")


def test_the_facts_about_a_job() -> None:
    """An unknown fact has no line; text that came from others cannot move the cursor."""
    assert rendering.job_facts(row(image="busybox", queue="night\x06\x163"), SLOT, NOW) == [
        f"job        {JOB_ID}",
        "state      queued for 1m",
        "waits      no free slot; 3 jobs before it",
        "image      busybox",
        "queue      night",
        "submitted  2023-11-14T22:12:20Z (1m ago)",
    ]
    ended = {
        "state": "failed",
        "finished_at": str(NOW),
        "exit_code": "3",
        "reason": "a\x1bb",
        "run_s": "2",
        "attempt": "2",
    }
    assert rendering.job_facts(row(**ended), None, NOW)[-4:] == [
        "ran        2s",
        "attempts   2",
        "exit       3",
        "reason     a\\x1bb",
    ]


def test_a_job_for_programs() -> None:
    """Times are RFC 3339 in UTC, and what is unknown is null."""
    entry = json.loads(json.dumps(views.job_json(row(labels='{"a": "b"}', batch="b1", batch_index="7"), SLOT)))
    assert (entry["id"], entry["state"], entry["submitted_at"]) == (JOB_ID, "queued", "2023-11-14T22:12:20.000Z")
    assert (entry["exit_code"], entry["host"], entry["labels"]) == (None, None, {"a": "b"})
    assert (entry["batch_id"], entry["batch_index"]) == ("b1", 7)
    reason = "no free slot; 3 jobs before it"
    assert entry["wait"] == {"kind": "slot", "reason": reason, "jobs_before": 3, "next_try_at": None}
    assert views.job_json(row(state="running"), None)["wait"] is None


@pytest.mark.parametrize(
    ("state", "attempt", "expected"),
    [
        ("queued", 0, None),
        ("queued", 5, "attempts   5"),
        ("running", 1, None),
        ("running", 6, "attempts   5 before this one"),
        ("failed", 1, None),
        ("failed", 6, "attempts   6"),
    ],
)
def test_the_number_of_attempts(state: str, attempt: int, expected: str | None) -> None:
    """The wait before attempt 6 is told beside `attempts 5`, and not beside any other number."""
    lines = rendering.job_facts(row(state=state, attempt=str(attempt)), None, NOW)
    assert [line for line in lines if line.startswith("attempts")] == ([] if expected is None else [expected])


def test_all_that_is_known_of_a_job() -> None:
    receipt = {"attempts": [{"attempt": 1}], "state": "failed", "output": "a", "name": "other"}
    record = {
        "state": "failed",
        "spec": '{"image": "x"}',
        "receipt": json.dumps(receipt),
        "fence": "2",
        "message": "{}",
    }
    entry = views.record_json(row(state="failed"), None, {**record, "cancelled_at": str(NOW), "container_id": "c1"})
    assert (entry["spec"], entry["attempts"]) == ({"image": "x"}, receipt["attempts"])
    # Each thing is said once: of the receipt, there is what is not said above it.
    assert entry["receipt"] == {"output": "a", "name": "other"}
    assert (entry["fence"], entry["cancelled_at"], entry["container_id"]) == (2, "2023-11-14T22:13:20.000Z", "c1")
    assert "message" not in entry


def test_what_a_plain_client_asked_for_is_in_its_message() -> None:
    envelope = message.task_message(JOB_ID, {"image": "x"}, queue="celery", tag="t", origin="")
    entry = views.record_json(row(), None, {"state": "queued", "message": json.dumps(envelope), "attempts": "[{}]"})
    assert (entry["spec"], entry["receipt"], entry["attempts"]) == ({"image": "x"}, None, [{}])


def test_a_batch_is_as_fast_as_it_was_until_its_end() -> None:
    batch = BatchRow("b1", "demo", NOW - 1000, 10, 2, "alice", {"succeeded": 9, "failed": 1})
    ended = views.batch_json(batch, NOW - 990, NOW, None)
    assert (ended["jobs_per_s"], ended["eta_s"], ended["done"]) == (1.0, 0.0, 10)
    assert ended["finished_at"] == "2023-11-14T21:56:50.000Z"
    assert rendering.batch_facts(batch, NOW - 990, NOW, None)[-2:] == [
        "jobs       9 succeeded, 1 failed",
        "progress   10/10 100%  1 failed  1.0/s",
    ]
    going = BatchRow("b1", None, NOW - 100, 10, None, None, {"succeeded": 5, "queued": 5})
    entry = views.batch_json(going, NOW - 90, NOW, (JOB_ID, SLOT))
    assert (entry["jobs_per_s"], entry["eta_s"], entry["finished_at"]) == (0.05, 100.0, None)
    assert (ended["next"], entry["next"]["id"], entry["next"]["wait"]["kind"]) == (None, JOB_ID, "slot")
    lines = rendering.batch_facts(going, NOW - 90, NOW, (JOB_ID, SLOT))
    assert "next       0f3a1b2c: no free slot; 3 jobs before it" in lines


def test_failures_are_counted_where_they_are_many() -> None:
    rows = [row(state="failed", reason="exit code 1")] * 2
    assert rendering.failure_lines(rows, 7) == ["  0f3a1b2c  failed: exit code 1"] * 2 + ["  and 5 more"]
    assert rendering.failure_lines(rows, 2) == ["  0f3a1b2c  failed: exit code 1"] * 2
    assert rendering.failure_lines([], 0) == []


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, WorkerState.READY),
        ({"lost": True, "drained": "x"}, WorkerState.LOST),
        ({"heard_s": 31.0, "drained": "x"}, WorkerState.SILENT),
        ({"drained": "alice: disk", "status": "Takes no jobs: drained by alice: disk; no jobs"}, WorkerState.DRAINED),
        ({"status": "Takes no jobs: Docker is away; no jobs"}, WorkerState.SICK),
        ({"status": "Stopping: waiting for a, taking no more"}, WorkerState.STOPPING),
    ],
    ids=str,
)
def test_what_keeps_a_host_from_taking_jobs(values: dict[str, object], expected: WorkerState) -> None:
    assert listing.state_of(worker(**values)) is expected
