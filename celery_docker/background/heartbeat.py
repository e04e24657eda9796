"""This host among the others: it sends heartbeats, and takes over the jobs of those that have fallen silent.

Invariant: no host takes over whose own heartbeats have not all worked for as long as it takes to be lost;
and a host that was away looks for jobs that it has lost before it takes over others.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from threading import Thread
from typing import Any, Protocol

from celery_docker import errors
from celery_docker.core import hostloss, journal
from celery_docker.core.hostloss import Beat, Loss, Silence, Streak, Takeover
from celery_docker.core.jobrecord import Ownership
from celery_docker.core.journal import JobFacts, JournalEvent
from celery_docker.run.job import Job
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_BEAT_EVERY_S = 5.0
# The jobs in hand are looked at at every so many heartbeats, without a reason too.
_LOOK_EVERY = 12
# If the host that takes over dies, another may take its place after this time.
_TAKEOVER_LOCK_S = 20
_LEAVE_TIMEOUT_S = 20.0
_ARRIVE_PAUSE_S = 1.0
_ARRIVE_TRIES = 40


class Hosts(Protocol):
    """The questions to the list of hosts."""

    def beat(self, host: str, *, machine: str, about: Mapping[str, Any]) -> Beat: ...
    def leave(self, host: str) -> bool: ...
    def hold(self, host: str, *, for_s: int) -> bool: ...
    def silent(self, *, now: float, for_s: float) -> Sequence[Silence]: ...
    def recall(self, *, now: float) -> None: ...
    def jobs(self, host: str) -> Mapping[str, Mapping[str, str]]: ...
    def lose(
        self, job_id: str, silence: Silence, *, to_host: str, record: Mapping[str, str], loss: Loss
    ) -> Takeover: ...
    def bury(self, silence: Silence) -> bool: ...
    def ownerships(self, job_ids: Sequence[str], *, host: str) -> Mapping[str, Ownership | None]: ...


class Jobs(Protocol):
    """The questions to the runner."""

    def jobs(self) -> list[Job]: ...
    def fence(self, job: Job, reason: str) -> None: ...
    def left_behind(self) -> list[Mapping[str, Any]]: ...


class Heartbeat:
    """One worker's place among the hosts; `arrive` and `start` once, `leave` once.

    `about` returns what the worker says of itself. `deliver` brings a message to a slot of this worker, past the
    broker. `quit_` ends the worker, once its name is another machine's and none of its jobs runs any more.
    """

    def __init__(
        self,
        hosts: Hosts,
        runner: Jobs,
        *,
        host: str,
        machine: str,
        lost_after_s: int,
        about: Callable[[], Mapping[str, Any]],
        deliver: Callable[[Mapping[str, Any]], None],
        quit_: Callable[[], None],
        sleep: Callable[[float], None] = time.sleep,
        interval_s: float = _BEAT_EVERY_S,
    ) -> None:
        self._hosts = hosts
        self._runner = runner
        self._host = host
        self._machine = machine
        self._lost_after_s = lost_after_s
        self._about = about
        self._deliver = deliver
        self._quit = quit_
        self._sleep = sleep
        self._loop = Periodic("heartbeat", interval_s, self._take_turn, first_s=interval_s)
        self._streak: Streak | None = None
        self._beats = 0
        self._has_to_deliver = False

    def arrive(self) -> None:
        """Send the first heartbeat; where another machine has the name, wait until it has been silent for a while.

        Raises `IdentityTaken` if it is not, `StoreAway` and `StoreRefused`.
        """
        heard_at = None
        for tries_left in reversed(range(_ARRIVE_TRIES)):
            beat = self._say()
            if beat.rival is None:
                self._streak = hostloss.continued(None, beat, self._lost_after_s)
                return
            lives = heard_at not in (None, beat.before)
            if lives or not tries_left:
                raise errors.IdentityTaken(self._complaint(beat.rival))
            if heard_at is None:
                log.warning("waiting to see whether it lives: %s", self._complaint(beat.rival))
            heard_at = beat.before
            self._sleep(_ARRIVE_PAUSE_S)

    def start(self) -> None:
        """Start to send heartbeats."""
        self._loop.start()

    def wake(self) -> None:
        """Send the next heartbeat now: what the worker says of itself has changed."""
        self._loop.wake()

    def leave(self) -> None:
        """Send no more heartbeats; leave the list, unless there are jobs for which this host has to be missed."""
        self._loop.stop(wait_s=_LEAVE_TIMEOUT_S)
        try:
            self._hosts.leave(self._host)
        except errors.CeleryDockerError as exc:
            log.debug("%s", exc)

    def beat_once(self) -> Beat:
        """Send a heartbeat, and look at the jobs in hand where others may have taken them."""
        self._beats += 1
        streak, self._streak = self._streak, None
        beat = self._say()
        if beat.rival is not None:
            self._yield_name(beat.rival)
            return beat
        streak = hostloss.continued(streak, beat, self._lost_after_s)
        if streak.is_new or self._beats % _LOOK_EVERY == 0:
            self._look()
        # Only now: a look that failed is repeated at the next heartbeat, which begins a streak again.
        self._streak = streak
        return beat

    def take_over_once(self) -> None:
        """Take the jobs of the hosts that are silent, if it is for this host to do that."""
        if self._has_to_deliver or self._beats % _LOOK_EVERY == 0:
            self._deliver_left_behind()
        streak = self._streak
        if streak is None or not hostloss.may_take_over(streak, self._lost_after_s):
            return
        if not self._hosts.hold(self._host, for_s=_TAKEOVER_LOCK_S):
            return
        self._hosts.recall(now=streak.last)
        for silence in self._hosts.silent(now=streak.last, for_s=self._lost_after_s):
            self._take_over(silence)

    def _take_turn(self) -> None:
        self.beat_once()
        self.take_over_once()

    def _say(self) -> Beat:
        return self._hosts.beat(self._host, machine=self._machine, about=self._about())

    def _look(self) -> None:
        """End the jobs in hand that have another owner."""
        jobs = {job.job_id: job for job in self._runner.jobs()}
        if not jobs:
            return
        for job_id, ownership in self._hosts.ownerships(list(jobs), host=self._host).items():
            if hostloss.is_fenced(ownership, self._host, jobs[job_id].claim.fence):
                self._fence(jobs[job_id], f"job {job_id} belongs to another host now")

    def _yield_name(self, rival: Mapping[str, Any]) -> None:
        """Leave every job to the machine that has taken the name."""
        complaint = self._complaint(rival)
        jobs = self._runner.jobs()
        for job in jobs:
            self._fence(job, complaint)
        if not jobs:
            log.error("%s", complaint)
            self._quit()

    def _fence(self, job: Job, reason: str) -> None:
        # Its container may take its grace to end.
        Thread(target=self._runner.fence, args=(job, reason), daemon=True, name="fence").start()

    def _take_over(self, silence: Silence) -> None:
        fates: dict[str, Takeover] = {}
        for job_id, record in self._hosts.jobs(silence.host).items():
            loss = hostloss.loss(job_id, record, silence, str(uuid.uuid4()))
            fates[job_id] = self._hosts.lose(job_id, silence, to_host=self._host, record=record, loss=loss)
        is_lost = self._hosts.bury(silence)
        if is_lost or any(fate is not Takeover.KEPT for fate in fates.values()):
            _log_takeover(silence, fates)
        if Takeover.ENDED in fates.values():
            self._deliver_left_behind()

    def _deliver_left_behind(self) -> None:
        """Bring the jobs that this host owns without having them in a slot into one; again, until there is none."""
        envelopes = self._runner.left_behind()
        for envelope in envelopes:
            self._deliver(envelope)
        self._has_to_deliver = bool(envelopes)

    def _complaint(self, rival: Mapping[str, Any]) -> str:
        return (
            f"another machine ({rival.get('machine')}) works under the name {self._host} "
            f"since {rival.get('started_at')}; give one of them another name: CELERY_DOCKER_OPTS=-n NAME"
        )


def _log_takeover(silence: Silence, fates: Mapping[str, Takeover]) -> None:
    """Write one line that names the jobs in its fields; more only where one entry cannot name them all."""
    job_ids = [job_id for job_id, fate in fates.items() if fate not in (Takeover.KEPT, Takeover.FOREIGN)]
    sentence, facts = hostloss.sentence(silence, Counter(fates.values())), JobFacts(host=silence.host)
    for portion in journal.portions(job_ids):
        log.warning("%s", sentence, extra=journal.attributes(JournalEvent.TAKEOVER, portion, facts))
