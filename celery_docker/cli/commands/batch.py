"""The commands about many jobs: `batch` queues them, `watch` follows them, `retry` queues them once more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TextIO

from celery_docker import errors
from celery_docker.cli import batchargs, jobargs, lastid, localfiles, operands, progress
from celery_docker.cli.context import WAITS, Context
from celery_docker.cli.syntax import commandtable
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.outages import Outages
from celery_docker.core import batchinputs, wording
from celery_docker.core.batch import Expanded

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.client.ports import Queries


def batch(context: Context) -> int:
    """Queue the jobs of a batch, and print its id; or show them, a line of JSON each."""
    local_user = jobargs.of_process(context.environ, context.config.broker_url)
    localfiles.check_image(context.arguments)
    request = batchargs.batch_request(context.arguments, local_user, context.config.queue)
    localfiles.check_outputs(job.kwargs for job in request.jobs)
    _note_doubts(context, request)
    if context.has("--dry-run"):
        return _preview(context, request)
    with context.client() as client:
        batch_id, count = _queued(context, client, request, local_user.user)
        _tell(context, batch_id, count, len(request.jobs) - count)
        if batch_id is None or not context.has("--wait"):
            return 0
        return _watched(context, client, batch_id, context.screen.err)


def watch(context: Context) -> int:
    """Show the progress of a batch until its end, and what became of it; return the highest code of its jobs."""
    (name,) = context.operands or [lastid.expand(context.environ, commandtable.LAST)]
    with context.client() as client:
        batch_id = _batch_id(client.queries, name)
        return _watched(context, client, batch_id, context.screen.err if context.wants_json else context.screen.out)


def retry(context: Context) -> int:
    """Queue jobs that have ended once more, under new ids."""
    batch_operand = context.text("--failed")
    if (batch_operand is None) == (not context.arguments.operands):
        raise errors.UsageError("retry: give jobs, or --failed and a batch; one of the two")
    with context.client() as client:
        if batch_operand is not None:
            return _retry_failed(
                context, client, _batch_id(client.queries, lastid.expand(context.environ, batch_operand))
            )
        of_batch = f"run what has failed of it again with: {PROGRAM} retry --failed"
        job_ids = [operands.job_id(client.queries, name, of_batch) for name in context.operands]
        new_ids = [job.id for job in client.retry_many(job_ids)]
    lastid.remember(context.environ, new_ids[-1])
    with context.screen.safe(f"{PROGRAM}: queued again: {' '.join(new_ids)}"):
        if context.wants_json:
            context.screen.json([{"id": new, "retry_of": old} for new, old in zip(new_ids, job_ids, strict=True)])
        else:
            for job_id in new_ids:
                context.screen.data(job_id)
    return 0


def _retry_failed(context: Context, client: Client, batch_id: str) -> int:
    new_ids = [job.id for job in client.batch(batch_id).retry_failed()]
    lastid.remember(context.environ, batch_id)
    if context.wants_json:
        context.screen.json({"id": batch_id, "jobs": new_ids})
    elif context.is_quiet:
        for job_id in new_ids:
            context.screen.data(job_id)
    else:
        context.screen.data(batch_id)
        context.screen.note(
            f"{wording.counted(len(new_ids), 'job')} queued again"
            + (f"; follow with: {PROGRAM} watch" if new_ids else "")
        )
    return 0


def _note_doubts(context: Context, request: batchargs.BatchRequest) -> None:
    """Write what is allowed and may be a mistake."""
    for column in request.unused_columns:
        remedy = f"name the column {batchinputs.JOB_PREFIX}{column} to set the job's {column}"
        context.screen.note(f"{PROGRAM}: column {column} is data and sets nothing; {remedy}")
    hint = localfiles.missing_input(context.arguments, request.jobs[0].kwargs.get("inputpath"))
    if hint:
        context.screen.note(f"{PROGRAM}: {hint}")


def _preview(context: Context, request: batchargs.BatchRequest) -> int:
    for job in request.jobs:
        context.screen.line_of_json({"index": job.row.index, **job.kwargs, **job.options})
    at_once = "as many at once as there are slots" if request.limit is None else f"{request.limit} at once"
    context.screen.note(f"{wording.counted(len(request.jobs), 'job')}, {at_once}; none was queued")
    return 0


def _queued(
    context: Context, client: Client, request: batchargs.BatchRequest, user: str | None
) -> tuple[str | None, int]:
    """Queue the jobs that are to be done; return the batch's id (None: all were done already) and their number."""
    # With Redis it costs more than the rest of this module: not for a mistake in the command line.
    from celery_docker.client import donemarks

    jobs, about = request.jobs, {donemarks.TEMPLATE: request.template_id}
    if context.has("--skip-done"):
        about[donemarks.WANTED] = jobs[0].row.source.value
        own = donemarks.OwnUser(client.submitter(), user)
        jobs = donemarks.undone(client.queries, jobs, request.template_id, own)
    if not jobs:
        return None, 0
    # Only now: without its folder a job counts as not done.
    localfiles.make_outputs((job.kwargs for job in jobs), user)
    handle = client.submit_batch(_with_whole_ids(client.queries, jobs), limit=request.limit, about=about)
    lastid.remember(context.environ, handle.id)
    return handle.id, len(jobs)


