"""Jobs and batches as the command line shows them to people: cells of tables, and facts line by line. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from celery_docker.cli import progress
from celery_docker.cli.tables import Align, Column
from celery_docker.client import views
from celery_docker.core import wording
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
        "progress": progress.plain_line(row.counts, row.size, views.elapsed_s(row, finished_at, now)),
    }
    return _lines(facts)


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


def _moment(seconds: float | None, now: float) -> str | None:
    if seconds is None:
        return None
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ} ({wording.ago(now - seconds)})"
