"""Submitting jobs from Python: needs Redis, neither Celery nor Docker.

Owns what a submitter does: the record is written before a worker can see the message, in one step.
"""

from __future__ import annotations

import os
import socket
import uuid

from celery_docker import jobspec, message, store


class Client:
    """A submitter. `url` is the broker's, as in CELERY_DOCKER_BROKER_URL."""

    def __init__(self, url: str) -> None:
        self._store = store.connect(url)

    def submit(
        self,
        spec: jobspec.JobSpec,
        *,
        queue: str = jobspec.DEFAULT_QUEUE,
        priority: int = 0,
        expires_s: float | None = None,
    ) -> str:
        """Queue a job and return its id; priority 0 is served first, 9 last.

        A job that no host could start within `expires_s` seconds ends as `expired`.

        Raises `StoreAway` if Redis does not answer and `StoreRefused` if it does not let us in.
        """
        job_id = str(uuid.uuid4())
        kwargs = spec.to_kwargs()
        envelope = message.task_message(
            job_id,
            kwargs,
            queue=queue,
            tag=str(uuid.uuid4()),
            origin=f"{os.getpid()}@{socket.gethostname()}",
            priority=priority,
        )
        target = message.queue_key(queue, priority)
        self._store.submit(job_id, queue=target, envelope=envelope, spec=kwargs, expires_s=expires_s)
        return job_id

    def cancel(self, job_id: str, *, reason: str = "") -> str:
        """End a job wherever it is: queued, waiting for a retry or running; return the state it was in.

        The mark is in Redis when this returns; the job is cancelled once its container is gone. One that has ended
        stays as it is. `unknown` means that there is no record: nothing will run under this id.

        Raises `StoreAway` if Redis does not answer and `StoreRefused` if it does not let us in.
        """
        jobspec.check_job_id(job_id)
        return self._store.cancel(job_id, reason=reason or f"cancelled from host {socket.gethostname()}")

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
