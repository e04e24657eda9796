"""The containers that an earlier process or attempt left of a job, whatever their names are by now.

Owns where a job's container is looked for: an administrator may rename it, remove it, or make an image of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from celery_docker import errors
from celery_docker.core import container
from celery_docker.core.container import Container, Listed
from celery_docker.run.job import Job
from celery_docker.run.ports import Engine
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lookup:
    """Looks for containers of jobs on one host, from any thread."""

    engine: Engine
    host: str
    retrying: Retrying

    def of_this_attempt(self, job: Job) -> Container | None:
        """Return the container to adopt; None if none was made yet.

        Raises `ContainerGone` if somebody has removed it: the job has run, or may have.
        """
        # The id in the record comes first. For instance, with a handover of the worker:
        #   worker  starts container c1 as run-ID, and writes c1 into the record
        #   admin   docker rename run-ID x
        #   worker  exits; the next one looks for run-ID: there is none, and a second run would begin
        #   worker  looks for c1 instead, and follows x
        container_id = job.claim.container_id
        if container_id is not None:
            existing = self._inspected(container_id)
            if existing is not None:
                return existing
        rows = self._labelled(job)
        if rows:
            return self._inspected(max(rows, key=lambda row: row.created_at).container_id)
        if container_id is not None:
            raise errors.ContainerGone
        return self._inspected(container.name_of(job.job_id))

    def own(self, job: Job, container_id: str) -> str | None:
        """Return the id of a container that a record names, if it is one of this job; None for any other."""
        existing = self._inspected(container_id)
        is_own = existing is not None and existing.labels.get(container.LABEL_JOB) == job.job_id
        return existing.container_id if existing is not None and is_own else None

    def remove_renamed(self, job: Job) -> None:
        """Remove what an earlier attempt left under another name; under its own it is in the way, and seen then."""
        for row in self._labelled(job) if job.attempt.number > 1 else ():
            if row.name != container.name_of(job.job_id):
                log.info("container %s is of an earlier attempt: removed", row.name, extra={"job": job.job_id})
                self.engine.remove(row.container_id)

    def _labelled(self, job: Job) -> Sequence[Listed]:
        labels = {container.LABEL_JOB: job.job_id, container.LABEL_HOST: self.host}
        return self.retrying.until_answered(lambda: self.engine.containers(labels))

    def _inspected(self, name: str) -> Container | None:
        return self.retrying.until_answered(lambda: self.engine.inspect(name))
