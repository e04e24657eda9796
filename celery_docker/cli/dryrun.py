"""Preview of a job that is not queued: the job, this host's policy check, and the `docker run` line.

Asks this host only, and another may run the job: a path or user that is missing here is reported and is no failure.
"""

from __future__ import annotations

import os
from typing import Any

from celery_docker.cli import policycheck
from celery_docker.core import jobfields, jobspec, plan
from celery_docker.core.access import Identity

_JOB_ID = "ID"


def preview(
    spec: jobspec.JobSpec,
    submission: jobspec.Submission,
    policy_file: str | None = None,
    submitter: Identity | None = None,
) -> dict[str, Any]:
    """Return `job`, `policy` and `docker_run` of a job that is not submitted.

    The `submitter` would sign it; None: nobody.
    """
    answer = policycheck.judge(spec, policy_file or policycheck.FILE, submitter)
    container = plan.plan(
        spec, job_id=_JOB_ID, attempt=1, host=os.uname().nodename, resolved=answer.resolved, policy=answer.rules
    )
    problems = [answer.failure] if answer.failure else list(answer.problems)
    return {
        "job": {**spec.to_kwargs(), **_options(submission)},
        "policy": {
            "file": answer.path,
            "problems": problems,
            "text": answer.text,
            "defaults": list(answer.defaults),
        },
        "docker_run": plan.docker_run_line(container),
    }


def _options(submission: jobspec.Submission) -> dict[str, Any]:
    options = {line.name: getattr(submission, line.name) for line in jobfields.OPTIONS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value}
