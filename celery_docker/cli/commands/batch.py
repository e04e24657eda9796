"""The commands about many jobs: `batch` queues them, `watch` follows them, `retry` queues them once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from celery_docker import errors
from celery_docker.cli import batchargs, jobargs, lastid, operands, progress
from celery_docker.cli.call import WAITS, Call
from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.outages import Outages
from celery_docker.core.batch import Expanded

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.store.queries import Queries


def batch(call: Call) -> int:
    """Queue the jobs of a batch, and print its id; or show them, a line of JSON each."""
    caller = jobargs.of_process(call.environ)
    found = batchargs.described(call.words, caller, call.config.queue)
    if call.has("--dry-run"):
        return _preview(call, found)
    with call.client() as client:
        batch_id, count = _queued(call, client, found)
        _tell(call, batch_id, count, len(found.jobs) - count)
        if batch_id is None or not call.has("--wait"):
            return 0
        return _watched(call, client, batch_id, call.screen.err)


def watch(call: Call) -> int:
    """Show the progress of a batch until its end, and what became of it; return the highest code of its jobs."""
    (name,) = call.named or [lastid.meant(call.environ, commandtable.LAST)]
    with call.client() as client:
        batch_id = _meant(client.queries, name)
        return _watched(call, client, batch_id, call.screen.err if call.wants_json else call.screen.out)


def retry(call: Call) -> int:
    """Queue jobs that have ended once more, under new ids."""
    named = call.text("--failed")
    if (named is None) == (not call.words.operands):
        raise errors.UsageError("retry: give jobs, or --failed and a batch; one of the two")
    with call.client() as client:
        if named is not None:
            return _retry_failed(call, client, _meant(client.queries, lastid.meant(call.environ, named)))
        job_ids = [client.queries.jobs.resolve(name) for name in call.named]
        made = [job.id for job in client.retry_many(job_ids)]
    lastid.remember(call.environ, made[-1])
    if call.wants_json:
        call.screen.json([{"id": new, "retry_of": old} for new, old in zip(made, job_ids, strict=True)])
    else:
        for job_id in made:
            call.screen.data(job_id)
    return 0


def _retry_failed(call: Call, client: Client, batch_id: str) -> int:
    made = [job.id for job in client.batch(batch_id).retry_failed()]
    lastid.remember(call.environ, batch_id)
    if call.wants_json:
        call.screen.json({"id": batch_id, "jobs": made})
    elif call.is_quiet:
        for job_id in made:
            call.screen.data(job_id)
    else:
        call.screen.data(batch_id)
        call.screen.note(f"{_jobs(len(made))} queued again" + (f"; follow with: {PROGRAM} watch" if made else ""))
    return 0


def _preview(call: Call, found: batchargs.Described) -> int:
    for job in found.jobs:
        call.screen.line_of_json({"index": job.row.index, **job.kwargs, **job.options})
    at_once = "as many at once as there are slots" if found.limit is None else f"{found.limit} at once"
    call.screen.note(f"{_jobs(len(found.jobs))}, {at_once}; none was queued")
    return 0


def _queued(call: Call, client: Client, found: batchargs.Described) -> tuple[str | None, int]:
    """Queue what is to be done; return the batch's id, None where all was done already, and the number of jobs."""
    # With Redis it costs more than the rest of this module: not for a mistake in the command line.
    from celery_docker.client import donemarks

    jobs, about = found.jobs, {donemarks.TEMPLATE: found.template_id}
    if call.has("--skip-done"):
        about[donemarks.WANTED] = jobs[0].row.source.value
        jobs = donemarks.undone(client.queries, jobs, found.template_id)
    if not jobs:
        return None, 0
    made = client.submit_batch(_with_whole_ids(client.queries, jobs), limit=found.limit, about=about)
    lastid.remember(call.environ, made.id)
    return made.id, len(jobs)


def _with_whole_ids(queries: Queries, jobs: Sequence[Expanded]) -> Sequence[Expanded]:
    """Return the jobs with whole ids of those after which they are to run; most say the same."""
    known: dict[tuple[str, ...], list[str]] = {tuple(job.options.get("after") or ()): [] for job in jobs}
    if list(known) == [()]:
        return jobs
    known = {after: operands.whole_ids(queries, after) for after in known}
    return [
        replace(job, options={**job.options, "after": known[tuple(job.options.get("after") or ())]}) for job in jobs
    ]


def _tell(call: Call, batch_id: str | None, count: int, skipped: int) -> None:
    if call.wants_json:
        if not call.has("--wait"):
            call.screen.json({"id": batch_id, "jobs": count, "skipped": skipped})
        return
    if batch_id is not None:
        call.screen.data(batch_id)
        call.screen.out.flush()
    if call.is_quiet:
        return
    said = f"{_jobs(count)} queued" + (f", {skipped:,} done already" if skipped else "")
    call.screen.note(said if call.has("--wait") or not count else f"{said}; follow with: {PROGRAM} watch")


def _watched(call: Call, client: Client, batch_id: str, stream: TextIO) -> int:
    from celery_docker.cli import watching
    from celery_docker.client import donemarks

    meter = watching.Meter(stream)
    outages = Outages(lambda exc: meter.note(f"{PROGRAM}: {exc}; {WAITS}"), has_answered=True)
    with call.detaching(f"watch {batch_id}"):
        watching.until_end(client.queries, batch_id, meter, outages)
        rows = outages.answer(lambda: watching.results(client.queries, batch_id))
        outages.answer(lambda: donemarks.leave(client.queries, batch_id))
    status = watching.exit_status(rows)
    if call.wants_json:
        states = [row["state"] for row in rows]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        call.screen.json({"id": batch_id, "counts": counts, "exit_code": status})
        return status
    for line in progress.summary(rows, batch_id):
        meter.note(line)
    return status


def _meant(queries: Queries, name: str) -> str:
    """Return the batch that is meant by an id or the beginning of one; says so where it is a job."""
    try:
        return queries.batches.resolve(name)
    except errors.NoSuchJob as exc:
        try:
            job_id = queries.jobs.resolve(name)
        except errors.NoSuchJob:
            raise errors.NoSuchJob(f"no batch has an id that begins with {name!r}") from exc
        remedy = f"{PROGRAM} wait {job_id}, or {PROGRAM} retry {job_id}"
        raise errors.NoSuchJob(f"{name!r} is a job and not a batch; see {remedy}") from exc


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"
