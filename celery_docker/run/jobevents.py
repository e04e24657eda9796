"""The lines of the journal about the life of a job: its start, stop, retry and end, each with fields to find it by.

Owns these lines. Invariant: each event is one line. What a host does is at level INFO, and what somebody should look
into at WARNING: the journal counts the two apart when there are too many lines, so that none of many thousand jobs'
ends hides a sick host.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from celery_docker.core import journal, message, wording
from celery_docker.core.container import Container
from celery_docker.core.journal import JobFacts, JournalEvent
from celery_docker.core.lifecycle import Cause, Outcome, State
from celery_docker.run.job import Job

log = logging.getLogger(__name__)

# Ends of which nobody knows enough: a container, a host or Docker is to be looked at.
_UNCLEAR = (State.ERROR, State.LOST)


def started(job: Job, container_id: str) -> None:
    """Log the start of a job's container."""
    facts = _facts(job, State.RUNNING)
    log.info(
        "attempt %d runs in container %s",
        *(job.attempt.number, container_id[:12]),
        extra=journal.attributes(JournalEvent.JOB_STARTED, job.job_id, facts),
    )


def adopted(job: Job, existing: Container) -> None:
    """Log that a container of an earlier process is followed on."""
    facts = _facts(job, State.RUNNING)
    log.info(
        "container %s is %s: taken over",
        *(existing.container_id[:12], existing.status),
        extra=journal.attributes(JournalEvent.JOB_ADOPTED, job.job_id, facts),
    )


def stopped(job: Job) -> None:
    """Log that a container gets its stop signal, on the request to end its job."""
    request = job.end_request
    if request is None or request.cause is Cause.FENCED:
        return
    log.log(
        logging.WARNING if request.cause is Cause.INTERRUPTED else logging.INFO,
        "its container is stopped: %s",
        request.reason,
        extra=journal.attributes(JournalEvent.JOB_STOPPED, job.job_id, _facts(job, State.RUNNING)),
    )


def retried(job: Job, outcome: Outcome, sentence: str) -> None:
    """Log the end of an attempt after which its job waits for another one."""
    log.log(
        logging.WARNING if outcome.cause is Cause.HOST else logging.INFO,
        "%s",
        sentence,
        extra=journal.attributes(JournalEvent.JOB_RETRIED, job.job_id, _facts(job, State.QUEUED, outcome.exit_code)),
    )


def fenced(job: Job, reason: str) -> None:
    """Log that this host ends what it still did about a job that is another's."""
    extra = journal.attributes(JournalEvent.JOB_FENCED, job.job_id, _facts(job))
    log.warning("%s; its container here is stopped", reason, extra=extra)


def ended(job: Job, receipt: Mapping[str, Any], sentence: str) -> None:
    """Log a job's end, from its receipt, which an earlier process may have written."""
    state = State(str(receipt.get("state")))
    facts = _facts(job, state, receipt.get("exit_code"), image=str(receipt.get("image") or ""))
    log.log(_level(state), "%s", sentence, extra=journal.attributes(journal.end_event(state), job.job_id, facts))


def ended_queued(state: State, job_ids: Sequence[str], sentence: str, host: str) -> None:
    """Log the same end of one or many jobs that were queued, in one line that names them all in its fields."""
    event, facts = journal.end_event(state), JobFacts(state=state, host=host)
    if len(job_ids) == 1:
        log.log(_level(state), "%s", sentence, extra=journal.attributes(event, job_ids[0], facts))
        return
    count = wording.counted(len(job_ids), "queued job")
    log.log(_level(state), "%s ended: %s", count, sentence, extra=journal.attributes(event, job_ids, facts))


def _level(state: State) -> int:
    return logging.WARNING if state in _UNCLEAR else logging.INFO


def _facts(job: Job, state: State | str = "", exit_code: int | None = None, *, image: str = "") -> JobFacts:
    return JobFacts(
        batch=job.claim.batch_id,
        attempt=job.attempt.number,
        state=state,
        exit_code=exit_code,
        image=job.spec.image if job.spec else image,
        host=job.attempt.host,
        queue=message.queue_name(job.delivery.queue),
        user=job.signer,
    )
