"""The share that each submitter has of a queue: the names of shares, and how many jobs of one are published at a time.

Pure. A share is the jobs of one submitter in one queue list, hence of one priority, that ask for about as much: a job
that fits no host now has no other kind of job behind it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from celery_docker.core import message

# A slot that a job has just left finds the next one in the queue: so many are there besides those that run.
_JOBS_PER_SLOT = 2
# What a job takes of a host, by the fields of its document.
NEEDS = ("cpus", "memory", "gpus")


def submitter(uid: int | None, origin: str) -> str:
    """Return the submitter for his shares: the user whom the gateway knows, else the USER of a USER@HOST.

    The first is attested and the second only said, so that they never have a share in common.
    """
    return f"@{origin.rpartition('@')[0] or origin}" if uid is None else str(uid)


def name(queue_list: str, who: str, kwargs: Mapping[str, Any]) -> str:
    """Return the name of the share of a job with this document."""
    return " ".join([queue_list, who, *filter(None, (_need(field, kwargs.get(field)) for field in NEEDS))])


def window(slots: int) -> int:
    """Return how many jobs of one share may be published at a time, where so many slots serve its queue."""
    return max(1, _JOBS_PER_SLOT * slots)


def windows(reports: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return the window of each queue list that hosts serve, from their reports.

    A host that takes no jobs now counts too: those that still run there have places.
    """
    slots: Counter[str] = Counter()
    for report in reports:
        slots.update(dict.fromkeys(report.get("queues", ()), report.get("slots", 0)))
    return {key: window(count) for queue, count in slots.items() for key in message.queue_keys(queue)}


def _need(field: str, value: object) -> str:
    """Return a need in words; of a number only the power of two that it does not exceed."""
    if value is None:
        return ""
    if isinstance(value, int | float) and value > 0:
        return f"{field}<=2^{math.frexp(value)[1] - (math.frexp(value)[0] == 0.5)}"
    return field
