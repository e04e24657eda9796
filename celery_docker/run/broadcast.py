"""Telling those who watch what the jobs of this host print, twice a second.

Invariant: no job waits for its readers or fails with them. While Redis is away each job's buffer keeps the last of its
output, which is sent once Redis is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from typing import Protocol

from celery_docker.core.output import Told
from celery_docker.run.job import Job

log = logging.getLogger(__name__)

_EVERY_S = 0.5
# Of each up to `output.LIVE_BYTES`.
_JOBS_AT_ONCE = 16


class Sink(Protocol):
    """Where the output goes."""

    def append(self, told: Sequence[Told]) -> None: ...


class Broadcast:
    """Sends the recent output of jobs, from one thread at a time."""

    def __init__(self, sink: Sink, host: str) -> None:
        self._sink = sink
        self._host = host
        self._sending = Lock()
        self._away = False
        self._stopped = Event()

    def start(self, jobs: Callable[[], Sequence[Job]]) -> None:
        """Send what these jobs print from now on."""
        Thread(target=self._run, args=(jobs,), daemon=True, name="broadcast").start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()

    def last_words(self, job: Job) -> None:
        """Send the rest of a job's output before its end is written, unless Redis did not answer lately."""
        if not self._away:
            self.send([job])

    def send(self, jobs: Sequence[Job]) -> None:
        """Send what these jobs have printed since the last time, or keep it for the next."""
        with self._sending:
            taken = [(job, job.recent.take()) for job in jobs]
            told = [Told(job.job_id, self._host, job.claim.fence, pieces) for job, pieces in taken if pieces]
            if not told:
                return
            try:
                self._sink.append(told)
                self._away = False
            except Exception as exc:  # noqa: BLE001  # no job may fail for its readers, whatever it was
                log.debug("what the jobs print is not shown: %s", exc)
                self._away = True
                for job, pieces in taken:
                    job.recent.put_back(pieces)

    def _run(self, jobs: Callable[[], Sequence[Job]]) -> None:
        while not self._stopped.wait(_EVERY_S):
            now = jobs()
            for first in range(0, len(now), _JOBS_AT_ONCE):
                self.send(now[first : first + _JOBS_AT_ONCE])
                if self._away:
                    break
