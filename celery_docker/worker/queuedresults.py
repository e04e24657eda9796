"""Celery's side of the end of jobs that were queued: results, what follows the jobs, and events. No slot is needed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from celery import states
from celery.app.task import Context
from celery.exceptions import TaskRevokedError

from celery_docker import errors
from celery_docker.core import incoming, message
from celery_docker.core.lifecycle import State
from celery_docker.run.queuedends import QueuedEnd
from celery_docker.worker.events import Events
from celery_docker.worker.results import Results

log = logging.getLogger(__name__)


def tell(backend: Results, events: Events, ends: Sequence[QueuedEnd]) -> list[str]:
    """Store the results of jobs that ended while they were queued, and send their events; return whose Redis has.

    Those that stand alone go to Redis together, which is most of them.
    """
    contexts = [_context(end) for end in ends]
    alone = [(end, context) for end, context in zip(ends, contexts, strict=True) if not _has_follower(context)]
    backend.store_many(
        [(end.job.job_id, *_result(end), context) for end, context in alone if not context.ignore_result]
    )
    reported = [
        end
        for end, context in zip(ends, contexts, strict=True)
        if not _has_follower(context) or _tell_with_followers(backend, end, context)
    ]
    for end in reported:
        events.ended(end.job.job_id, end.state, end.receipt.failure_line())
    return [end.job.job_id for end in reported]


def _tell_with_followers(backend: Results, end: QueuedEnd, context: Context) -> bool:
    """Tell also the chord, the chain or the callbacks that a job belongs to; False if that failed."""
    exception, _ = _result(end)
    options = {"request": context, "store_result": not context.ignore_result}
    try:
        if end.state is State.CANCELLED:
            backend.mark_as_revoked(end.job.job_id, str(exception), **options)
        else:
            backend.mark_as_failure(end.job.job_id, exception, **options)
    except Exception as exc:  # noqa: BLE001  # one bad chord must not keep the others from their end
        log.error("what follows it could not be told: %r; it is tried again", exc, extra={"job": end.job.job_id})
        return False
    return True


def _result(end: QueuedEnd) -> tuple[Exception, str]:
    """Return the exception and the state that Celery's result has."""
    if end.state is State.CANCELLED:
        return TaskRevokedError(end.receipt.sentence()), states.REVOKED
    return errors.JobFailed(end.receipt.failure_line()), states.FAILURE


def _context(end: QueuedEnd) -> Context:
    """Return the request of a job as Celery's backend asks for it, from its message where that is known."""
    if end.job.envelope is None:
        return Context(id=end.job.job_id, receipt=end.receipt.to_dict())
    envelope = incoming.of_envelope(end.job.job_id, end.job.envelope).envelope
    own: dict[str, Any] = {**envelope["headers"], **message.canvas(envelope), "id": end.job.job_id}
    return Context({**own, "receipt": end.receipt.to_dict(), "delivery_info": {}})


def _has_follower(context: Context) -> bool:
    return bool(context.chord or context.chain or context.errbacks)
