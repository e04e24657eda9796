"""The meaning of the end of a job's container: the facts are asked of Docker here, and `lifecycle` decides.

Invariant: an end is judged by what Docker says once it answers, never by its silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import container, lifecycle
from celery_docker.core.container import Container
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Cause, DockerProcess, EndRequest, Outcome
from celery_docker.core.policy import Policy
from celery_docker.run.job import Job, timeout_request
from celery_docker.run.ports import Engine
from celery_docker.run.retrying import Retrying


@dataclass(frozen=True)
class Endings:
    """Judges the ends of containers on one host, from any thread."""

    engine: Engine
    policy: Policy
    boot_id: str
    retrying: Retrying

    def outcome(self, job: Job, container_id: str, *, watched: bool) -> Outcome:
        """Return what the end of a job's container means; `watched`: Docker answered all the time, and was listened to.

        Raises `ContainerGone` if nothing is left to tell.
        """
        ended = self.retrying.until_answered(lambda: self.engine.inspect(container_id))
        if ended is None or ended.exit_code is None:
            raise errors.ContainerGone
        job.attempt.image_digest = self.retrying.until_answered(lambda: self.engine.digest(ended.image_id))
        job.attempt.started_at, job.attempt.finished_at = ended.started_at, ended.finished_at
        docker = DockerProcess.STAYED if ended.exit_code == 0 else self._docker_meanwhile(job, container_id, watched)
        outlives_docker = docker is not DockerProcess.STAYED and self._outlives_docker(ended)
        outcome = lifecycle.outcome_of_exit(
            ended.exit_code, ended.oom_killed, self._limit(job), docker=docker, outlives_docker=outlives_docker
        )
        request = job.end_request if job.stopped else _unfinished(job, outcome)
        return outcome if request is None else lifecycle.outcome_of_end_request(outcome, request)

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

    def _outlives_docker(self, ended: Container) -> bool:
        """True if no end of Docker can have ended a container, nor an end of this host."""
        started_in_this_boot = ended.labels.get(container.LABEL_BOOT) == self.boot_id
        return started_in_this_boot and self.retrying.until_answered(self.engine.has_live_restore)

    def _limit(self, job: Job) -> lifecycle.MemoryLimit | None:
        own_bytes = job.spec.memory if job.spec else None
        size = own_bytes or self.policy.limits.memory_bytes
        return lifecycle.MemoryLimit(size, own_bytes is not None) if size else None


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
