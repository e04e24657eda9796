"""The commands about jobs that were submitted: to wait for them, and to end them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_docker.cli import exitcodes, jobargs
from celery_docker.cli.call import Call
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.outages import Outages
from celery_docker.core import wording
from celery_docker.core.lifecycle import State

if TYPE_CHECKING:
    from celery_docker.store.queries import Queries

PAUSE_S = 0.2
_AWAITED_AT_ONCE = 500
_EXPLAINED = 10
_GONE = "its record is gone, and with it how it ended; records are kept for the time set on the workers"
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def cancel(call: Call) -> int:
    """End jobs wherever they are; names that are no good are told when the others have been cancelled."""
    from celery_docker.cli import operands

    reason = call.text("--reason") or f"cancelled by {jobargs.login()}"
    names = call.named
    with call.client() as client:
        found = operands.find(client.queries, names)
        jobs = {meant.name: operands.jobs_of(client.queries, meant) for meant in found.meant}
        # One that a plain Celery client has sent has no record before it is claimed: a whole id is marked all the same.
        sent = [name for name in found.problems if _WHOLE_ID.fullmatch(name)]
        jobs |= {name: [name] for name in sent}
        job_ids = list(dict.fromkeys(job_id for part in jobs.values() for job_id in part))
        # The last first: otherwise each end would let go of the next, which would start in vain.
        states = dict(zip(job_ids[::-1], client.store.cancel_many(job_ids[::-1], reason=reason), strict=True))
    if call.wants_json:
        call.screen.json([{"id": job_id, "state": states[job_id]} for job_id in job_ids])
    elif call.is_quiet:
        for job_id in job_ids:
            call.screen.data(job_id)
    else:
        batches = {meant.name for meant in found.meant if meant.is_batch}
        for name, part in jobs.items():
            told = [states[job_id] for job_id in part]
            call.screen.note(_batch_told(name, told) if name in batches else _job_told(name, told))
    wrong = {name: problem for name, problem in found.problems.items() if name not in sent}
    return operands.complaint(call, replace(found, problems=wrong))


def _job_told(job_id: str, states: Sequence[str]) -> str:
    return f"{job_id}: {exitcodes.cancel_told(states[0])}"


def _batch_told(batch_id: str, states: Sequence[str]) -> str:
    ended = sum(State(state).is_final for state in states if state != "unknown")
    return f"batch {batch_id}: {len(states) - ended} jobs are being cancelled, {ended} had ended already"


def wait(call: Call) -> int:
    """Wait for the end of jobs; return the code that they came to, the highest of several."""
    from celery_docker.cli import operands

    limit_s = call.words.flags.get("--timeout")
    deadline = None if limit_s is None else time.monotonic() + limit_s
    names = call.named
    with call.detaching(f"wait {' '.join(names)}"), call.client() as client:
        job_ids = operands.jobs(client.queries, names)
        outages = call.outages()
        if not _have_ended(client.queries, job_ids, deadline, outages):
            left = _going(client.queries, job_ids)
            said = f"{left[0]} has" if len(job_ids) == 1 else f"{len(left)} of {len(job_ids)} jobs have"
            goes_on = "it goes on" if len(left) == 1 else "they go on"
            call.screen.note(f"{PROGRAM}: {said} not ended after {wording.duration(limit_s)}; {goes_on}")
            return exitcodes.TIMED_OUT
        told = outages.answer(lambda: client.queries.jobs.receipts(job_ids))
    found = dict(zip(job_ids, told, strict=True))
    receipts = [receipt for receipt in found.values() if receipt is not None]
    if call.wants_json:
        call.screen.json(receipts)
    if not call.is_quiet:
        _explain(call, found)
    return exitcodes.highest([exitcodes.exit_status(receipt or {}) for receipt in found.values()])


def _explain(call: Call, found: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Say why jobs did not succeed, the first of them; of one whose record is gone, nobody knows."""
    told = {job_id: _GONE if receipt is None else exitcodes.explain(receipt) for job_id, receipt in found.items()}
    problems = [(job_id, said) for job_id, said in told.items() if said]
    for job_id, said in problems[:_EXPLAINED]:
        call.screen.note(f"{PROGRAM}: {wording.short_id(job_id)}: {said}")
    if len(problems) > _EXPLAINED:
        call.screen.note(f"{PROGRAM}: and {len(problems) - _EXPLAINED} more; see them with: {PROGRAM} results --failed")


def _have_ended(queries: Queries, job_ids: Sequence[str], deadline: float | None, outages: Outages) -> bool:
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
            time.sleep(PAUSE_S)
    return True


def _going(queries: Queries, job_ids: Sequence[str]) -> list[str]:
    """Return the jobs that have not ended. A record that is gone has ended long ago."""
    states = queries.jobs.fields(job_ids, "state")
    rows = zip(job_ids, states, strict=True)
    return [job_id for job_id, (state,) in rows if state is not None and not State(state).is_final]
