"""Counts the outcome of a fault, in runs and not in results.

Pure: the jobs as they were seen go in, the ids of those that broke the promise come out, so that a table can show that
each counter fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

FINAL = ("SUCCESS", "FAILURE", "REVOKED")


@dataclass(frozen=True)
class Seen:
    """One job from outside: the lines that its runs wrote, Celery's status, and its receipt.

    `ends` False is a job that was made to fail: its last run writes no `end`.
    """

    job_id: str
    lines: tuple[str, ...]
    status: str
    receipt: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = True


@dataclass(frozen=True)
class Count:
    """Ids of jobs that were lost or ran twice, and names of containers and pins that nobody follows.

    `repeated`: jobs that rightly ran again and had in fact ended the first time, which nobody could know.
    """

    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    repeated: tuple[str, ...]
    orphans: tuple[str, ...]


def count(jobs: Sequence[Seen], left: Iterable[str], due: Sequence[str] = (), unseen: Sequence[str] = ()) -> Count:
    """Count once every job should have ended; `due`: words of the reasons for which an attempt has to be repeated.

    `unseen`: words of those among them after which nobody could know that the attempt had written its `end`.
    """
    doubled = tuple(job.job_id for job in jobs if _is_doubled(job, due, unseen))
    return Count(
        lost=tuple(job.job_id for job in jobs if _is_lost(job)),
        doubled=doubled,
        repeated=tuple(job.job_id for job in jobs if job.lines.count("end") > 1 and job.job_id not in doubled),
        orphans=tuple(sorted(left)),
    )


def _is_lost(job: Seen) -> bool:
    if job.status == "REVOKED":
        return False
    return job.status not in FINAL or (job.ends and job.lines[-1:] != ("end",))


def _is_doubled(job: Seen, due: Sequence[str], unseen: Sequence[str]) -> bool:
    return job.lines.count("start") > 1 + _earlier(job, due) or job.lines.count("end") > 1 + _earlier(job, unseen)


def _earlier(job: Seen, reasons: Sequence[str]) -> int:
    """Return how many attempts before the last one ended for one of these reasons."""
    earlier = job.receipt.get("attempts", [])[:-1]
    return sum(any(words in (attempt["reason"] or "") for words in reasons) for attempt in earlier)
