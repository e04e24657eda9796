"""Sends the output of this host's jobs to Redis, for those who read it from elsewhere.

Twice a second the loop sends the new output of each job; while Redis is away the outbox of each keeps the last of it. A
job with readers sends from its own slot as well, and reads no more of its container's output until that was stored: a
slow reader slows it, as a pipe does. Invariant: no job fails with its readers, and it waits for none that gives no sign
of life, nor once it is to end.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Event
from typing import Protocol

from celery_docker.core.output import Beginning, Chunk, Reply
from celery_docker.run.job import Job
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_INTERVAL_S = 0.5
# Until a slot looks again whether its readers have caught up, or Redis is back.
_PAUSE_S = 0.05
_AWAY_PAUSE_S = 0.5
# Of each up to `output.LIVE_BYTES`.
_JOBS_AT_ONCE = 16


class Sink(Protocol):
    """Where the output goes."""

    def append(self, chunks: Sequence[Chunk]) -> Sequence[Reply]: ...
    def beginning(self, job_id: str, attempt: int) -> Beginning: ...
    def readers(self) -> Mapping[str, Mapping[str, str]]: ...


class Broadcast:
    """Sends the new output of jobs, from any thread."""

    def __init__(self, sink: Sink, host: str, *, interval_s: float = _INTERVAL_S) -> None:
        self._sink = sink
        self._host = host
        self._away = False
        self._stopped = Event()
        self._jobs: Callable[[], Sequence[Job]] = list
        self._loop = Periodic("broadcast", interval_s, self._send_all)

    def start(self, jobs: Callable[[], Sequence[Job]]) -> None:
        """Send what these jobs print from now on."""
        self._jobs = jobs
        self._loop.start()

    def stop(self) -> None:
        """Send no more."""
        self._stopped.set()
        self._loop.stop()

    def begin(self, job: Job) -> None:
        """Ask before a job's first output who reads it, and what of it Redis has already."""
        with self._attempted(), job.outbox.sending:
            beginning = self._sink.beginning(job.job_id, job.attempt.number)
            job.outbox.begin_after(beginning.sent)
            job.readers.hear(beginning.signs, time.monotonic())

    def keep_up(self, job: Job) -> None:
        """Return once a job may print more: at once, unless its readers have to catch up."""
        while job.outbox.is_full and job.waits_for_readers and not self._stopped.is_set():
            self.send([job])
            if job.outbox.is_full:
                self._stopped.wait(_AWAY_PAUSE_S if self._away else _PAUSE_S)

    def last_words(self, job: Job) -> None:
        """Send the rest of a job's output before its end is written, unless Redis did not answer lately."""
        # The loop may have taken the rest, to give it back as the readers are behind: only while nobody else sends it
        # shows whether nothing is left.
        while job.waits_for_readers and not self._stopped.is_set():
            if self.send([job]):
                return
            self._stopped.wait(_AWAY_PAUSE_S if self._away else _PAUSE_S)
        if not self._away:
            self.send([job])

    def send(self, jobs: Sequence[Job]) -> bool:
        """Send what these jobs have printed since the last time, or keep it for the next; return whether all was sent.

        A single job is waited for where somebody else sends of it, and is passed over among others.
        """
        with contextlib.ExitStack() as held:
            free = [job for job in jobs if job.outbox.sending.acquire(blocking=len(jobs) == 1)]
            for job in free:
                held.callback(job.outbox.sending.release)
            return self._send(free)

    def _send(self, jobs: Sequence[Job]) -> bool:
        taken = [(job, pieces) for job in jobs if (pieces := job.outbox.take())]
        if not taken:
            return True
        is_all_sent = True
        chunks = [
            Chunk(job.job_id, self._host, job.claim.fence, pieces, tuple(job.readers.gone)) for job, pieces in taken
        ]
        replies: Sequence[Reply] = ()
        with self._attempted():
            replies = self._sink.append(chunks)
        now_s = time.monotonic()
        for number, (job, pieces) in enumerate(taken):
            reply = replies[number] if replies else None
            if reply is None:
                job.readers.miss(now_s)
            else:
                job.readers.hear(reply.signs, now_s)
            if reply is None or reply.is_full:
                job.outbox.put_back(pieces, keep_all=job.waits_for_readers)
                is_all_sent = False
        return is_all_sent

    @contextlib.contextmanager
    def _attempted(self) -> Iterator[None]:
        try:
            yield
            self._away = False
        except Exception as exc:  # noqa: BLE001  # no job may fail for its readers, whatever it was
            log.debug("what the jobs print is not shown: %s", exc)
            self._away = True

    def _send_all(self) -> None:
        jobs = self._jobs()
        self._look_for_readers(jobs)
        for first in range(0, len(jobs), _JOBS_AT_ONCE):
            self.send(jobs[first : first + _JOBS_AT_ONCE])
            if self._away:
                break

    def _look_for_readers(self, jobs: Sequence[Job]) -> None:
        signs: Mapping[str, Mapping[str, str]] = {}
        if jobs:
            with self._attempted():
                signs = self._sink.readers()
        for job in jobs if signs else ():
            if job.job_id in signs and job.outbox.sending.acquire(blocking=False):
                try:
                    job.readers.hear(signs[job.job_id], time.monotonic())
                finally:
                    job.outbox.sending.release()
