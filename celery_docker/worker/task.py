"""The task `tasks.run_docker` as Celery sees it.

Owns the seam between Celery and the runner: a message is claimed in the slot that accepted it and *before* it is
acknowledged, what the runner says is told to the result backend, and only after the result is stored does the job leave
its slot. Nothing is decided here.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import Task, states
from celery.exceptions import Ignore
from celery.worker.request import Request

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core import jobspec, kinds, wording
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt
from celery_docker.run.job import Job
from celery_docker.run.runner import Ended, Runner
from celery_docker.worker import events, transport

# The name of the threads that bring one to Redis.
_REVOKE = "revoke"


class JobRequest(Request):  # type: ignore[misc]  # Celery ships no types
    """A delivered message, claimed when a slot accepts it: Celery's documented hook for custom requests."""

    @property
    def eta(self) -> None:
        """Nothing for Celery: it would keep the message in memory. The delivery's term has it."""

    @property
    def expires(self) -> None:
        """Nothing for Celery, which would not tell the record. The delivery's term has it."""

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """Claim the job, then acknowledge its message."""
        job = self.request_dict["job"] = self.task.runner.claim(transport.delivery_of(self.message))
        # Weakly: the request holds this table, and would hold itself until Python looks for circles.
        self.request_dict["send_event"] = partial(Request.send_event, weakref.proxy(self))
        if job is not None:
            transport.claimed(self.message)
        super().on_accepted(pid, time_accepted)

    def send_event(self, type: str, **fields: Any) -> None:
        """Send an event of Celery's, unless the job's own announcements tell it better."""
        if type == "task-started":
            # Celery means that the slot was taken. The job may wait for its time, or be another host's.
            return
        if type == "task-failed":
            fields["traceback"] = self._output()
        super().send_event(type, **fields)

    def _output(self) -> str | None:
        job: Job | None = self.request_dict.get("job")
        receipt = job.receipt if job is not None else None
        return events.output_of(receipt or {})


class RunDocker(Task):  # type: ignore[misc]  # Celery ships no types
    """Runs one container job; see `jobfields.FIELDS` for its arguments."""

    name = jobspec.TASK_NAME
    Request = "celery_docker.worker.task:JobRequest"
    # The arguments are checked by `jobspec`, which can say what is wrong with them.
    typing = False
    throws = (errors.JobFailed,)
    # Celery makes this text of every result, for a log line of its own that is switched off.
    resultrepr_maxsize = 64

    def __init__(self, runner: Runner, intake: Intake) -> None:
        self.runner = runner
        self.intake = intake

    def run(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
        """Return the job's receipt.

        Raises `JobFailed` for a job that did not succeed, and `Ignore` where there is nothing to tell Celery.
        """
        job: Job | None = self.request.get("job")
        if job is None:
            raise Ignore
        end = self.runner.run(job, _Announcer(self))
        if not isinstance(end, Ended):
            self.runner.done(job, settled=False)
            raise Ignore
        if end.state is State.CANCELLED:
            stored = not self.request.ignore_result
            self.backend.mark_as_revoked(job.job_id, end.sentence, request=self.request, store_result=stored)
            had_container = job.attempt.container_id is not None
            self.request.send_event("task-revoked", **events.revoked(terminated=had_container))
            self.runner.done(job, settled=True)
            raise Ignore
        if end.state is not State.SUCCEEDED:
            self.request.receipt = end.receipt
            raise errors.JobFailed(Receipt.from_dict(end.receipt).failure_line())
        return dict(end.receipt)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Let go of the job: its result is stored. One that has not ended broke its slot, and stays this host's."""
        job: Job | None = self.request.get("job")
        if job is not None and job.receipt is not None:
            self.runner.done(job, settled=True)

    def let_go(self, request: Mapping[str, Any]) -> bool:
        """Free the slot of the job of a request that nobody works on any more; False if it is free already."""
        job: Job | None = request.get("job")
        return job is not None and self.runner.abandon(job)


class _Announcer:
    """Tells Celery's clients and monitors about a job that has not ended; repeated by Celery until Redis has it.

    A client that wants no result is told nothing: no later end would replace what it was told.
    """

    def __init__(self, task: RunDocker) -> None:
        self._backend = task.backend
        self._request = task.request

    def started(self, meta: Mapping[str, Any]) -> None:
        if not self._request.ignore_result:
            self._backend.store_result(self._request.id, dict(meta), states.STARTED, request=self._request)
        self._request.send_event("task-started")

    def retrying(self, reason: str) -> None:
        if not self._request.ignore_result:
            self._backend.mark_as_retry(self._request.id, errors.JobFailed(reason), request=self._request)
        self._request.send_event("task-retried", exception=reason, traceback=None)


def free_frames(retval: Any = None, **_: Any) -> None:
    """Let go of the call stack of a job that raised; a receiver of Celery's `task_postrun`.

    Celery's frame holds the exception, which holds that frame: message, request and a copy of the stack, some 200 KiB
    for each failed job, would stay until Python looks for such circles, which it does the later the larger it is.
    """
    if isinstance(retval, BaseException):
        retval.__traceback__ = None


def is_revoking() -> bool:
    """Return whether a revoke that was heard is not in Redis yet."""
    return any(thread.name == _REVOKE for thread in threading.enumerate())


def revoke_command(cancel: Callable[[Sequence[str], str], object]) -> Callable[..., dict[str, str]]:
    """Return what answers `app.control.revoke` from any Celery client: the same as a cancel, terminate or not.

    Runs in the event loop, so that Redis is asked in a thread. Every worker hears it; saying it often is harmless.
    """

    def revoke(state: Any, task_id: Any, **_options: Any) -> dict[str, str]:
        try:
            job_ids = [kinds.parse_job_id(job_id) for job_id in ([task_id] if isinstance(task_id, str) else task_id)]
        except (TypeError, ValueError) as exc:
            return {"error": f"revoke is refused: {exc}"}
        threading.Thread(target=cancel, args=(job_ids, "revoked by a Celery client"), daemon=True, name=_REVOKE).start()
        return {"ok": f"cancelling {job_ids[0] if len(job_ids) == 1 else wording.counted(len(job_ids), 'job')}"}

    return revoke
