"""The commands that submit one job: `submit` and `run`."""

from __future__ import annotations

import json
from typing import Any

from celery_docker import cli_job, cli_last, dryrun, errors, jobspec, lifecycle
from celery_docker.cli_call import Call


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
    """Queue the job that was typed, show its output, and return the container's code."""
    spec, submission = _described(call)
    if call.has("--dry-run"):
        return _preview(call, spec, submission)
    raise call.unfinished()


def _described(call: Call) -> tuple[jobspec.JobSpec, jobspec.Submission]:
    caller = cli_job.of_process(call.environ)
    return jobspec.parse_document(cli_job.document(call.words, caller, call.config.queue))


def _queue(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> str:
    if submission.after:
        raise errors.CeleryDockerError("--after: jobs cannot wait for others yet")
    with call.client() as client:
        job_id = client.submit(spec, queue=submission.queue, priority=submission.priority, expires_s=submission.expires)
    cli_last.remember(call.environ, job_id)
    return job_id


def _preview(call: Call, spec: jobspec.JobSpec, submission: jobspec.Submission) -> int:
    found: dict[str, Any] = dryrun.preview(spec, submission)
    if call.wants_json:
        call.screen.json(found)
        return 0
    call.screen.data(json.dumps(found["job"], ensure_ascii=False, indent=2))
    call.screen.data(found["docker_run"])
    call.screen.note(found["policy"]["text"])
    return 0
