"""Duties of a worker besides running jobs: small things, over and over, each in a thread of its own.

Nothing here may live in Celery's event loop, which stands still while it reconnects and while the pool drains.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Thread
from typing import Protocol

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core import hoststate, wording
from celery_docker.core.hoststate import Phase
from celery_docker.core.jobrecord import TO_END_AT_ONCE, JobToEnd
from celery_docker.core.journal import JournalEvent
from celery_docker.core.lifecycle import EndRequest, State
from celery_docker.core.outlook import Outlook
from celery_docker.host import systemd
from celery_docker.run.job import Job, timeout_request
from celery_docker.run.periodic import Periodic
from celery_docker.run.runner import Runner

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_RELEASE_EVERY_S = 5.0
_REPAIR_EVERY_S = 60.0
_CLEAN_EVERY_S = 3600.0
# A sample is taken so late in its five minutes at most.
_SAMPLE_EVERY_S = 20.0
_STATUS_EVERY_S = 1.0
# Most jobs that end sooner are retried by their own host, which knows what they ran.
_NOTE_EVERY_S = 3.0
_END_EVERY_S = 1.0
# Where a look wakes the duty.
_RARELY_S = 60.0
# The longest time for which the end of thousands of queued jobs waits for slots that are busy.
_SLOTS_FIRST_S = 5.0
_PAUSE_S = 0.02
_EXTENSION_US = 30_000_000
# In the words of sd_notify(3).
_READINESS: dict[Phase, dict[str, int]] = {
    Phase.STARTING: {},
    Phase.SERVING: {"READY": 1},
    Phase.STOPPING: {"STOPPING": 1},
}
_NAMED_JOBS = 3
_NAME_LENGTH = 8


# Ends queued jobs and returns how many; the second argument says that more of them are to come.
EndQueued = Callable[[Sequence[JobToEnd], bool], int]


class Housekeeping(Protocol):
    """The questions to the job records."""

    def now(self) -> float: ...
    def look(self, host: str) -> Outlook: ...
    def publish_due(self, now: float) -> int: ...
    def expire_due(self, now: float) -> int: ...
    def republish(self, before: float) -> int: ...
    def release_held(self) -> int: ...
    def keep_lists(self, now: float) -> None: ...
    def keep_history(self, now: float) -> bool: ...
    def forget_expired(self, before: float) -> int: ...
    def repair(self) -> Sequence[str]: ...
    def end_requests(self, host: str) -> Sequence[JobToEnd]: ...


def _nothing(_outlook: Outlook) -> None: ...


class Duties:
    """The background threads of one worker; `start` once, `stop` once."""

    def __init__(
        self,
        runner: Runner,
        records: Housekeeping,
        intake: Intake,
        *,
        host: str,
        slots: int,
        retention_s: int,
        environ: Mapping[str, str],
        end_queued: EndQueued,
        scarce: Callable[[], str] = str,
        heed: Callable[[Outlook], object] = _nothing,
    ) -> None:
        self._runner = runner
        self._records = records
        self._intake = intake
        self._host = host
        self._slots = slots
        self._retention_s = retention_s
        self._environ = environ
        self._end_queued = end_queued
        self._scarce = scarce
        self._heed = heed
        self._looking = Periodic("looking", _LOOK_EVERY_S, self._look, first_s=_LOOK_EVERY_S)
        self._ending = Periodic("end requests", _RARELY_S, self._carry_out_end_requests)
        self._loops: list[Periodic] = []
        self._being_ended: set[str] = set()
        self._phase = Phase.STARTING
        self._reported = ""
        self._redis_fault = ""

    def start(self) -> None:
        """Start a loop for each duty."""
        self._loops = [Periodic(name, interval_s, action) for name, interval_s, action in self._duties()]
        self._loops += [self._looking, self._ending]
        # Before the first job is taken: this host may be drained.
        self._looking.take_turn()
        for loop in self._loops:
            loop.start()

    def _duties(self) -> Iterator[tuple[str, float, Callable[[], object]]]:
        yield "republishing", _REPAIR_EVERY_S, self._republish
        yield "releasing", _RELEASE_EVERY_S, self._records.release_held
        yield "lists", _REPAIR_EVERY_S, self._keep_lists
        yield "history", _SAMPLE_EVERY_S, self._keep_history
        yield "cleaning", _CLEAN_EVERY_S, self._clean
        yield "images of jobs", _NOTE_EVERY_S, self._note_images
        yield "status", _STATUS_EVERY_S, self._report
        yield "timeouts", _END_EVERY_S, self._end_timed_out
        watchdog_s = systemd.watchdog_interval_s(self._environ)
        if watchdog_s is not None:
            yield "watchdog", watchdog_s, self._feed_watchdog

    def _republish(self) -> None:
        for key in self._records.repair():
            log.error("the key %s held something else than it should; it is kept as %s:broken", key, key)
        self._records.republish(self._records.now() - _REPAIR_EVERY_S)

    def _keep_lists(self) -> None:
        self._records.keep_lists(self._records.now())

    def _keep_history(self) -> None:
        self._records.keep_history(self._records.now())

    def _clean(self) -> None:
        self._records.forget_expired(self._records.now() - self._retention_s)

    def _feed_watchdog(self) -> None:
        systemd.notify(self._environ, WATCHDOG=1, **_READINESS[self._phase])

    def serving(self) -> None:
        """Say that the worker consumes now."""
        self._phase = Phase.SERVING
        self._report()

    def stopping(self) -> None:
        """Say that the worker takes no more jobs."""
        self._phase = Phase.STOPPING
        self._report()

    @property
    def phase(self) -> Phase:
        """The worker's phase: serving from the first message that may be taken to the beginning of its stop."""
        return self._phase

    @property
    def is_accepting(self) -> bool:
        """True if nothing keeps this host from taking jobs."""
        return not self._reason

    @property
    def _reason(self) -> str:
        return "; ".join(filter(None, (self._redis_fault, self._intake.reason)))

    @property
    def is_serving(self) -> bool:
        """True from the first message that may be taken to the order to stop."""
        return self._phase is Phase.SERVING

    def extend_stop(self) -> None:
        """Ask systemd for more time than the unit's TimeoutStopSec, which it may not have in mind."""
        systemd.notify(self._environ, EXTEND_TIMEOUT_USEC=_EXTENSION_US)

    def stop(self) -> None:
        """End every loop after its turn."""
        for loop in self._loops:
            loop.stop()

    def _report(self) -> None:
        """Tell systemd what has changed; what it could not be told now is told at the next turn."""
        status, ready = self.status, _READINESS[self._phase]
        if ready and status != self._reported and systemd.notify(self._environ, STATUS=status, **ready):
            self._reported = status

    def _look(self) -> None:
        """Ask what there is to do, and do it or wake who does; every second, so that it shows if Redis is there."""
        try:
            outlook = self._records.look(self._host)
            self._heed(outlook)
            if outlook.has_end_requests:
                self._ending.wake()
            if outlook.is_due:
                self._records.publish_due(outlook.now)
            if outlook.has_expired:
                self._records.expire_due(outlook.now)
        except (errors.StoreAway, errors.StoreRefused) as exc:
            if not self._redis_fault:
                log.warning(
                    "takes no jobs: %s; %s",
                    *(exc, _running(len(self._runner.jobs()))),
                    extra={"event": JournalEvent.INTAKE_CLOSED},
                )
            self._redis_fault = str(exc)
        else:
            if self._redis_fault:
                log.info("Redis answers again", extra={"event": JournalEvent.INTAKE_OPEN})
            self._redis_fault = ""

    def _carry_out_end_requests(self) -> None:
        """End the jobs with an end request: those in a slot of this host, and those that no host has.

        Thousands of the latter are ended portion by portion; the former are looked for again before each.
        """
        left_s = _SLOTS_FIRST_S
        while self._end_some():
            left_s -= self._let_slots_go_first(min(left_s, _END_EVERY_S))

    def _let_slots_go_first(self, longest_s: float) -> float:
        """Wait while a slot has more to do than to follow a container, or drops messages; return how long."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < longest_s:
            if not self._intake.is_dropping and all(job.is_followed for job in self._runner.jobs()):
                break
            time.sleep(_PAUSE_S)
        return time.monotonic() - began_s

    def _end_some(self) -> bool:
        """End what is listed now; return True if there are more jobs that no host has."""
        queued = []
        listed = self._records.end_requests(self._host)
        for job_to_end in listed:
            job = self._runner.find(job_to_end.job_id)
            if job is not None and job.end_request is None:
                self._end(job, job_to_end.request)
            elif job is None and job_to_end.state == State.QUEUED and self.is_serving:
                queued.append(job_to_end)
        more = len(listed) >= TO_END_AT_ONCE
        return bool(self._end_queued(queued, more)) and more

    def _end_timed_out(self) -> None:
        """End the jobs that have run for longer than they asked for."""
        for job in self._runner.jobs():
            if job.end_request is None and job.deadline_s is not None and time.monotonic() > job.deadline_s:
                self._end(job, timeout_request(job.spec.timeout if job.spec and job.spec.timeout else 0))

    def _end(self, job: Job, request: EndRequest) -> None:
        # Its container may take its grace to end, and before that, where Docker is away, as long as it likes to start.
        if job.job_id not in self._being_ended:
            self._being_ended.add(job.job_id)
            Thread(target=self._end_at_last, args=(job, request), daemon=True).start()

    def _end_at_last(self, job: Job, request: EndRequest) -> None:
        try:
            self._runner.end(job, request)
        finally:
            self._being_ended.discard(job.job_id)

    @property
    def status(self) -> str:
        """The state of the worker in one line for people."""
        jobs = self._runner.jobs()
        if self._phase is Phase.STOPPING:
            return f"{hoststate.STOPPING}: waiting for {_named(jobs)}, taking no more"
        if reason := self._reason:
            return f"{hoststate.TAKES_NO_JOBS}: {reason}; {_running(len(jobs))}"
        slots = f"{_running(len(jobs))}, {max(self._slots - len(jobs), 0)} of {self._slots} slots free"
        little = self._scarce() if len(jobs) < self._slots else ""
        return f"{slots}; little room: {little}" if little else slots

    def _note_images(self) -> None:
        """Have the records of running jobs say which images they run, once each."""
        for job in self._runner.jobs():
            with contextlib.suppress(errors.CeleryDockerError):  # another host's job, or Redis is away: for later
                self._runner.note_image(job)


def _running(count: int) -> str:
    return f"{wording.counted(count, 'job')} running"


def _named(jobs: Sequence[Job]) -> str:
    """Return how many jobs run, and the beginnings of some of their ids."""
    count = wording.counted(len(jobs), "running job")
    names = [job.job_id[:_NAME_LENGTH] for job in jobs[:_NAMED_JOBS]] + ["..."] * (len(jobs) > _NAMED_JOBS)
    return f"{count} ({', '.join(names)})" if jobs else count
