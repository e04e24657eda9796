"""The commands about jobs that were submitted: to wait for them, and to end them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from celery_docker.cli import exitcodes, jobargs
from celery_docker.cli.context import Context
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.cli.waitlines import ObstacleLines
from celery_docker.client.outages import Outages
from celery_docker.core import wording
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt
from celery_docker.core.recordfields import Fields

if TYPE_CHECKING:
    from celery_docker.client.ports import Queries
    from celery_docker.store.listing import Match

PAUSE_S = 0.2
_AWAITED_AT_ONCE = 500
_EXPLAINED = 10
_GONE = "its record is gone, so its end is not known; the workers' settings say how long records are kept"
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def cancel(context: Context) -> int:
    """Cancel jobs wherever they are; bad operands are reported once the others have been cancelled."""
    from celery_docker.cli import operands

    reason = context.text("--reason") or f"cancelled by {jobargs.login()}"
    names = context.operands
    with context.client() as client:
        resolved = operands.resolve(client.queries, names)
        jobs = {match.name: operands.jobs_of(client.queries, match) for match in resolved.matches}
        # A job of a plain Celery client has no record before a worker claims it: a whole id is cancelled all the same.
        unrecorded = [name for name in resolved.problems if _WHOLE_ID.fullmatch(name)]
        jobs |= {job_id: [job_id] for job_id in unrecorded}
        job_ids = list(dict.fromkeys(job_id for part in jobs.values() for job_id in part))
        states = dict(zip(job_ids, client.cancel_many(job_ids, reason=reason), strict=True))
    if context.wants_json:
        context.screen.json([{"id": job_id, "state": states[job_id]} for job_id in job_ids])
    elif context.is_quiet:
        for job_id in job_ids:
            context.screen.data(job_id)
    else:
        batches = {match.name for match in resolved.matches if match.is_batch}
        for name, part in jobs.items():
            before = [states[job_id] for job_id in part]
            is_batch = name in batches
            context.screen.note(_batch_outcome(name, before) if is_batch else _job_outcome(name, before))
    problems = {name: problem for name, problem in resolved.problems.items() if name not in unrecorded}
    return operands.report_problems(context, replace(resolved, problems=problems))


def _job_outcome(job_id: str, states: Sequence[str]) -> str:
    return f"{job_id}: {exitcodes.cancel_outcome(states[0])}"


def _batch_outcome(batch_id: str, states: Sequence[str]) -> str:
    ended = sum(State(state).is_final for state in states if state != "unknown")
    return f"batch {batch_id}: cancelling {wording.counted(len(states) - ended, 'job')}, {ended:,} had ended already"


def wait(context: Context) -> int:
    """Wait for the end of jobs; return the exit status, the highest of several."""
    from celery_docker.cli import operands

    limit_s = context.arguments.flags.get("--timeout")
    deadline = None if limit_s is None else time.monotonic() + limit_s
    names = context.operands
    with context.detaching("wait", *names), context.client() as client:
        matches = [client.queries.match(name) for name in names]
        jobs = {match: operands.jobs_of(client.queries, match) for match in matches}
        job_ids = list(dict.fromkeys(job_id for part in jobs.values() for job_id in part))
        sizes = {match: _size(client.queries, match) for match in jobs}
        outages = context.outages()
        lines = None if context.is_quiet else ObstacleLines(client.queries, context.screen.note, context.advice)
        if not _have_ended(client.queries, job_ids, deadline, outages, lines):
            going = _going(client.queries, job_ids)
            subject = going[0] if len(job_ids) == 1 else f"{len(going):,} of {wording.counted(len(job_ids), 'job')}"
            goes_on = "it goes on" if len(going) == 1 else "they go on"
            context.screen.note(f"{PROGRAM}: not ended after {wording.duration(limit_s)}: {subject}; {goes_on}")
            return exitcodes.TIMED_OUT
        answers = outages.answer(lambda: client.queries.jobs.receipts(job_ids))
    if context.wants_json:
        context.screen.json([answer for answer in answers if answer is not None])
    receipts = [None if answer is None else Receipt.from_dict(answer) for answer in answers]
    short = {match: size - len(jobs[match]) for match, size in sizes.items() if len(jobs[match]) < size}
    if not context.is_quiet:
        _explain(context, dict(zip(job_ids, receipts, strict=True)))
        for match, count in short.items():
            of_all = f"{count:,} of {wording.counted(sizes[match], 'job')}"
            context.screen.note(f"{PROGRAM}: batch {match.name}: {of_all} were not submitted when this began")
    return exitcodes.highest(
        [exitcodes.NOT_RUN if receipt is None else exitcodes.exit_status(receipt) for receipt in receipts]
        + [exitcodes.NOT_RUN for _ in short]
    )


def _size(queries: Queries, match: Match) -> int:
    """Return how many jobs there are to be of what an operand names."""
    text = queries.batches.field(match.name, "size") if match.is_batch else None
    return Fields({"size": text or ""}).count("size")


def _explain(context: Context, receipts: Mapping[str, Receipt | None]) -> None:
    """Write why the first jobs did not succeed; None is the receipt of a job whose record is gone."""
    reasons = {job_id: _GONE if receipt is None else exitcodes.explain(receipt) for job_id, receipt in receipts.items()}
    problems = [(job_id, reason) for job_id, reason in reasons.items() if reason]
    for job_id, reason in problems[:_EXPLAINED]:
        context.screen.note(f"{PROGRAM}: {wording.short_id(job_id)}: {reason}")
    if len(problems) > _EXPLAINED:
        context.screen.note(
            f"{PROGRAM}: and {len(problems) - _EXPLAINED} more; see them with: {PROGRAM} results --failed"
        )


def _have_ended(
    queries: Queries,
    job_ids: Sequence[str],
    deadline: float | None,
    outages: Outages,
    lines: ObstacleLines | None,
) -> bool:
    """Wait for all of them, some at a time: they all have to end; False where that does not happen in time."""
    for first in range(0, len(job_ids), _AWAITED_AT_ONCE):
        part: Sequence[str] = job_ids[first : first + _AWAITED_AT_ONCE]
        while True:
            with outages:
                part = _going(queries, part)
            if not part:
                break
            if deadline is not None and time.monotonic() >= deadline:
                return False
            if lines is not None:
                with outages:
                    lines.look(part)
            time.sleep(PAUSE_S)
    return True


def _going(queries: Queries, job_ids: Sequence[str]) -> list[str]:
    """Return the jobs that have not ended. A record that is gone has ended long ago."""
    states = queries.jobs.fields(job_ids, "state")
    rows = zip(job_ids, states, strict=True)
    return [job_id for job_id, (state,) in rows if state is not None and not State(state).is_final]
