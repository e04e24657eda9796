"""The jobs that hold a slot on this host; for any thread.

Invariant: a job holds one slot at most. Its place is reserved before its claim is asked of Redis, so that a second
delivery is seen even while the first waits for the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Condition

from celery_docker.run.job import Job


@dataclass
class SlotTable:
    """Jobs by id: None while a claim is under way; one that is leaving is given back and about to free its slot."""

    _jobs: dict[str, Job | None] = field(default_factory=dict)
    _leaving: set[str] = field(default_factory=set)
    _changed: Condition = field(default_factory=Condition)

    def reserve(self, job_id: str, *, leaving: bool = False) -> bool:
        """Make room for a job, once an earlier run of it that is leaving has left; False if it holds a slot here.

        With `leaving` the place is about to be free again from the start.
        """
        with self._changed:
            # A job that was given back may come again before its slot is free: that is no second delivery.
            self._changed.wait_for(lambda: job_id not in self._leaving)
            if job_id in self._jobs:
                return False
            self._jobs[job_id] = None
            if leaving:
                self._leaving.add(job_id)
            return True

    def put(self, job: Job) -> None:
        """Fill the place that was reserved for a job."""
        with self._changed:
            self._jobs[job.job_id] = job

    def leave(self, job: Job) -> bool:
        """Mark a job as leaving; False if it is marked already, or holds no slot here."""
        with self._changed:
            if self._jobs.get(job.job_id) is not job or job.job_id in self._leaving:
                return False
            self._leaving.add(job.job_id)
            return True

    def free(self, job_id: str) -> None:
        """Free the slot of a job, or the place that was reserved for it."""
        with self._changed:
            self._jobs.pop(job_id, None)
            self._leaving.discard(job_id)
            self._changed.notify_all()

    def find(self, job_id: str) -> Job | None:
        """Return the job if it holds a slot."""
        with self._changed:
            return self._jobs.get(job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs that hold a slot now."""
        with self._changed:
            return [job for job in self._jobs.values() if job is not None]

    def job_ids(self) -> set[str]:
        """Return the ids of the jobs that hold a slot or a reserved place."""
        with self._changed:
            return set(self._jobs)

    @property
    def is_claiming(self) -> bool:
        """True while it is open whether a message becomes a job of this host."""
        with self._changed:
            return any(job is None for job in self._jobs.values())
