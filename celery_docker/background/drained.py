"""The drained flag of this host: asked of Redis once a second, and passed on to the intake.

Invariant: while Redis does not answer, its last answer counts.
"""

from __future__ import annotations

import logging
from typing import Protocol

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core.journal import JournalEvent
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
_REASON = "drained"


class Drains(Protocol):
    """The question to the records."""

    def drained(self, host: str) -> str | None: ...


class DrainWatch:
    """Closes the intake of a drained host and opens it again; `start` once, `stop` once."""

    def __init__(self, records: Drains, host: str, intake: Intake, *, interval_s: float = _INTERVAL_S) -> None:
        self._records = records
        self._host = host
        self._intake = intake
        self._drained_by: str | None = None
        self._loop = Periodic("drained", interval_s, self.check, first_s=interval_s)

    def start(self) -> None:
        """Ask now, before the first job is taken, and from then on."""
        try:
            self.check()
        except errors.CeleryDockerError as exc:
            log.debug("%s", exc)
        self._loop.start()

    def stop(self) -> None:
        """Ask no more."""
        self._loop.stop()

    def check(self) -> None:
        """Ask once. Raises `StoreAway` or `StoreRefused`, which leaves the intake as it is."""
        drained_by = self._records.drained(self._host)
        if drained_by == self._drained_by:
            return
        self._drained_by = drained_by
        if drained_by is None:
            log.info("takes jobs again: it is not drained any more", extra={"event": JournalEvent.INTAKE_OPEN})
            self._intake.open(_REASON)
        else:
            log.info("takes no jobs: drained by %s", drained_by, extra={"event": JournalEvent.INTAKE_CLOSED})
            self._intake.close(_REASON, f"drained by {drained_by}")