def _with_whole_ids(queries: Queries, jobs: Sequence[Expanded]) -> Sequence[Expanded]:
    """Return the jobs with whole ids of those after which they are to run; most say the same."""
    whole: dict[tuple[str, ...], list[str]] = {tuple(job.options.get("after") or ()): [] for job in jobs}
    if list(whole) == [()]:
        return jobs
    whole = {after: operands.job_ids(queries, after) for after in whole}
    return [
        replace(job, options={**job.options, "after": whole[tuple(job.options.get("after") or ())]}) for job in jobs
    ]


def _tell(context: Context, batch_id: str | None, count: int, skipped: int) -> None:
    with context.screen.safe(
        f"{PROGRAM}: {f'the batch is queued, its id is {batch_id}' if batch_id else 'none queued'}"
    ):
        if context.wants_json and not context.has("--wait"):
            context.screen.json({"id": batch_id, "jobs": count, "skipped": skipped})
        elif batch_id is not None and not context.wants_json:
            context.screen.data(batch_id)
    if context.wants_json:
        return
    if context.is_quiet:
        return
    sentence = f"{wording.counted(count, 'job')} queued" + (f", {skipped:,} done already" if skipped else "")
    context.screen.note(sentence if context.has("--wait") or not count else f"{sentence}; follow with: {PROGRAM} watch")


def _watched(context: Context, client: Client, batch_id: str, stream: TextIO) -> int:
    from celery_docker.cli import watching
    from celery_docker.client import donemarks

    user = jobargs.of_process(context.environ, context.config.broker_url).user
    display = watching.ProgressDisplay(stream)
    outages = Outages(lambda exc: display.note(f"{PROGRAM}: {exc}; {WAITS}"), has_answered=True)

    def own_user() -> donemarks.OwnUser:
        return donemarks.OwnUser(client.submitter(), user)

    with context.detaching("watch", batch_id):
        size = watching.until_end(client.queries, batch_id, display, outages)
        receipts = outages.answer(lambda: watching.results(client.queries, batch_id))
        outages.answer(lambda: donemarks.leave(client.queries, batch_id, own_user))
    status = watching.batch_exit_status(receipts, size)
    if context.wants_json:
        states = [receipt.state for receipt in receipts]
        counts = {state: states.count(state) for state in dict.fromkeys(states)}
        context.screen.json({"id": batch_id, "counts": counts, "exit_code": status})
        return status
    for line in progress.summary(receipts, batch_id, size):
        display.note(line)
    return status


def _batch_id(queries: Queries, name: str) -> str:
    """Return the whole id of a batch; a job's id is refused with a remedy."""
    try:
        return queries.batches.resolve(name)
    except errors.NoSuchJob as exc:
        try:
            job_id = queries.jobs.resolve(name)
        except errors.NoSuchJob:
            raise errors.NoSuchJob(f"no batch has an id that begins with {name!r}") from exc
        remedy = f"{PROGRAM} wait {job_id}, or {PROGRAM} retry {job_id}"
        raise errors.NoSuchJob(f"{name!r} is a job and not a batch; see {remedy}") from exc
