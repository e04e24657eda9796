"""Repeated calls to Redis and Docker: until the call is answered, however long that takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from celery_docker import errors
from celery_docker.core import pauses

log = logging.getLogger(__name__)
T = TypeVar("T")

_FIRST_S, _FACTOR, _LONGEST_S = 0.1, 2, 5.0


def _nobody(_: errors.HostError) -> None: ...


@dataclass(frozen=True)
class Retrying:
    """Tries again after growing delays. `sleep` takes seconds; `on_host_fault` hears why Docker did not answer."""

    sleep: Callable[[float], None] = time.sleep
    on_host_fault: Callable[[errors.HostError], object] = _nobody

    def until_stored(self, action: Callable[[], T]) -> T:
        """Return what the action returns, as soon as Redis takes it."""
        return self._until(action, (errors.StoreAway, errors.StoreRefused))

    def until_answered(self, action: Callable[[], T]) -> T:
        """Return what the action returns, as soon as Docker answers it."""
        return self._until(lambda: self._reporting(action), (errors.HostError,))

    def _reporting(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except errors.HostError as exc:
            self.on_host_fault(exc)
            raise

    def _until(self, action: Callable[[], T], passing: tuple[type[errors.CeleryDockerError], ...]) -> T:
        for delay_s in pauses.delays(_FIRST_S, _FACTOR, _LONGEST_S):
            try:
                return action()
            except passing as exc:
                if delay_s == _LONGEST_S:
                    log.warning("%s; trying again", exc)
                self.sleep(delay_s)
        raise AssertionError("the delays have no end")
