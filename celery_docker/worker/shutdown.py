"""The shutdown of a worker: it takes no more jobs, then either waits for the running ones or hands them over.

Runs in a thread of its own: Celery's own warm shutdown would wait without limit, with its event loop standing still.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from enum import StrEnum
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from celery.worker import state

from celery_docker.background.duties import Duties
from celery_docker.background.intake import Intake
from celery_docker.core import lifecycle, wording
from celery_docker.run.job import grace_s
from celery_docker.run.runner import Runner
from celery_docker.worker.relay import Relay
from celery_docker.worker.task import is_revoking

log = logging.getLogger(__name__)

# Redis answers within a second; while it is away a claim waits. What is not claimed by then comes back to its queue.
_CLAIM_TIMEOUT_S = 10.0
_TURN_S = 0.2
_LOOP_TIMEOUT_S = 10.0
# What the slots get, after the grace of their containers, to say what became of them.
_LAST_WORDS_S = 30.0


class Departure(StrEnum):
    """The two ways to leave: wait for the running jobs, or leave them to the next process."""

    STOP = "stop"
    HAND_OVER = "hand over"


class Shutdown:
    """Carries out one departure, the first; `begin` may be called from a signal handler.

    `deadline_s` says how long a stop may wait for running jobs, asked when it begins.
    """

    def __init__(
        self,
        runner: Runner,
        duties: Duties,
        consumer: Any,
        intake: Intake,
        deadline_s: Callable[[], float],
        relay: Relay,
    ) -> None:
        self._relay = relay
        self._runner = runner
        self._duties = duties
        self._consumer = consumer
        self._intake = intake
        self._deadline_s = deadline_s
        self._departures: SimpleQueue[Departure] = SimpleQueue()
        Thread(target=self._run, daemon=True, name="shutdown").start()

    def begin(self, departure: Departure) -> None:
        """Begin to leave; a later departure changes nothing."""
        self._departures.put(departure)

    def _run(self) -> None:
        departure = self._departures.get()
        self._duties.stopping()
        if departure is Departure.HAND_OVER:
            self._relay.hand_over()
        self._take_no_more()
        if departure is Departure.HAND_OVER:
            self._finish_revokes()
            log.info("handing over %s to the next process", self._running())
            os._exit(0)
        self._finish_jobs()
        self._finish_revokes()
        self._leave()

    def _take_no_more(self) -> None:
        self._intake.close("shutdown", "it is leaving")
        self._wait(_CLAIM_TIMEOUT_S, self._has_arrived)

    def _has_arrived(self) -> bool:
        """Return whether every message that was asked of Redis is claimed, or put back."""
        consumer = self._consumer.task_consumer
        return (consumer is None or consumer.channel.is_idle) and not self._runner.slot_table.is_claiming

    def _finish_revokes(self) -> None:
        """Wait until the revokes that have come to this process are in Redis, which has forgotten the broadcasts."""
        heard = Event()

        def look() -> None:
            if all(channel.has_heard_all for channel in self._consumer.connection.transport.channels):
                heard.set()

        def is_done() -> bool:
            if not heard.is_set():
                self._consumer.hub.call_soon(look)
            return heard.is_set() and not is_revoking()

        if self._consumer.task_consumer is not None and not self._wait(_CLAIM_TIMEOUT_S, is_done):
            log.warning("a revoke that came just now may get lost: Redis does not answer")

    def _finish_jobs(self) -> None:
        timeout_s = self._deadline_s()
        log.info("stopping: waiting up to %d s for %s", timeout_s, self._running())
        if self._wait(timeout_s, lambda: not self._runner.jobs()):
            return
        jobs = self._runner.jobs()
        for job in jobs:
            reason = f"the worker on host {self._runner.host} was stopped"
            request = lifecycle.EndRequest(lifecycle.Cause.INTERRUPTED, reason)
            Thread(target=self._runner.end, args=(job, request), daemon=True).start()
        longest_grace_s = max((grace_s(job) for job in jobs), default=0)
        self._wait(_LAST_WORDS_S + longest_grace_s, lambda: not self._runner.jobs())

    def _running(self) -> str:
        return wording.counted(len(self._runner.jobs()), "running job")

    def _leave(self) -> None:
        """End through Celery if its loop still turns; whatever is unfinished is found by the next process."""

        def stop() -> None:
            state.should_stop = 0

        self._consumer.hub.call_soon(stop)
        time.sleep(_LOOP_TIMEOUT_S)
        os._exit(0)

    def _wait(self, timeout_s: float, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                return False
            self._duties.extend_stop()
            time.sleep(_TURN_S)
        return True
