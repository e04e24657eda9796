"""Reads a container's output to log files, receipt and readers, and goes on from the byte it has after an interruption.

Invariant: each byte goes to each of the three once, whatever becomes of Docker; what Docker's log lacks is remembered
with the log files before anything more is read.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass

from celery_docker.core import output, wording
from celery_docker.core.container import Frame
from celery_docker.core.output import Break, Gap
from celery_docker.run.job import Job
from celery_docker.run.ports import Broadcaster, Engine, LogFile, LogStream
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OutputReader:
    """Reads the output of containers on one host, from any thread."""

    engine: Engine
    retrying: Retrying
    broadcast: Broadcaster

    def read(self, job: Job, stream: LogStream, files: LogFile) -> None:
        """Read a stream that begins with the container's first output."""
        self._take(job, output.placed(stream, files.gaps), files)

    def go_on(self, job: Job, container_id: str, files: LogFile) -> None:
        """Read what Docker's own log has beyond the output that was read before."""
        with self.replay(job, container_id, files) as again:
            self._take(job, output.after(output.placed(again, files.gaps), job.tail.byte_counts), files)

    def replay(self, job: Job, container_id: str, files: LogFile) -> LogStream:
        """Open the log of a container for going on with it; what it lacks by then is in the gaps of the files."""
        while True:
            self._look_for_gaps(job, container_id, files)
            stream = self.retrying.until_answered(lambda: self.engine.replay(container_id))
            # The Docker that was asked for gaps may have gone before it was asked for the log.
            if self.retrying.until_answered(self.engine.life) == job.log_life:
                return stream
            stream.close()

    def note_break(self, job: Job, files: LogFile) -> None:
        """Remember how much had been read when Docker went, if it has gone.

        It logs and sends output for up to five seconds after it has begun to go: up to the end of the stream.
        """
        went_at = self.engine.went_at(job.log_life)
        if went_at is not None and files.broken is None:
            files.note_break(Break(max(went_at, job.output_ended_at), dict(job.tail.byte_counts)))

    def _look_for_gaps(self, job: Job, container_id: str, files: LogFile) -> None:
        """Find out what the log lacks where Docker has gone and another follows it, before anything more is read."""
        life = self.retrying.until_answered(self.engine.life)
        if life != job.log_life:
            self.note_break(job, files)
        broken = files.broken
        if broken is not None:
            logged = self.retrying.until_answered(lambda: self.engine.logged(container_id, until=broken.went_at))
            for gap in output.new_gaps(logged, files.gaps, broken.byte_counts) if logged is not None else ():
                size = wording.counted(gap.size, "byte")
                log.info("Docker's log lacks %s of %s", size, gap.stream.name, extra={"job": job.job_id})
                files.add_gap(gap)
            files.note_break(None)
        job.log_life = life

    def _take(self, job: Job, items: Iterable[Frame | Gap], files: LogFile) -> None:
        for item in items:
            if isinstance(item, Gap):
                for copy in (job.tail, files, job.outbox):
                    copy.skip(item)
                continue
            job.tail.add(item)
            files.write(item)
            job.outbox.add(item, keep_all=job.waits_for_readers)
            self.broadcast.keep_up(job)
        job.output_ended_at = time.time()
