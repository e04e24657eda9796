"""Containers that run although Docker says that they were never started.

Owns the doubt about a start. Invariant: while processes of a container live, nothing of its job runs beside them, and
a container whose processes were seen is not run again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import container
from celery_docker.core.container import Container, Status, Step
from celery_docker.core.lifecycle import Cause
from celery_docker.run.job import Job
from celery_docker.run.periodic import Periodic
from celery_docker.run.ports import Engine
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)

_LOOK_S = 0.5
# A look reads a file or two of each process of the machine, and there are looks only while Docker is away.
_LOOK_AT_START_S = 0.05


@dataclass(frozen=True)
class Unseen:
    """Looks for processes of containers on one host, from any thread."""

    engine: Engine
    retrying: Retrying

    def start(self, container_id: str) -> None:
        """Start a container. Raises `EndUnseen` if it runs and Docker does not know it, else what the engine does."""
        # The race that the looks are for:
        #   worker      asks Docker to start the container
        #   Docker      has containerd start it, and is killed before it has written that down
        #   containerd  goes on: the container runs
        #   Docker      is started anew, and says that the container was never started
        #   worker      would make another container, and run the job beside it
        try:
            self.engine.start(container_id)
        except errors.HostError as exc:
            has_run = False

            def look() -> None:
                # Two threads look at the end: neither takes back what the other has seen.
                nonlocal has_run
                if self.engine.processes(container_id):
                    has_run = True

            # Behind a socket of systemd's the question waits for the next Docker, as long as a short job runs.
            looks = Periodic("start", _LOOK_AT_START_S, look)
            looks.start()
            try:
                existing = self.retrying.until_answered(lambda: self.engine.inspect(container_id))
            finally:
                looks.stop(wait_s=_LOOK_AT_START_S)
            look()
            if isinstance(exc, errors.EngineAway) and existing is not None and existing.status is not Status.CREATED:
                # The start was heard; only the answer was lost.
                return
            if has_run:
                raise errors.EndUnseen from exc
            raise

    def step(self, existing: Container | None, job: Job) -> Step:
        """Return the next step for a job, from the container that it has."""
        if existing is None:
            return Step.CREATE
        pids = self.engine.processes(existing.container_id) if existing.status is Status.CREATED else ()
        may_have_run = existing.container_id == job.claim.container_id
        return container.next_step(existing, job.attempt.number, has_processes=bool(pids), may_have_run=may_have_run)

    def wait(self, job: Job, container_id: str) -> None:
        """Wait until a container that Docker does not know to run has no processes any more.

        Docker cannot end them. So a job that is to end waits too; a worker that is to stop does not.
        """
        pids = self.engine.processes(container_id)
        if pids:
            log.warning(
                "container %s runs although Docker, which was killed as it started it, says that it never did; "
                "nothing is run beside it; to end it: kill %s",
                *(container_id[:12], " ".join(map(str, pids))),
                extra={"job": job.job_id},
            )
        while self.engine.processes(container_id):
            if job.end_request is not None and job.end_request.cause is Cause.INTERRUPTED:
                raise errors.EndUnseen(f"{errors.EndUnseen()}: its processes still run")
            self.retrying.sleep(_LOOK_S)
