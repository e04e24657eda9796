"""The commands that show jobs and batches: `ps`, `status`, `results` and `inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from celery_docker import errors
from celery_docker.cli import operands, rendering
from celery_docker.cli.context import Context
from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client import views
from celery_docker.client.ports import Queries
from celery_docker.core import kinds, wording
from celery_docker.core.lifecycle import FAILURES, State
from celery_docker.core.waiting import Wait
from celery_docker.store.jobfilter import JobFilter
from celery_docker.store.listing import BatchRow, JobRow, Match

_SHOWN = 100
_FAILURES_SHOWN = 5
_STATE = rendering.RESULT_FIELDS.index("state")


def ps(context: Context) -> int:
    """List jobs; ids alone without a limit, since programs read them."""
    most = context.arguments.flags.get("--last", None if context.is_quiet else _SHOWN)
    states = [_state(word) for word in context.arguments.flags.get("--state", ())]
    batch = context.text("--batch")
    batch = None if batch is None else context.expand_last(batch)
    with context.client() as client:
        jobs = _selected(context, client.queries, states, batch)
        rows = list(islice(jobs, None if most is None else most + 1))
        _list(context, client.queries, rows[:most])
    if most is not None and len(rows) > most:
        context.screen.note(f"there are more than these {most}; show more of them with -n, or all ids with -q")
    return 0


def _selected(context: Context, queries: Queries, states: Sequence[State], batch: str | None) -> Iterator[JobRow]:
    # Who asks for a state in which jobs end wants to see jobs that have ended.
    takes_ended = context.has("--all") or any(state.is_final for state in states)
    wanted = JobFilter(tuple(states), queue=context.text("--queue"))
    if batch is not None:
        jobs = queries.jobs.each_of_batch(queries.batches.resolve(batch), wanted)
        return (row for row in jobs if takes_ended or not row.state.is_final)
    return queries.jobs.each_recent(wanted) if takes_ended else queries.jobs.each_live(wanted)


def _state(word: str) -> State:
    state = State(word)
    if not state.is_known:
        raise errors.UsageError(f"--state: {kinds.shown(word)} must be one of {', '.join(State)}")
    return state


def _list(context: Context, queries: Queries, rows: Sequence[JobRow]) -> None:
    if context.is_quiet:
        for row in rows:
            context.screen.data(row.job_id)
        return
    now = queries.now()
    waits = queries.waits.of(rows)
    if context.wants_json:
        for row in rows:
            context.screen.line_of_json(views.job_json(row, waits.get(row.job_id)))
    else:
        whole = context.is_whole
        cells = (rendering.job_cells(row, waits.get(row.job_id), now, whole=whole) for row in rows)
        context.screen.table(rendering.JOB_COLUMNS, cells, whole=whole)


def status(context: Context) -> int:
    """Say where jobs and batches are; without a name, how much there is to do and who does it."""
    names = context.operands
    with context.client() as client:
        queries = client.queries
        if not names:
            return _summary(context, client.summary(context.config.queue))
        resolved = operands.resolve(queries, names)
        now = queries.now()
        for number, match in enumerate(resolved.matches):
            if number and not context.wants_json:
                context.screen.data("")
            if match.is_batch:
                _batch_status(context, queries, match.name, now)
            else:
                _job_status(context, queries, match.name, now)
    return operands.report_problems(context, resolved)


def _job_status(context: Context, queries: Queries, job_id: str, now: float) -> None:
    row = queries.jobs.row(job_id)
    wait = queries.waits.of([row]).get(job_id)
    if context.wants_json:
        context.screen.line_of_json(views.job_json(row, wait))
        return
    for line in rendering.job_facts(row, wait, now):
        context.screen.data(line)


def _batch_status(context: Context, queries: Queries, batch_id: str, now: float) -> None:
    row = queries.batches.row(batch_id)
    finished_at, failed = queries.batches.ends(batch_id, FAILURES)
    upcoming = _upcoming(queries, row, now)
    if context.wants_json:
        context.screen.line_of_json({**views.batch_json(row, finished_at, now, upcoming), "failed": failed})
        return
    for line in rendering.batch_facts(row, finished_at, now, upcoming):
        context.screen.data(line)
    _show_failures(context, row, queries.jobs.rows(failed[:_FAILURES_SHOWN]), len(failed))


def _upcoming(queries: Queries, batch: BatchRow, now: float) -> tuple[str, Wait] | None:
    """Return the first job of a batch that no host has, with its wait."""
    if not batch.counts.get(State.QUEUED):
        return None
    first = list(islice(queries.jobs.each_of_batch(batch.batch_id, JobFilter((State.QUEUED,))), 1))
    return next(iter(queries.waits.of(first).items()), None)


def _show_failures(context: Context, batch: BatchRow, first: Sequence[JobRow], count: int) -> None:
    for line in rendering.failure_lines(first, count):
        context.screen.data(line)
    if count:
        context.screen.note(f"run the failed ones again with: {PROGRAM} retry --failed {batch.batch_id}")


def _summary(context: Context, table: Mapping[str, Any]) -> int:
    if context.wants_json:
        context.screen.line_of_json(table)
        return 0
    jobs, reasons = table["jobs"], table["waits"]
    facts = {
        "jobs": f"{jobs['in_hand']} in hand, {jobs['queued']} queued, {jobs['delayed']} delayed, "
        f"{jobs['blocked']} held back",
        "queues": ", ".join(f"{queue} {length}" for queue, length in table["queues"].items()),
        "workers": ", ".join(f"{count} {state}" for state, count in table["workers"].items()) or "none",
        "slots": str(table["slots"]),
        **({"waits": "; ".join(dict.fromkeys(reasons.values()))} if reasons else {}),
    }
    for line in rendering.facts_lines(facts.items()):
        context.screen.data(line)
    return 0


def results(context: Context) -> int:
    """List how jobs ended, those of batches in the order of their inputs; what has not ended is counted."""
    names = context.operands or [context.expand_last(commandtable.LAST)]
    with context.client() as client:
        queries = client.queries
        resolved = operands.resolve(queries, names)
        ends = (_failures if context.has("--failed") else _ends)(queries, resolved.matches)
        _show_results(context, queries, ends.listed)
    if ends.going:
        context.screen.note(f"not ended: {ends.going:,} of {wording.counted(ends.count, 'job')}")
    return operands.report_problems(context, resolved)


@dataclass(frozen=True)
class _Ends:
    """Jobs that have ended, with the values of `RESULT_FIELDS`; and how many of how many have not."""

    listed: Mapping[str, Sequence[str | None]]
    going: int
    count: int


def _ends(queries: Queries, matches: Sequence[Match]) -> _Ends:
    """Return how the jobs that are named, and those of batches, have ended; each is there once."""
    singles = [match.name for match in matches if not match.is_batch]
    values_of = dict(zip(singles, queries.jobs.fields(singles, *rendering.RESULT_FIELDS), strict=True))
    jobs: dict[str, Sequence[str | None]] = {}
    for match in matches:
        if match.is_batch:
            jobs |= queries.batches.each_job(match.name, *rendering.RESULT_FIELDS)
        else:
            jobs[match.name] = values_of[match.name]
    states = {job_id: State(state) for job_id, values in jobs.items() if (state := values[_STATE]) is not None}
    listed = {job_id: jobs[job_id] for job_id, state in states.items() if state.is_final}
    return _Ends(listed, len(states) - len(listed), len(states))


def _failures(queries: Queries, matches: Sequence[Match]) -> _Ends:
    """Return the same with the failed jobs alone; of a batch, the others are counted and not read."""
    if not all(match.is_batch for match in matches):
        # One of the jobs that are named may be one of a batch.
        ends = _ends(queries, matches)
        failed = {job_id: values for job_id, values in ends.listed.items() if values[_STATE] in FAILURES}
        return replace(ends, listed=failed)
    # The numbers first: what ends meanwhile is counted, and listed too.
    numbers = [queries.batches.going(match.name) for match in matches]
    listed: dict[str, Sequence[str | None]] = {}
    for match in matches:
        listed |= queries.batches.each_job(match.name, *rendering.RESULT_FIELDS, states=FAILURES)
    return _Ends(listed, sum(going for going, _ in numbers), sum(count for _, count in numbers))


def _show_results(context: Context, queries: Queries, ended: Mapping[str, Sequence[str | None]]) -> None:
    if context.is_quiet or context.wants_json:
        for text in ended if context.is_quiet else queries.jobs.receipt_texts([*ended]):
            context.screen.data(text)
        return
    whole = context.is_whole
    cells = (rendering.result_cells(job_id, values, whole=whole) for job_id, values in ended.items())
    context.screen.table(rendering.RESULT_COLUMNS, cells, whole=whole)


def inspect(context: Context) -> int:
    """Print all that is documents of jobs, as one list."""
    names = context.operands
    documents: list[dict[str, Any]] = []
    with context.client() as client:
        queries = client.queries
        resolved = operands.resolve(queries, names)
        for match in resolved.matches:
            documents += client.documents(operands.jobs_of(queries, match))
    context.screen.indented_json(documents)
    return operands.report_problems(context, resolved)
