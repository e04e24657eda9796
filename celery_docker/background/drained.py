"""Whether somebody keeps this host from taking jobs: asked once a second, and told to the gate.

Invariant: while Redis does not answer, what it said last counts.
"""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import Protocol

from celery_docker import errors
from celery_docker.background.intake import Gate

log = logging.getLogger(__name__)

_EVERY_S = 1.0
_WHO = "drained"


class Drains(Protocol):
    """What is asked of the records."""

    def drained(self, host: str) -> str | None: ...


class Standby:
    """Closes the gate of a drained host and opens it again; `start` once, `stop` once."""

    def __init__(self, records: Drains, host: str, gate: Gate) -> None:
        self._records = records
        self._host = host
        self._gate = gate
        self._said: str | None = None
        self._stopped = Event()

    def start(self) -> None:
        """Ask now, before the first job is taken, and from then on."""
        self.ask()
        Thread(target=self._run, daemon=True, name="drained").start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def ask(self) -> None:
        """Ask once."""
        try:
            said = self._records.drained(self._host)
        except errors.CeleryDockerError as exc:
            log.debug("%s", exc)
            return
        if said == self._said:
            return
        self._said = said
        if said is None:
            log.info("takes jobs again: nobody keeps it from that any more")
            self._gate.open(_WHO)
        else:
            log.info("takes no jobs: drained by %s", said)
            self._gate.close(_WHO, f"drained by {said}")

    def _run(self) -> None:
        while not self._stopped.wait(_EVERY_S):
            self.ask()
