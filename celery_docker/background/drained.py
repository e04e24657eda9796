"""The drained flag of this host in Redis, passed on to the intake; while Redis is away, what it said last counts."""

from __future__ import annotations

import logging

from celery_docker.background.intake import Intake
from celery_docker.core.journal import JournalEvent

log = logging.getLogger(__name__)

_REASON = "drained"


class DrainWatch:
    """Closes the intake of a drained host and opens it again."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._drained_by: str | None = None

    def tell(self, drained_by: str | None) -> None:
        """Hear who keeps this host from taking jobs, and why; None: nobody does."""
        if drained_by == self._drained_by:
            return
        self._drained_by = drained_by
        if drained_by is None:
            log.info("takes jobs again: it is not drained any more", extra={"event": JournalEvent.INTAKE_OPEN})
            self._intake.open(_REASON)
        else:
            log.info("takes no jobs: drained by %s", drained_by, extra={"event": JournalEvent.INTAKE_CLOSED})
            self._intake.close(_REASON, f"drained by {drained_by}")
