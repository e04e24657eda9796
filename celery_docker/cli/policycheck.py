"""The answer of a policy file of this host about a job that is not submitted.

The names in the job are looked up here and as whoever asks: a worker may look where others may not, and another host
may run the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from celery_docker import errors
from celery_docker.client import configfiles
from celery_docker.core import jobspec, plan, policy, settings, textinput
from celery_docker.host import resolver

FILE = next(setting.default for setting in settings.SETTINGS if setting.field == "policy_file")
# Every path leads somewhere where no policy says which ones count.
_ANYWHERE = policy.Policy(mounts=("/",))


@dataclass(frozen=True)
class Answer:
    """The job as it would be on this host, under `rules`; `path` None: there is no such file here.

    `failure` says why a file cannot be used, empty if it can; `problems` are what the job would be refused for.
    """

    rules: policy.Policy
    resolved: plan.Resolved
    path: str | None
    failure: str = ""
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        if self.path is None:
            return "this host has no policy file; the host that runs the job decides"
        if self.failure or self.problems:
            return f"this host would refuse the job: {self.failure or '; '.join(self.problems)}"
        return f"this host would allow the job ({self.path})"


def judge(spec: jobspec.JobSpec, path: str) -> Answer:
    """Return what the policy in this file says about a job."""
    try:
        rules, failure = policy.parse(textinput.text(Path(path).read_bytes())), ""
    except FileNotFoundError:
        return Answer(_ANYWHERE, _resolved(spec, _ANYWHERE)[0], None)
    except (OSError, ValueError) as exc:
        rules, failure = _ANYWHERE, f"cannot read {path}: {exc}"
    except errors.PolicyError as exc:
        rules, failure = _ANYWHERE, f"{path}: {exc}"
    resolved, request = _resolved(spec, rules)
    return Answer(rules, resolved, path, failure, () if failure else tuple(policy.violations(rules, request)))


def _resolved(spec: jobspec.JobSpec, rules: policy.Policy) -> tuple[plan.Resolved, policy.Request]:
    return resolver.resolve(spec, configfiles.DEFAULT_DOCKER_HOST, rules)
