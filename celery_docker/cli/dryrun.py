"""Preview of a job that is not queued: the job, this host's policy check, and the `docker run` line.

Asks this host only, and another may run the job: a path or user that is missing here is reported and is no failure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import jobspec, plan, policy, settings, textinput
from celery_docker.host import resolver

_JOB_ID = "ID"
_POLICY_FILE = next(setting.default for setting in settings.SETTINGS if setting.field == "policy_file")


@dataclass(frozen=True)
class PolicyCheck:
    """The answer of this host's policy file about a job; `path` None: there is no such file here."""

    path: str | None
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        if self.path is None:
            return "this host has no policy file; the host that runs the job decides"
        if self.problems:
            return f"this host would refuse the job: {'; '.join(self.problems)}"
        return f"this host would allow the job ({self.path})"


def preview(spec: jobspec.JobSpec, submission: jobspec.Submission, policy_file: str = _POLICY_FILE) -> dict[str, Any]:
    """Return `job`, `policy` and `docker_run` of a job that is not submitted."""
    host_policy, check = _read(policy_file)
    try:
        resolved, request = resolver.resolve(spec, configfiles.DEFAULT_DOCKER_HOST)
        problems = policy.violations(host_policy, request)
    except errors.RequestError as exc:
        resolved, problems = _as_typed(spec), [str(exc)]
    if check.path is not None and not check.problems:
        check = PolicyCheck(check.path, tuple(problems))
    container = plan.plan(
        spec, job_id=_JOB_ID, attempt=1, host=os.uname().nodename, resolved=resolved, policy=host_policy
    )
    return {
        "job": {**spec.to_kwargs(), **_options(submission)},
        "policy": {"file": check.path, "problems": list(check.problems), "text": check.text},
        "docker_run": plan.docker_run_line(container),
    }


def _options(submission: jobspec.Submission) -> dict[str, Any]:
    options = {line.name: getattr(submission, line.name) for line in jobspec.OPTIONS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items() if value}


def _read(path: str) -> tuple[policy.Policy, PolicyCheck]:
    try:
        return policy.parse(textinput.text(Path(path).read_bytes())), PolicyCheck(path)
    except FileNotFoundError:
        return policy.Policy(), PolicyCheck(None)
    except (OSError, ValueError) as exc:
        return policy.Policy(), PolicyCheck(path, (f"cannot read {path}: {exc}",))
    except errors.PolicyError as exc:
        return policy.Policy(), PolicyCheck(path, (f"{path}: {exc}",))


def _as_typed(spec: jobspec.JobSpec) -> plan.Resolved:
    return plan.Resolved(spec.user, spec.inputpath, spec.outputpath, spec.logoutfile, spec.logerrfile)
