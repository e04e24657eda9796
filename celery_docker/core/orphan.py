"""What becomes of a container of ours that no slot looks after. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from celery_docker.core.container import ALIVE, LABEL_ATTEMPT, LABEL_HOST, LABEL_JOB, Listed, Status, name_of


@dataclass(frozen=True)
class Stance:
    """What the record of a job says about whose it is; seen by one host.

    `in_hand`: that host owns the job and has not settled it. `envelope` is None where only the job's id is known.
    """

    state: str
    owner: str
    has_ended: bool
    in_hand: bool
    envelope: Mapping[str, Any] | None = None


class OrphanStep(StrEnum):
    """What to do about a container of ours that no slot looks after."""

    LEAVE = "leave"
    WARN = "warn"
    DELIVER = "deliver"
    REMOVE = "remove"


# A slot has its job before the container is made; this is for the clocks, and for a worker that has just started.
ORPHAN_GRACE_S = 60


# Whoever wants to know what a container of an unknown job came to has this long to look.
EVIDENCE_S = 3600


def is_ours(found: Listed, host: str, now: datetime) -> bool:
    """Decide whether a container was made by this host for a job, and long enough ago for a slot to have it.

    Labels alone do not prove it: an image that somebody made of a job's container hands them on, the name it does not.
    """
    job_id = found.labels.get(LABEL_JOB)
    return (
        job_id is not None
        and found.name == name_of(job_id)
        and found.labels.get(LABEL_HOST) == host
        and LABEL_ATTEMPT in found.labels
        and (now - found.created_at).total_seconds() >= ORPHAN_GRACE_S
    )


def orphan_step(status: Status, stance: Stance | None, *, host: str, idle_s: float) -> OrphanStep:
    """Decide what becomes of a container of this host that is in no slot.

    `stance` None: there is no record of its job. `idle_s`: seconds since it ended,
    or since it was made if it never ran.
    """
    if status is Status.REMOVING:
        return OrphanStep.LEAVE
    if stance is not None and stance.owner == host and stance.in_hand:
        return OrphanStep.DELIVER
    if stance is not None and (stance.has_ended or stance.owner != host):
        return OrphanStep.REMOVE
    # Redis has lost the record, or its part about this host: nobody knows whether the job is still wanted.
    if status in ALIVE:
        return OrphanStep.WARN
    return OrphanStep.REMOVE if idle_s >= EVIDENCE_S else OrphanStep.LEAVE
