"""The commands that submit one job: `submit` and `run`."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from celery_docker import cli_job, cli_last, commands_jobs, dryrun, errors, exitcodes, jobspec, lifecycle
from celery_docker.cli_call import Call
from celery_docker.cli_types import PROGRAM


def submit(call: Call) -> int:
    """Queue the job that was typed, and print its id."""
    spec, submission = _described(call)
    if call.has("--dry-run"):
        return _preview(call, spec, submission)
    job_id = _queue(call, spec, submission)
    if call.wants_json:
        call.screen.json({"id": job_id, "name": spec.name, "state": lifecycle.State.QUEUED.value})
    else:
        call.screen.data(job_id)
    return 0


def run(call: Call) -> int:
    """Queue the job that was typed, show its output, and return the container's code. Ctrl-C cancels it."""
    spec, submission = _described(call)
    if call.has("--dry-run"):
        return _preview(call, spec, submission)
    job_id = _queue(call, spec, submission)
    try:
        receipt = _followed(call, job_id)
    except KeyboardInterrupt:
        receipt = _cancelled(call, job_id)
    if call.wants_json:
        call.screen.json(receipt)
    problem = exitcodes.explain(receipt)
    if problem:
        call.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.exit_status(receipt)


def _followed(call: Call, job_id: str) -> Mapping[str, Any]:
    """Show a job's output and return its receipt. A Redis that goes away in the meantime is waited for."""
    from celery_docker import store

    with call.link() as link:
        records, told = store.Store(link), False
        while True:
            try:
                receipt = commands_jobs.receipt_of(records, job_id)
            except errors.StoreAway as exc:
                if not told:
                    call.screen.note(f"{PROGRAM}: {exc}; the job goes on, and this waits for Redis")
                receipt, told = None, True
            if receipt is not None:
                break
            time.sleep(commands_jobs.PAUSE_S)
    if not call.wants_json:
        call.screen.raw(str(receipt.get("output") or "").encode(errors="replace"))
    return receipt


def _cancelled(call: Call, job_id: str) -> Mapping[str, Any]:
    """Cancel a job and wait for its end; who interrupts that leaves it to end by itself."""
    call.screen.note(f"\n{PROGRAM}: cancelling {job_id}; Ctrl-C again leaves at once")
    try:
        with call.client() as client:
            client.cancel(job_id, reason=f"cancelled by {cli_job.login()} with Ctrl-C")
        return _followed(call, job_id)
    except KeyboardInterrupt:
        call.screen.note(f"\nsee what becomes of it with: {PROGRAM} status {job_id}")
        raise


def _described(call: Call) -> tuple[jobspec.JobSpec, jobspec.Submission]:
    caller = cli_job.of_process(call.environ)
    return jobspec.parse_document(cli_job.document(call.words, caller, call.config.queue))


def _queue(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> str:
    with call.client() as client:
        job = client.submit(spec, **{name: value for name, value in asdict(submission).items() if value is not None})
    cli_last.remember(call.environ, job.id)
    return job.id


def _preview(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> int:
    found: dict[str, Any] = dryrun.preview(spec, submission)
    if call.wants_json:
        call.screen.json(found)
        return 0
    call.screen.data(json.dumps(found["job"], ensure_ascii=False, indent=2))
    call.screen.data(found["docker_run"])
    call.screen.note(found["policy"]["text"])
    return 0
