"""Jobs and batches as the command line shows them: cells of tables, facts line by line, and JSON.

Owns the names in `--json`: the receipt's, where it has the same thing. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from celery_docker.cli import progress
from celery_docker.cli.tables import Align, Column
from celery_docker.core import incoming, receipt, wording
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields
from celery_docker.core.waiting import Wait
from celery_docker.store.listing import BatchRow, JobRow

JOB_COLUMNS = (
    Column("id"),
    Column("state"),
    Column("name", min_width=4, may_shrink=True),
    Column("image", min_width=5, may_shrink=True),
    Column("where", min_width=5, may_shrink=True),
    Column("since", Align.RIGHT),
)
RESULT_COLUMNS = (
    Column("#", Align.RIGHT),
    Column("id"),
    Column("state"),
    Column("exit", Align.RIGHT),
    Column("time", Align.RIGHT),
    Column("reason", min_width=6, may_shrink=True),
)
RESULT_FIELDS = ("batch_index", "state", "exit_code", "run_s", "reason")
_JSON_FIELDS = ("receipt", "spec", "attempts", "labels", "after")
_TIME_FIELDS = ("submitted_at", "claimed_at", "finished_at", "expires_at", "cancelled_at")
_NUMBER_FIELDS = (
    "attempt",
    "batch_index",
    "exit_code",
    "exits",
    "fence",
    "host_faults",
    "held",
    "pending",
    "pulled_bytes",
    "pull_size_bytes",
)
# What the listing says under another name, or nobody can read.
_UNLISTED = ("owner", "pending", "held", "message", "batch", "queue", "released")
_LABEL_WIDTH = 9


def job_cells(row: JobRow, wait: Wait | None, now: float, *, whole: bool) -> tuple[str, ...]:
    """Return the cells of `JOB_COLUMNS`; ids are cut unless `whole`."""
    return (
        row.job_id if whole else wording.short_id(row.job_id),
        row.state.value,
        row.name or wording.UNKNOWN,
        row.image or wording.UNKNOWN,
        where(row, wait),
        wording.ago(_age_s(row, now)),
    )


def where(row: JobRow, wait: Wait | None) -> str:
    """Return the reason for which a job waits, or the host that has or had it."""
    return row.host or wording.UNKNOWN if wait is None else wait.reason


def _age_s(row: JobRow, now: float) -> float | None:
    """Return for how long a job is in the state that it is in."""
    begun_at = row.submitted_at if row.state is State.QUEUED else row.claimed_at
    since = row.finished_at if row.state.is_final else begun_at
    return None if since is None else now - since


def result_cells(job_id: str, values: Sequence[str | None], *, whole: bool) -> tuple[str, ...]:
    """Return the cells of `RESULT_COLUMNS` from the values of `RESULT_FIELDS`."""
    index, state, code, run_s, reason = values
    return (
        index or wording.UNKNOWN,
        job_id if whole else wording.short_id(job_id),
        state or wording.UNKNOWN,
        code or wording.UNKNOWN,
        wording.duration(Fields({"run_s": run_s or ""}).number("run_s")),
        reason or "",
    )


def job_json(row: JobRow, wait: Wait | None) -> dict[str, Any]:
    """Return a job for programs."""
    return {
        "id": row.job_id,
        "name": row.name,
        "state": row.state.value,
        "reason": row.reason,
        "exit_code": row.exit_code,
        "image": row.image,
        "host": row.host,
        "attempt": row.attempt,
        "submitted_at": timestamp(row.submitted_at),
        "claimed_at": timestamp(row.claimed_at),
        "finished_at": timestamp(row.finished_at),
        "run_s": row.run_s,
        "queue": row.queue,
        "batch_id": row.batch_id,
        "batch_index": row.batch_index,
        "submitted_by": row.submitted_by,
        "labels": dict(row.labels),
        "retry_of": row.retry_of,
        "waits_for": row.waits_for,
        "held": row.held,
        "cancel_reason": row.cancel_reason,
        "wait": None if wait is None else _wait_json(wait),
    }


def _wait_json(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind.value,
        "reason": wait.reason,
        "jobs_before": wait.jobs_before,
        "next_try_at": timestamp(wait.next_try_at),
    }


def record_json(row: JobRow, wait: Wait | None, record: Mapping[str, str]) -> dict[str, Any]:
    """Return all that is known of a job, each thing once: its record, its job document, and the rest of its receipt."""
    facts = {name: _value(name, text) for name, text in record.items() if name not in _UNLISTED}
    if "spec" not in facts:
        # Of a plain client's job there is only the message.
        parsed = incoming.of_envelope(row.job_id, incoming.of_record(row.job_id, record.get("message")))
        facts["spec"] = {**({"args": list(parsed.args)} if parsed.args else {}), **parsed.kwargs}
    facts.pop("receipt", None)
    ended = receipt.Receipt.of_text(row.job_id, record["receipt"]) if record.get("receipt") else {}
    facts["attempts"] = (ended or facts).get("attempts") or []
    listed = job_json(row, wait)
    merged = {**facts, **listed}
    rest = {name: value for name, value in ended.items() if name not in merged or merged[name] != value}
    return {
        **listed,
        **{name: value for name, value in merged.items() if name not in listed},
        "receipt": rest if ended else None,
    }


def _value(name: str, text: str) -> Any:
    """Return a field of a record for programs; as it is, where it cannot be read or is that of a newer version."""
    fields = Fields({name: text})
    if name in _JSON_FIELDS:
        value = fields.json(name, list if name == "attempts" else dict)
    elif name in _TIME_FIELDS:
        value = timestamp(fields.moment(name))
    else:
        value = fields.whole(name) if name in _NUMBER_FIELDS else text
    return text if fields.problems else value


def job_facts(row: JobRow, wait: Wait | None, now: float) -> list[str]:
    """Return the main facts about a job, a line each."""
    facts = {
        "job": row.job_id,
        "state": row.state.value + ("" if row.state.is_final else f" for {wording.duration(_age_s(row, now))}"),
        "waits": None if wait is None else wait.reason,
        "host": row.host,
        "name": row.name,
        "image": row.image,
        "queue": row.queue,
        "batch": None if row.batch_id is None else f"{row.batch_id}, number {row.batch_index}",
        "by": row.submitted_by,
        "submitted": _moment(row.submitted_at, now),
        "ended": _moment(row.finished_at, now),
        "ran": None if row.run_s is None else wording.duration(row.run_s),
        "attempts": _attempts(row),
        "exit": None if row.exit_code is None else str(row.exit_code),
        "reason": row.reason,
        "retry of": row.retry_of,
    }
    return _lines(facts)


def _attempts(row: JobRow) -> str | None:
    """Return how many attempts there were; the one that goes on is not counted among them."""
    if row.state in (State.STARTING, State.RUNNING):
        return f"{row.attempt - 1} before this one" if row.attempt > 1 else None
    least = 1 if row.state is State.QUEUED else 2
    return str(row.attempt) if row.attempt >= least else None


def batch_json(
    row: BatchRow, finished_at: float | None, now: float, upcoming: tuple[str, Wait] | None
) -> dict[str, Any]:
    """Return a batch for programs; `finished_at` is when the last of its jobs that have ended did.

    `upcoming` is the first of its jobs that no host has, with its wait.
    """
    elapsed_s = _elapsed_s(row, finished_at, now)
    return {
        "id": row.batch_id,
        "name": row.name,
        "size": row.size,
        "limit": row.limit,
        "submitted_by": row.submitted_by,
        "submitted_at": timestamp(row.created_at),
        "finished_at": timestamp(finished_at) if progress.done(row.counts) >= row.size else None,
        "done": progress.done(row.counts),
        "counts": {state.value: row.counts[state] for state in State if row.counts.get(state)},
        "jobs_per_s": progress.rate(row.counts, elapsed_s),
        "eta_s": progress.eta_s(row.counts, row.size, elapsed_s),
        "next": None if upcoming is None else {"id": upcoming[0], "wait": _wait_json(upcoming[1])},
    }


def batch_facts(row: BatchRow, finished_at: float | None, now: float, upcoming: tuple[str, Wait] | None) -> list[str]:
    """Return the main facts about a batch, a line each."""
    counts = [f"{row.counts[state]} {state.value}" for state in State if row.counts.get(state)]
    facts = {
        "batch": row.batch_id,
        "name": row.name,
        "by": row.submitted_by,
        "submitted": _moment(row.created_at, now),
        "limit": None if row.limit is None else f"{row.limit} at once",
        "jobs": ", ".join(counts) or "none",
        "next": None if upcoming is None else f"{wording.short_id(upcoming[0])}: {upcoming[1].reason}",
        "progress": progress.plain_line(row.counts, row.size, _elapsed_s(row, finished_at, now)),
    }
    return _lines(facts)


def _elapsed_s(row: BatchRow, finished_at: float | None, now: float) -> float:
    """Return for how long a batch has been running, or ran."""
    has_ended = finished_at is not None and progress.done(row.counts) >= row.size
    return (finished_at if has_ended and finished_at else now) - row.created_at


def failure_lines(first: Sequence[JobRow], count: int) -> list[str]:
    """Return the first of so many failures, a line each."""
    lines = [f"  {wording.short_id(row.job_id)}  {row.state.value}: {row.reason or ''}" for row in first]
    more = [f"  and {count - len(first)} more"] if count > len(first) else []
    return [wording.harmless(line) for line in lines + more]


def facts_lines(facts: Iterable[tuple[str, str]]) -> list[str]:
    """Return facts with their names in a column of its own."""
    return [f"{name.ljust(_LABEL_WIDTH)}  {wording.harmless(text)}" for name, text in facts]


def _lines(facts: Mapping[str, str | None]) -> list[str]:
    return facts_lines((name, text) for name, text in facts.items() if text)


def timestamp(seconds: float | None) -> str | None:
    """Return a time since the epoch as RFC 3339 in UTC."""
    return None if seconds is None else receipt.rfc3339(datetime.fromtimestamp(seconds, UTC))


def _moment(seconds: float | None, now: float) -> str | None:
    if seconds is None:
        return None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ} ({wording.ago(now - seconds)})"
