"""Telling those who watch what the jobs of this host print, twice a second.

Invariant: no job waits for its readers or fails with them. While Redis is away each job's buffer keeps the last of its
output, which is sent once Redis is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import Protocol

from celery_docker.core.output import Chunk
from celery_docker.run.job import Job
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
# Of each up to `output.LIVE_BYTES`.
_JOBS_AT_ONCE = 16


class Sink(Protocol):
    """Where the output goes."""

    def append(self, told: Sequence[Chunk]) -> None: ...


class Broadcast:
    """Sends the new output of jobs, from one thread at a time."""

    def __init__(self, sink: Sink, host: str, *, interval_s: float = _INTERVAL_S) -> None:
        self._sink = sink
        self._host = host
        self._sending = Lock()
        self._away = False
        self._jobs: Callable[[], Sequence[Job]] = list
        self._loop = Periodic("broadcast", interval_s, self._send_all)

    def start(self, jobs: Callable[[], Sequence[Job]]) -> None:
        """Send what these jobs print from now on."""
        self._jobs = jobs
        self._loop.start()

    def stop(self) -> None:
        """Send no more."""
        self._loop.stop()

    def last_words(self, job: Job) -> None:
        """Send the rest of a job's output before its end is written, unless Redis did not answer lately."""
        if not self._away:
            self.send([job])

    def send(self, jobs: Sequence[Job]) -> None:
        """Send what these jobs have printed since the last time, or keep it for the next."""
        with self._sending:
            taken = [(job, job.outbox.take()) for job in jobs]
            told = [Chunk(job.job_id, self._host, job.claim.fence, pieces) for job, pieces in taken if pieces]
            if not told:
                return
            try:
                self._sink.append(told)
                self._away = False
            except Exception as exc:  # noqa: BLE001  # no job may fail for its readers, whatever it was
                log.debug("what the jobs print is not shown: %s", exc)
                self._away = True
                for job, pieces in taken:
                    job.outbox.put_back(pieces)

    def _send_all(self) -> None:
        jobs = self._jobs()
        for first in range(0, len(jobs), _JOBS_AT_ONCE):
            self.send(jobs[first : first + _JOBS_AT_ONCE])
            if self._away:
                break
