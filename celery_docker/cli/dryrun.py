"""What would be done with a job, without doing it: the job, this host's verdict, and the `docker run` line.

Asks this host, which may be none that would run the job: what is not here is told and is no failure.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import jobspec, plan, policy, settings
from celery_docker.host import resolver

_JOB_ID = "ID"
_POLICY_FILE = next(one.default for one in settings.SETTINGS if one.field == "policy")


@dataclass(frozen=True)
class Verdict:
    """What a host with this policy file would say; `path` None: there is none here, so nothing was judged."""

    path: str | None
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        if self.path is None:
            return "this host has no policy for jobs; the host that runs the job decides"
        if self.problems:
            return f"this host would refuse it: {'; '.join(self.problems)}"
        return f"this host would allow it ({self.path})"


def preview(spec: jobspec.JobSpec, submission: jobspec.Submission, policy_file: str = _POLICY_FILE) -> dict[str, Any]:
    """Return `job`, `policy` and `docker_run` of a job that is not submitted."""
    rules, verdict = _rules(policy_file)
    try:
        resolved, request = resolver.resolve(spec, configfiles.DEFAULT_DOCKER_HOST)
        problems = policy.violations(rules, request)
    except errors.RequestError as exc:
        resolved, problems = _as_typed(spec), [str(exc)]
    if verdict.path is not None and not verdict.problems:
        verdict = Verdict(verdict.path, tuple(problems))
    container = plan.plan(spec, job_id=_JOB_ID, attempt=1, host=os.uname().nodename, resolved=resolved, rules=rules)
    return {
        "job": {**spec.to_kwargs(), **_options(submission)},
        "policy": {"file": verdict.path, "problems": list(verdict.problems), "text": verdict.text},
        "docker_run": plan.docker_run_line(container),
    }


def _options(submission: jobspec.Submission) -> dict[str, Any]:
    said = {line.name: getattr(submission, line.name) for line in jobspec.OPTIONS}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items() if value}


def _rules(path: str) -> tuple[policy.Policy, Verdict]:
    try:
        return policy.parse(Path(path).read_text(encoding="utf-8")), Verdict(path)
    except FileNotFoundError:
        return policy.Policy(), Verdict(None)
    except (OSError, UnicodeDecodeError) as exc:
        return policy.Policy(), Verdict(path, (f"cannot read {path}: {exc}",))
    except errors.PolicyError as exc:
        return policy.Policy(), Verdict(path, (f"{path}: {exc}",))


def _as_typed(spec: jobspec.JobSpec) -> plan.Resolved:
    return plan.Resolved(spec.user, spec.inputpath, spec.outputpath, spec.logoutfile, spec.logerrfile)
