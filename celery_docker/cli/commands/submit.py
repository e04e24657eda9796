"""The commands that submit one job: `submit` and `run`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from celery_docker.cli import attached, dryrun, exitcodes, jobargs, lastid, localfiles, operands
from celery_docker.cli.context import Context
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.cli.waitlines import WaitLines
from celery_docker.client import signing
from celery_docker.core import jobspec, lifecycle
from celery_docker.core.receipt import Receipt

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.store import livelog


def submit(context: Context) -> int:
    """Queue the job that was typed, and print its id."""
    spec, submission = _parsed_job(context)
    if context.has("--dry-run"):
        return _preview(context, spec, submission)
    with context.client() as client:
        job_id = _queue(context, client, spec, submission)
    with context.screen.safe(f"{PROGRAM}: the job is queued, its id is {job_id}"):
        if context.wants_json:
            context.screen.json({"id": job_id, "name": spec.name, "state": lifecycle.State.QUEUED.value})
        else:
            context.screen.data(job_id)
    return 0


def run(context: Context) -> int:
    """Queue the job that was typed, show its output, and return the container's code. Ctrl-C cancels it."""
    spec, submission = _parsed_job(context)
    repeats = spec.retries is not None or spec.retry_on is not None
    # A retry would print the output of a job that failed once more.
    spec = spec if repeats else replace(spec, retries=0)
    if context.has("--dry-run"):
        return _preview(context, spec, submission)
    with attached.Cancellation(context.screen) as cancellation, context.client() as client:
        reader = None if context.wants_json else client.logs_of("")
        with attached.attached(reader):
            _queue(context, client, spec, submission, before=partial(_attach, cancellation, reader))
            outages = context.outages()
            note = partial(attached.note, context.screen)
            wait_lines = WaitLines(client.queries, cancellation.job_id, note, context.advice)
            job = attached.Attached(context.screen, client, cancellation, reader, wait_lines, repeats=repeats)
            stored = job.follow(outages)
    return _report(context, job, stored)


def _attach(cancellation: attached.Cancellation, reader: livelog.Reader | None, job_id: str) -> None:
    """Have the job that is to be queued wait for its reader from the first byte on."""
    if reader is not None:
        reader.job_id = job_id
        reader.attach()
    # From now on it may be in the queue, whatever is heard of it.
    cancellation.job_id = job_id


def _report(context: Context, job: attached.Attached, stored: Mapping[str, Any]) -> int:
    """Show the end of an attached job and return the exit status. Raises `OSError` if its output was not taken."""
    if context.wants_json:
        context.screen.json(stored)
    receipt = Receipt.from_dict(stored)
    problem = exitcodes.explain(receipt)
    if problem:
        attached.note(context.screen, f"{PROGRAM}: {problem}")
    status = job.exit_status(receipt)
    if job.failure is not None:
        raise job.failure
    return status


def _parsed_job(context: Context) -> tuple[jobspec.JobSpec, jobspec.Submission]:
    local_user = jobargs.of_process(context.environ, context.config.broker_url)
    localfiles.check_image(context.arguments)
    spec, submission = jobspec.parse_document(jobargs.document(context.arguments, local_user, context.config.queue))
    localfiles.check_outputs([spec.to_kwargs()])
    hint = localfiles.missing_input(context.arguments, spec.inputpath)
    if hint:
        context.screen.note(f"{PROGRAM}: {hint}")
    return spec, submission


def _queue(
    context: Context,
    client: Client,
    spec: jobspec.JobSpec,
    submission: jobspec.Submission,
    before: Callable[[str], object] | None = None,
) -> str:
    localfiles.make_outputs([spec.to_kwargs()], jobargs.of_process(context.environ, context.config.broker_url).user)
    options = {name: value for name, value in asdict(submission).items() if value}
    if submission.after:
        options["after"] = operands.job_ids(client.queries, submission.after)
    job = client.submit(spec, **options) if before is None else client.submit(spec, before=before, **options)
    lastid.remember(context.environ, job.id)
    return job.id


def _preview(context: Context, spec: jobspec.JobSpec, submission: jobspec.Submission) -> int:
    preview: dict[str, Any] = dryrun.preview(spec, submission, submitter=signing.submitter(context.environ))
    if context.wants_json:
        context.screen.json(preview)
        return 0
    context.screen.data(json.dumps(preview["job"], ensure_ascii=False, indent=2))
    context.screen.data(preview["docker_run"])
    for line in (preview["policy"]["text"], *preview["policy"]["defaults"]):
        context.screen.note(line)
    return 0
