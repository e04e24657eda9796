"""The meaning of the end of a job's container: the facts are asked of Docker here, and `lifecycle` decides.

Invariant: an end is judged by what Docker says once it answers, never by its silence.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime

from celery_docker import errors
from celery_docker.core import container, lifecycle
from celery_docker.core.container import Container, End
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, DockerProcess, EndRequest, Outcome
from celery_docker.core.policy import Policy
from celery_docker.run.job import Job, timeout_request
from celery_docker.run.ports import Engine
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)

# `docker restart` is a stop and a start; nothing tells that the second is still to come.
_RESTART_S, _LOOK_S = 3.0, 0.2


@dataclass(frozen=True)
class Endings:
    """Judges the ends of containers on one host, from any thread."""

    engine: Engine
    policy: Policy
    boot_id: str
    retrying: Retrying

    def outcome(self, job: Job, container_id: str, end: End, *, watched: bool) -> Outcome | None:
        """Return what the end of a job's container means; None if somebody else has started it again.

        `watched`: Docker answered all the time, and was listened to. Raises `ContainerGone` if nothing is left to tell.
        """
        existing = self._ended(job, container_id, end)
        if existing is not None and existing.status in container.ALIVE:
            return None
        exit_code, oom_killed = end.exit_code, None
        if existing is not None:
            exit_code, oom_killed = existing.exit_code, existing.oom_killed
            job.image_id = existing.image_id
            job.attempt.image_digest = self.retrying.until_answered(
                lambda: self.engine.digest(existing.image_id, job.spec.image if job.spec else "")
            )
            job.attempt.started_at, job.attempt.finished_at = existing.started_at, existing.finished_at
            job.started_again = job.started_again or _is_later(existing.started_at, job.started_by)
        if exit_code is None:
            raise errors.ContainerGone
        # Docker hears of it by an event, and on a busy machine too late; the kernel has counted it.
        oom_killed = self.engine.usage(container_id).oom_killed or oom_killed
        docker = DockerProcess.STAYED if exit_code == 0 else self._docker_meanwhile(job, container_id, watched)
        if existing is None and exit_code != 0 and not job.stopped and self._was_signalled(container_id):
            raise errors.ContainerGone
        outlives_docker = docker is not DockerProcess.STAYED and self._outlives_docker(existing)
        outcome = lifecycle.outcome_of_exit(
            exit_code,
            oom_killed,
            self._limit(job),
            docker=docker,
            outlives_docker=outlives_docker,
            engine=self.engine.name,
            was_signalled=exit_code == lifecycle.KILLED_EXIT and self._was_signalled(container_id),
        )
        request = job.end_request if job.stopped else _unfinished(job, outcome)
        if request is not None:
            return lifecycle.outcome_of_end_request(outcome, request)
        return lifecycle.with_remark(outcome, _remark(job, existing))

    def outcome_when_gone(self, job: Job) -> Outcome:
        """Return what it means that somebody else has removed a job's container, and nobody has seen its end."""
        if job.stopped and job.end_request is not None:
            return Outcome(job.end_request.cause, job.end_request.reason)
        return Outcome(Cause.ERROR, str(errors.ContainerGone()))

    def _ended(self, job: Job, container_id: str, end: End) -> Container | None:
        """Return the container as it is once it does not run any more, or runs again because somebody else wished it.

        An end by somebody else's signal is looked at for a moment: it may be the first half of a restart.
        """
        existing = self.retrying.until_answered(lambda: self.engine.inspect(container_id))
        if existing is not None and existing.restarts and existing.status in container.ALIVE:
            return self._held(job, existing, end)
        if existing is None or existing.exit_code in (None, 0) or job.stopped or not self._was_signalled(container_id):
            return existing
        for _ in range(round(_RESTART_S / _LOOK_S)):
            self.retrying.sleep(_LOOK_S)
            existing = self.retrying.until_answered(lambda: self.engine.inspect(container_id))
            if existing is None or existing.status in container.ALIVE:
                break
        return existing

    def _held(self, job: Job, existing: Container, end: End) -> Container:
        """Keep Docker from starting a container over and over, as somebody else has told it; its first end counts."""
        log.warning(
            "somebody has told %s to restart container %s after its end: it is stopped, its first end counts",
            *(self.engine.name, existing.container_id[:12]),
            extra={"job": job.job_id},
        )
        self.retrying.until_answered(lambda: self.engine.stop(existing.container_id, grace_s=0))
        job.started_again = True
        return replace(existing, status=container.Status.EXITED, exit_code=end.exit_code, oom_killed=None)

    def _was_signalled(self, container_id: str) -> bool:
        return container.was_signalled(self.retrying.until_answered(lambda: self.engine.remembered(container_id)))

    def _docker_meanwhile(self, job: Job, container_id: str, watched: bool) -> DockerProcess:
        # A Docker that goes down stops its containers first, and answers about them to the last, but no new caller:
        #   Docker     gets SIGTERM, and sends one to the container
        #   container  ends with exit code 143, which looks like an end of its own
        #   worker     inspects it over a connection that is open: "exited, 143"; nothing says why
        #   worker     pings over a new connection: no answer, until the next Docker is there
        #   worker     asks which Docker that is: another one, so the end is the host's doing: a retry
        self.retrying.until_answered(self.engine.ping)
        if self.retrying.until_answered(self.engine.life) != job.docker_life:
            return DockerProcess.WENT
        if watched or container.ended_by_itself(
            self.retrying.until_answered(lambda: self.engine.remembered(container_id))
        ):
            return DockerProcess.STAYED
        return DockerProcess.UNKNOWN

    def _outlives_docker(self, existing: Container | None) -> bool:
        """True if no end of Docker can have ended a container, nor an end of this host."""
        started_in_this_boot = existing is not None and existing.labels.get(container.LABEL_BOOT) == self.boot_id
        return started_in_this_boot and self.retrying.until_answered(self.engine.has_live_restore)

    def _limit(self, job: Job) -> lifecycle.MemoryLimit | None:
        rules = job.rules or self.policy
        size = (job.spec.memory if job.spec else None) or rules.usual_memory_bytes
        return lifecycle.MemoryLimit(size, is_fixed=size == rules.limits.memory_bytes) if size else None


def _is_later(moment: datetime | None, other: datetime | None) -> bool:
    return moment is not None and other is not None and moment > other


def _remark(job: Job, existing: Container | None) -> str:
    """Return what somebody else did to a job's container, for the outcome's reason; empty if nothing."""
    if existing is None:
        return "its container was removed by somebody else at its end"
    return "its container was started again by somebody else" if job.started_again else ""


def _unfinished(job: Job, outcome: Outcome) -> EndRequest | None:
    """Return the end request that an earlier process had begun to carry out; this one found the container ended."""
    if job.claim.verdict is not Verdict.ADOPT or outcome.succeeded:
        return None
    if job.end_request is not None and job.end_request.cause is Cause.CANCELLED:
        return job.end_request
    timeout_s = job.spec.timeout if job.spec else None
    if timeout_s is not None and (job.attempt.run_s or 0) >= timeout_s:
        return timeout_request(timeout_s)
    if job.was_signalled:
        return EndRequest(Cause.INTERRUPTED, "its container was stopped before this worker took it over")
    return None
