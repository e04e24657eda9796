"""The time in which a job's container runs: its output is read to the end, and then its end is judged.

Invariant: no byte that Docker still has is left out, and an end counts only once Docker has told it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from celery_docker import errors
from celery_docker.core.container import End
from celery_docker.core.lifecycle import Cause, Outcome
from celery_docker.run.ending import Endings
from celery_docker.run.job import Job, grace_s
from celery_docker.run.outputreader import OutputReader
from celery_docker.run.ports import Engine, LogFile, LogStream
from celery_docker.run.retrying import Retrying

log = logging.getLogger(__name__)

# Docker takes a moment from the end of a container's streams to its end.
_LINGER_S = 60
# The same where Docker has gone meanwhile, and its streams with it: the end is known already, or the container runs on.
_AFTER_CUT_S = 1


@dataclass(frozen=True)
class Following:
    """Follows containers on one host, from any thread."""

    engine: Engine
    reading: OutputReader
    endings: Endings
    retrying: Retrying

    def follow(
        self, job: Job, container_id: str, stream: LogStream, files: LogFile, *, watched: bool, complete: bool
    ) -> Outcome:
        """Read a container's output to its end. `complete` says that the stream has all of it once it has ended."""
        # The race that the loop is for:
        #   container  prints line 1; it is read, and goes to the files and the tail
        #   Docker     is restarted, and with live-restore the container goes on: only the stream ends
        #   container  prints line 2, which reaches Docker's own log only
        #   worker     asks whether it has ended: no; replays that log after the bytes of line 1, and reads line 2
        try:
            self.reading.read(job, stream, files)
            while True:
                while (end := self._ended(job, container_id)) is None:
                    # Its streams ended and it did not, or Docker was away and may have cut them. Docker's own log of it
                    # is complete: go on from the byte we have.
                    watched = complete = False
                    self.reading.note_break(job, files)
                    self.reading.go_on(job, container_id, files)
                if not complete or self._is_cut(job):
                    complete = False
                    # Docker may end a replay of a running container before a last line without its end.
                    self.reading.go_on(job, container_id, files)
                outcome = self.endings.outcome(job, container_id, end, watched=watched)
                if outcome is not None:
                    if complete and job.started_again:
                        # What was attached to ended with the first run.
                        self.reading.go_on(job, container_id, files)
                    return outcome
                log.warning(
                    "somebody else has started container %s again: it is followed",
                    container_id[:12],
                    extra={"job": job.job_id},
                )
                job.started_again = True
                self.engine.watch_usage(container_id)
                watched = complete = False
                self.reading.note_break(job, files)
                self.reading.go_on(job, container_id, files)
        except errors.LogError as exc:
            return self.give_up(job, container_id, exc, watched=watched)

    def give_up(self, job: Job, container_id: str, exc: errors.LogError, *, watched: bool) -> Outcome:
        """Stop a container whose output can be kept no longer, and return what is known of it."""
        log.error("%s; its container is stopped", exc, extra={"job": job.job_id})
        if isinstance(exc, errors.LogFull):
            self.retrying.on_host_fault(errors.NoSpace(str(exc)))
        self.retrying.until_answered(lambda: self.engine.stop(container_id, grace_s=grace_s(job)))
        outcome = self.endings.outcome(job, container_id, End(), watched=watched)
        return replace(outcome or Outcome(Cause.ERROR), cause=Cause.ERROR, reason=str(exc))

    def _ended(self, job: Job, container_id: str) -> End | None:
        """Wait for a moment for the end of a container whose streams have ended; None if it does not come."""
        return self.engine.ended(container_id, within_s=_AFTER_CUT_S if self._is_cut(job) else _LINGER_S)

    def _is_cut(self, job: Job) -> bool:
        """Return whether the Docker whose log was followed has gone, or may have.

        Behind a socket of systemd's a question waits for the next Docker, which answers as if nothing had been.
        """
        try:
            return self.engine.life() != job.log_life
        except errors.HostError:
            return True
