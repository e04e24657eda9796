"""Lines for somebody who waits for jobs: of one, each failed attempt and longer wait; of many, what nobody runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.ports import Queries
from celery_docker.core import waiting, wording
from celery_docker.core.receipt import Receipt
from celery_docker.core.waiting import Wait, WaitKind

# A wait is worth a line after a while, and another one where its numbers have changed. To find the place in a queue
# costs Redis some milliseconds: after a wait's first seconds it is asked seldom.
_LOOK_EVERY_S = 0.15
_ASK_EVERY_S = 1.0
_FIRST_SECONDS_S = 5.0
_ASK_LATER_S = 10.0
_PATIENCE_S = 3.0
_AGAIN_S = 30.0
# Of many jobs that are waited for, so many are asked about.
_JOBS_LOOKED_AT = 50


@dataclass
class WaitLines:
    """The lines about one job; `note` writes one, `advice` is for a stuck one. `look` often, then `end` once."""

    queries: Queries
    job_id: str
    note: Callable[[str], None]
    advice: str
    clock: Callable[[], float] = time.monotonic
    _looked_at_s: float = float("-inf")
    _asked_at_s: float = float("-inf")
    _attempts: int = 0
    _kind: WaitKind | None = None
    _begun_at_s: float = field(init=False)
    _noted: str = ""
    _noted_at_s: float = float("-inf")

    def __post_init__(self) -> None:
        self._begun_at_s = self.clock()

    def look(self) -> None:
        """Write what is new. Raises `StoreAway` or `StoreRefused`, and `NoSuchJob` for a job whose record is gone."""
        now_s = self.clock()
        if now_s - self._looked_at_s < _LOOK_EVERY_S:
            return
        self._looked_at_s = now_s
        attempts = self.queries.waits.attempts([self.job_id]).get(self.job_id, [])
        if len(attempts) <= self._attempts and now_s - self._asked_at_s < self._pause_s(now_s):
            return
        self._asked_at_s = now_s
        row = self.queries.jobs.row(self.job_id)
        wait = self.queries.waits.of([row]).get(self.job_id)
        self._enter(wait, now_s)
        self._note_attempts(attempts, wait, now_s)
        if wait is not None:
            self._note_wait(wait, now_s)

    def end(self, receipt: Receipt) -> None:
        """Write what was not written of the attempts before the last."""
        self._note_attempts(receipt.attempts[:-1], None, self.clock())

    def _pause_s(self, now_s: float) -> float:
        is_new = now_s - self._begun_at_s < _FIRST_SECONDS_S
        return _ASK_EVERY_S if is_new else _ASK_LATER_S

    def _enter(self, wait: Wait | None, now_s: float) -> None:
        kind = None if wait is None else wait.kind
        if kind is not self._kind:
            self._kind, self._begun_at_s = kind, now_s
            self._noted, self._noted_at_s = "", float("-inf")

    def _note_attempts(self, entries: Sequence[Mapping[str, Any]], wait: Wait | None, now_s: float) -> None:
        """Write of each attempt that has ended since, with the wait after it where that is known."""
        for number, entry in list(enumerate(entries, 1))[self._attempts :]:
            sentence = waiting.failed_attempt(entry.get("attempt") or number, entry.get("reason") or "")
            if wait is not None and wait.reason.startswith(sentence):
                sentence = self._noted = wait.reason
                self._noted_at_s = now_s
            self._write(sentence)
        self._attempts = max(self._attempts, len(entries))

    def _note_wait(self, wait: Wait, now_s: float) -> None:
        # The line about the attempt before has this one.
        if wait.kind is WaitKind.RETRY or wait.reason == self._noted or now_s - self._noted_at_s < _AGAIN_S:
            return
        is_stuck = wait.kind in waiting.OBSTACLES
        if is_stuck or now_s - self._begun_at_s >= _PATIENCE_S:
            self._noted, self._noted_at_s = wait.reason, now_s
            self._write(f"{wait.reason}: the job waits; {self.advice}" if is_stuck else wait.reason)

    def _write(self, sentence: str) -> None:
        self.note(wording.harmless(f"{PROGRAM}: {sentence}"))


@dataclass
class ObstacleLines:
    """The lines about some of many jobs that nobody runs until somebody does something about it; `look` often."""

    queries: Queries
    note: Callable[[str], None]
    advice: str
    clock: Callable[[], float] = time.monotonic
    _asked_at_s: float = float("-inf")
    _noted: set[str] = field(default_factory=set)

    def look(self, job_ids: Sequence[str]) -> None:
        """Write what is new about the first of these jobs. Raises `StoreAway` or `StoreRefused`."""
        now_s = self.clock()
        if now_s - self._asked_at_s < _ASK_LATER_S:
            return
        self._asked_at_s = now_s
        rows = self.queries.jobs.rows(job_ids[:_JOBS_LOOKED_AT])
        for job_id, wait in self.queries.waits.of(rows).items():
            # Other reasons say for how long it is so, or what it is with other hosts.
            subject = wait.reason if wait.kind is WaitKind.OFFER else wait.kind.value
            if wait.kind in waiting.OBSTACLES and subject not in self._noted:
                self._noted.add(subject)
                sentence = f"{wording.short_id(job_id)}: {wait.reason}: it waits; {self.advice}"
                self.note(wording.harmless(f"{PROGRAM}: {sentence}"))
