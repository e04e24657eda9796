"""The answer of a policy file of this host about a job that is not submitted.

The names in the job are looked up here and as whoever asks: a worker may look where others may not, and another host
may run the job.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import jobspec, plan, policy, policyfile, settings, textinput
from celery_docker.core.access import Identity
from celery_docker.host import resolver

FILE = next(setting.default for setting in settings.SETTINGS if setting.field == "policy_file")
# Every path leads somewhere where no policy says which ones count.
_ANYWHERE = policy.Policy(mounts=("/",))


@dataclass(frozen=True)
class Answer:
    """The job as it would be on this host, under `rules`; `path` None: there is no such file here.

    `failure` says why a file cannot be used, empty if it can; `problems` are what the job would be refused for,
    `defaults` the sizes that it does not ask for and gets.
    """

    rules: policy.Policy
    resolved: plan.Resolved
    path: str | None
    failure: str = ""
    problems: tuple[str, ...] = ()
    defaults: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        if self.path is None:
            return "this host has no policy file; the host that runs the job decides"
        if self.failure or self.problems:
            return f"this host would refuse the job: {self.failure or '; '.join(self.problems)}"
        return f"this host would allow the job ({self.path})"


def judge(spec: jobspec.JobSpec, path: str, submitter: Identity | None = None) -> Answer:
    """Return what the policy in this file says about a job that this submitter has signed; None: nobody has."""
    try:
        rules, failure = policyfile.parse(textinput.text(Path(path).read_bytes())), ""
    except FileNotFoundError:
        return Answer(_ANYWHERE, _resolved(spec, _ANYWHERE, submitter)[0], None)
    except (OSError, ValueError) as exc:
        rules, failure = _ANYWHERE, f"cannot read {path}: {exc}"
    except errors.PolicyError as exc:
        rules, failure = _ANYWHERE, f"{path}: {exc}"
    try:
        rules = policy.applying(rules, submitter, resolver.group_names(submitter) if submitter else ())
    except errors.SignatureError as exc:
        return Answer(rules, _resolved(spec, rules, submitter)[0], path, problems=(str(exc),))
    resolved, request = _resolved(spec, rules, submitter)
    if failure:
        return Answer(rules, resolved, path, failure)
    problems = tuple(policy.violations(rules, request))
    defaults = tuple(rules.defaults_for(memory_bytes=spec.memory, cpus=spec.cpus))
    return Answer(rules, resolved, path, problems=problems, defaults=() if problems else defaults)


def identity_of(user: str) -> Identity | None:
    """Return a user of this host, or a uid, as the submitter of a job; None for a name that is not here."""
    name, _, gid = user.partition(":")
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except (KeyError, OverflowError):
        return Identity(name, int(name), int(gid or name), ()) if name.isdigit() else None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(sorted({*groups} - {entry.pw_gid})))


def _resolved(
    spec: jobspec.JobSpec, rules: policy.Policy, submitter: Identity | None
) -> tuple[plan.Resolved, policy.Request]:
    return resolver.resolve(spec, configfiles.DEFAULT_DOCKER_HOST, rules, submitter)
