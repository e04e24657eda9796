"""The notices of ends, sent by whichever worker is handed one, each in a thread of its own.

Invariants: a notice is struck off only once its target has taken it, or it is given up, with a line in the journal; so
it is sent at least once, and twice where a worker dies between the two. A target that hangs or refuses holds up its own
notices alone. What is sent, and to whom, is what the job's verified message says, and this host's policy allows.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Protocol

from celery_docker import errors
from celery_docker.core import notice, noticetargets
from celery_docker.core.incoming import Incoming
from celery_docker.core.journal import JournalEvent
from celery_docker.core.notice import DueNotice, Notice, NoticeFacts
from celery_docker.core.policy import Policy
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 10.0
_MOST_AT_ONCE, _MOST_TO_ONE_TARGET = 8, 2
# Another host may be able to send it.
_PASS_ON_S = 30.0
# A target that has failed is left alone for so long, whatever else there is for it.
_REST_S = 10.0


class Notices(Protocol):
    """The questions to the records."""

    def take(self, most: int) -> Sequence[DueNotice]: ...
    def strike_off(self, due: DueNotice) -> None: ...
    def put_off(self, due: DueNotice, delay_s: float, *, tried: bool) -> None: ...
    def facts(self, due: DueNotice) -> NoticeFacts | None: ...
    def batch(self, batch_id: str) -> tuple[str | None, Mapping[str, int]] | None: ...


class _GivenUp(Exception):
    """The notice is never sent; the reason in one line."""


@dataclass
class Notifying:
    """Sends notices from one worker. `rules_of` returns the rules for a message; it raises what `Admission` does."""

    notices: Notices
    rules_of: Callable[[Incoming, str], Policy]
    send: Callable[[str, Notice], None]
    clock: Callable[[], float] = time.monotonic
    _lock: Lock = field(default_factory=Lock)
    _busy: int = 0
    _sending: Counter[str] = field(default_factory=Counter)
    _resting: dict[str, float] = field(default_factory=dict)
    _loop: Periodic | None = None

    def start(self) -> None:
        """Begin to look for notices."""
        self._loop = Periodic("notices", _LOOK_EVERY_S, self.look)
        self._loop.start()

    def stop(self) -> None:
        """Take no more; what is being sent is struck off if that ends in time, else sent again by another worker."""
        if self._loop is not None:
            self._loop.stop()

    def look(self) -> None:
        """Take the notices that are due, as many as there are threads left, and send each."""
        with self._lock:
            free = _MOST_AT_ONCE - self._busy
        for due in self.notices.take(free) if free > 0 else ():
            with self._lock:
                self._busy += 1
            Thread(target=self._deal_with, args=(due,), daemon=True, name="notice").start()

    def _deal_with(self, due: DueNotice) -> None:
        try:
            try:
                self._send(due)
            except _GivenUp as exc:
                self.notices.strike_off(due)
                log.warning("nobody is told of the end: %s", exc, extra=_event(due, JournalEvent.NOTICE_GIVEN_UP))
        except errors.CeleryDockerError as exc:
            # It is handed out again once its lease is over.
            log.debug("a notice waits: %s", exc, extra={"job": due.job_id})
        except Exception:
            log.exception("a mistake of ours", extra={"job": due.job_id})
        finally:
            with self._lock:
                self._busy -= 1
            if self._loop is not None:
                self._loop.wake()

    def _send(self, due: DueNotice) -> None:
        facts = self.notices.facts(due)
        if facts is None:
            raise _GivenUp("its record is gone")
        target = _target(due, facts)
        try:
            self._check_allowed(facts, target)
            message = self._message(due, facts)
            is_sent = self._try(target, message)
        except errors.NotSent as exc:
            self._put_off_after(due, target, exc)
        except (errors.CannotSend, errors.PolicyError, errors.RequestError, errors.HostError, errors.KeysError) as exc:
            self._pass_on(due, facts, f"no host could send it to {target}; here: {exc}", _PASS_ON_S)
        else:
            if not is_sent:
                return self._pass_on(due, facts, f"{target} took none in a day", _REST_S)
            self.notices.strike_off(due)
            log.info("told %s of the end", target, extra={"job": due.job_id})
        return None

    def _try(self, target: str, message: Notice) -> bool:
        """Send a notice; False where its target rests after a failure, or has enough to do."""
        with self._lock:
            if self._resting.get(target, 0.0) > self.clock() or self._sending[target] >= _MOST_TO_ONE_TARGET:
                return False
            self._sending[target] += 1
        try:
            self.send(target, message)
        except errors.NotSent:
            with self._lock:
                self._resting[target] = self.clock() + _REST_S
            raise
        finally:
            with self._lock:
                self._sending[target] -= 1
                self._sending += Counter()  # without those of 0
        with self._lock:
            self._resting.pop(target, None)
        return True

    def _check_allowed(self, facts: NoticeFacts, target: str) -> None:
        rules = self.rules_of(facts.message, facts.queue)
        if not noticetargets.allows(rules.notify, target):
            raise errors.PolicyError(f"{target} is not allowed on this host; {rules.rule('notify')}")

    def _message(self, due: DueNotice, facts: NoticeFacts) -> Notice:
        if due.batch_id is None:
            return notice.of_job(due.job_id, due.number, facts.receipt)
        batch = self.notices.batch(due.batch_id)
        if batch is None:
            raise _GivenUp("the record of its batch is gone")
        return notice.of_batch(due.batch_id, due.number, *batch)

    def _put_off_after(self, due: DueNotice, target: str, exc: errors.NotSent) -> None:
        """Put a notice off that could not be sent; it is given up after the last try."""
        tries = due.tries + 1
        if tries >= notice.MOST_TRIES:
            raise _GivenUp(f"{target} was tried {tries} times: {exc}") from exc
        delay_s = notice.delay_s(tries)
        extra = _event(due, JournalEvent.NOTICE_DELAYED)
        log.info("%s; %s is tried again in %d s", exc, target, delay_s, extra=extra)
        self.notices.put_off(due, delay_s, tried=True)

    def _pass_on(self, due: DueNotice, facts: NoticeFacts, reason: str, delay_s: float) -> None:
        """Leave a notice to whoever is handed it next; it is given up when its job's end is a day ago."""
        if facts.age_s > notice.LONGEST_S:
            raise _GivenUp(reason)
        self.notices.put_off(due, delay_s, tried=False)


def _event(due: DueNotice, event: JournalEvent) -> dict[str, str]:
    return {"job": due.job_id, "event": event}


def _target(due: DueNotice, facts: NoticeFacts) -> str:
    """Return the target of a notice, from the job's message."""
    try:
        targets = noticetargets.TARGETS.parse(facts.message.kwargs["notify"])
    except (KeyError, ValueError) as exc:
        raise _GivenUp("its message names nobody") from exc
    if not targets or not 1 <= due.number <= len(targets):
        raise _GivenUp("its message names nobody of that number")
    return str(targets[due.number - 1])
