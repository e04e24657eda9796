"""Orphans: containers of this host's jobs that no slot looks after, and the decision about each. Pure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from celery_docker.core.container import ALIVE, LABEL_ATTEMPT, LABEL_HOST, LABEL_JOB, Listed, Status
from celery_docker.core.jobrecord import Ownership


class OrphanStep(StrEnum):
    """The treatment of an orphan: leave it, warn of it, deliver its job to a slot, or remove it."""

    LEAVE = "leave"
    WARN = "warn"
    DELIVER = "deliver"
    REMOVE = "remove"


# A slot has its job before the container is made; the grace covers clocks that differ, and a worker that just started.
ORPHAN_GRACE_S = 60
# An ended container of an unknown job is kept for so long, as evidence.
EVIDENCE_S = 3600


def is_ours(listed: Listed, host: str, now: datetime) -> bool:
    """Decide whether a container was made by this host for a job, and long enough ago for a slot to have it.

    Its labels prove it, whatever its name is by now: the engine lists none that has them from an image.
    """
    return (
        LABEL_JOB in listed.labels
        and listed.labels.get(LABEL_HOST) == host
        and LABEL_ATTEMPT in listed.labels
        and (now - listed.created_at).total_seconds() >= ORPHAN_GRACE_S
    )


def orphan_step(status: Status, ownership: Ownership | None, *, host: str, idle_s: float) -> OrphanStep:
    """Decide on the treatment of a container of this host that is in no slot.

    `ownership` None: there is no record of its job. `idle_s`: seconds since it ended, or since it was made if it
    never ran.
    """
    if status is Status.REMOVING:
        return OrphanStep.LEAVE
    if ownership is not None and ownership.owner == host and ownership.in_hand:
        return OrphanStep.DELIVER
    if ownership is not None and (ownership.has_ended or ownership.owner != host):
        return OrphanStep.REMOVE
    # Redis has lost the record, or the set of this host's jobs: the job may still be wanted.
    if status in ALIVE:
        return OrphanStep.WARN
    return OrphanStep.REMOVE if idle_s >= EVIDENCE_S else OrphanStep.LEAVE
