"""The commands that show jobs and batches: `ps`, `status`, `results` and `inspect`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from celery_docker import errors
from celery_docker.cli import operands, rendering
from celery_docker.cli.call import Call
from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.handles import FAILURES
from celery_docker.core import hoststate
from celery_docker.core.lifecycle import State
from celery_docker.store import listing
from celery_docker.store.listing import BatchRow, JobRow
from celery_docker.store.queries import Queries

_SHOWN = 100
_FAILURES_SHOWN = 5


def ps(call: Call) -> int:
    """List jobs; ids alone without a limit, since programs read them."""
    most = call.words.flags.get("--last", None if call.is_quiet else _SHOWN)
    states = [_state(word) for word in call.words.flags.get("--state", ())]
    batch = call.text("--batch")
    batch = None if batch is None else call.meant(batch)
    with call.client() as client:
        found = _wanted(call, client.queries, states, batch)
        rows = list(islice(found, None if most is None else most + 1))
        now = client.queries.now()
    _list(call, rows[:most], now)
    if most is not None and len(rows) > most:
        call.screen.note(f"there are more than these {most}; show more of them with -n, or all ids with -q")
    return 0


def _wanted(call: Call, queries: Queries, states: Sequence[State], batch: str | None) -> Iterator[JobRow]:
    # Who asks for a state in which jobs end wants to see jobs that have ended.
    takes_ended = call.has("--all") or any(state.is_final for state in states)
    queue = call.text("--queue")
    if batch is not None:
        found = queries.jobs.each_of_batch(queries.batches.resolve(batch))
    else:
        found = queries.jobs.each_recent() if takes_ended else queries.jobs.each_live()
    return (
        row
        for row in found
        if (takes_ended or not row.state.is_final)
        and (not states or row.state in states)
        and (queue is None or row.queue == queue)
    )


def _state(word: str) -> State:
    try:
        return State(word)
    except ValueError as exc:
        raise errors.UsageError(f"--state: {word!r} must be one of {', '.join(State)}") from exc


def _list(call: Call, rows: Sequence[JobRow], now: float) -> None:
    if call.is_quiet:
        for row in rows:
            call.screen.data(row.job_id)
    elif call.wants_json:
        for row in rows:
            call.screen.line_of_json(rendering.job_json(row))
    else:
        whole = call.is_whole
        cells = (rendering.job_cells(row, now, whole=whole) for row in rows)
        call.screen.table(rendering.JOB_COLUMNS, cells, whole=whole)


def status(call: Call) -> int:
    """Say where jobs and batches are; without a name, how much there is to do and who does it."""
    names = call.named
    with call.client() as client:
        queries = client.queries
        if not names:
            return _summary(call, queries)
        found = operands.find(queries, names)
        now = queries.now()
        for number, meant in enumerate(found.meant):
            if number and not call.wants_json:
                call.screen.data("")
            if meant.is_batch:
                _batch_status(call, queries, meant.name, now)
            else:
                _job_status(call, queries, meant.name, now)
    return operands.complaint(call, found)


def _job_status(call: Call, queries: Queries, job_id: str, now: float) -> None:
    row = queries.jobs.row(job_id)
    if call.wants_json:
        call.screen.line_of_json(rendering.job_json(row))
        return
    for line in rendering.job_facts(row, now):
        call.screen.data(line)


def _batch_status(call: Call, queries: Queries, batch_id: str, now: float) -> None:
    row = queries.batches.row(batch_id)
    finished_at, failed = queries.batches.ends(batch_id, FAILURES)
    if call.wants_json:
        call.screen.line_of_json({**rendering.batch_json(row, finished_at, now), "failed": failed})
        return
    for line in rendering.batch_facts(row, finished_at, now):
        call.screen.data(line)
    _show_failures(call, row, queries.jobs.rows(failed[:_FAILURES_SHOWN]), len(failed))


def _show_failures(call: Call, batch: BatchRow, first: Sequence[JobRow], count: int) -> None:
    for line in rendering.failure_lines(first, count):
        call.screen.data(line)
    if count:
        call.screen.note(f"run the failed ones again with: {PROGRAM} retry --failed {batch.batch_id}")


def _summary(call: Call, queries: Queries) -> int:
    load, workers = queries.jobs.load(), queries.hosts.rows()
    queues = sorted({call.config.queue, *(queue for row in workers for queue in row.about.get("queues", ()))})
    lengths = queries.jobs.queue_lengths(queues)
    states = [listing.state_of(row) for row in workers]
    counts = {state: states.count(state) for state in hoststate.WorkerState if state in states}
    slots = sum(int(row.about.get("slots", 0)) for row in workers if not row.lost)
    if call.wants_json:
        jobs = {"in_hand": load.in_hand, "queued": load.queued, "delayed": load.delayed, "blocked": load.blocked}
        call.screen.line_of_json({"jobs": jobs, "queues": lengths, "workers": counts, "slots": slots})
        return 0
    said = {
        "jobs": f"{load.in_hand} in hand, {load.queued} queued, {load.delayed} delayed, {load.blocked} held back",
        "queues": ", ".join(f"{queue} {length}" for queue, length in lengths.items()),
        "workers": ", ".join(f"{count} {state}" for state, count in counts.items()) or "none",
        "slots": str(slots),
    }
    for line in rendering.facts_lines(said.items()):
        call.screen.data(line)
    return 0


def results(call: Call) -> int:
    """List how jobs ended, those of batches in the order of their inputs; what has not ended is counted."""
    names = call.named or [call.meant(commandtable.LAST)]
    with call.client() as client:
        queries = client.queries
        found = operands.find(queries, names)
        job_ids = list(dict.fromkeys(job_id for meant in found.meant for job_id in operands.jobs_of(queries, meant)))
        states = queries.jobs.fields(job_ids, "state")
        rows = [(job_id, State(state)) for job_id, (state,) in zip(job_ids, states, strict=True) if state is not None]
        shown = [job_id for job_id, state in rows if (state in FAILURES if call.has("--failed") else state.is_final)]
        _show_results(call, queries, shown)
    going = sum(not state.is_final for _, state in rows)
    if going:
        call.screen.note(f"{going} of {len(rows)} jobs have not ended")
    return operands.complaint(call, found)


def _show_results(call: Call, queries: Queries, job_ids: Sequence[str]) -> None:
    if call.is_quiet or call.wants_json:
        for text in job_ids if call.is_quiet else queries.jobs.receipt_texts(job_ids):
            call.screen.data(text)
        return
    whole = call.is_whole
    # Of thousands of jobs, only what is shown is asked for.
    fields = queries.jobs.fields(job_ids, *rendering.RESULT_FIELDS)
    cells = (rendering.result_cells(*one, whole=whole) for one in zip(job_ids, fields, strict=True))
    call.screen.table(rendering.RESULT_COLUMNS, cells, whole=whole)


def inspect(call: Call) -> int:
    """Print all that is known of jobs, as one list."""
    names = call.named
    known: list[dict[str, Any]] = []
    with call.client() as client:
        found = operands.find(client.queries, names)
        for meant in found.meant:
            for job_id in operands.jobs_of(client.queries, meant):
                known.append(rendering.record_json(client.queries.jobs.row(job_id), client.queries.jobs.record(job_id)))
    call.screen.json(known)
    return operands.complaint(call, found)
