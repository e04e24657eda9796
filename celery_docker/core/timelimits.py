"""Celery's time limits of a task, and the timeout of a job that they become. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from celery_docker.core.jobfields import LONGEST_GRACE_S
from celery_docker.core.jobspec import JobSpec


@dataclass(frozen=True)
class Limits:
    """Celery's time limits of a task, in seconds; None or 0: no limit.

    At the soft one a Celery task is told to end, at the hard one it is killed.
    """

    hard_s: float | None = None
    soft_s: float | None = None


NO_LIMITS = Limits()


def limited(spec: JobSpec, limits: Limits) -> JobSpec:
    """Return the spec with Celery's time limits: the container gets its stop signal at the first limit that is set.

    That is `timeout`, unless the job's own is shorter. A hard limit after a soft one says when KILL follows, unless the
    job's own grace is shorter.
    """
    first_s = limits.soft_s or limits.hard_s
    if not first_s:
        return spec
    timeout_s = math.ceil(first_s)
    if spec.timeout is not None and spec.timeout <= timeout_s:
        return spec
    spec = replace(spec, timeout=timeout_s)
    if not (limits.soft_s and limits.hard_s):
        return spec
    grace_s = min(math.ceil(limits.hard_s) - timeout_s, LONGEST_GRACE_S)
    return replace(spec, stop_grace=grace_s if spec.stop_grace is None else min(grace_s, spec.stop_grace))
