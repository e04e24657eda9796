"""An action that is repeated in a thread of its own for as long as the worker lives.

It stands in `run`, the lowest layer with such a loop (broadcast); those of `background` import it from here.
Invariant: no exception of an action ends its loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from celery_docker import errors

log = logging.getLogger(__name__)


class Periodic:
    """Repeats `action` after a pause of `interval_s` seconds; `start` once, `stop` and `wake` from any thread.

    `interval_s` may be a function, which is asked before each pause. The first turn comes after `first_s` seconds.
    """

    def __init__(
        self,
        name: str,
        interval_s: float | Callable[[], float],
        action: Callable[[], object],
        *,
        first_s: float = 0,
    ) -> None:
        self._name = name
        self._interval_s = interval_s
        self._action = action
        self._first_s = first_s
        self._woken = Event()
        self._stopped = Event()
        self._thread = Thread(target=self._run, daemon=True, name=name)

    def start(self) -> None:
        """Begin to repeat the action."""
        self._thread.start()

    def stop(self, *, wait_s: float = 0) -> None:
        """End the loop after the turn that is under way, for whose end this waits `wait_s` seconds at most."""
        self._stopped.set()
        self._woken.set()
        if wait_s and self._thread.is_alive():
            self._thread.join(wait_s)

    def wake(self) -> None:
        """Begin the next turn without the rest of the pause."""
        self._woken.set()

    def take_turn(self) -> None:
        """Carry the action out now, in the thread that calls; what it raises is logged."""
        try:
            self._action()
        except errors.CeleryDockerError as exc:
            log.debug("%s: %s", self._name, exc)
        except Exception as exc:  # noqa: BLE001  # the loop has to go on, whatever it was
            log.error("%s: its turn failed and is repeated: %r", self._name, exc)

    def _run(self) -> None:
        self._woken.wait(self._first_s)
        while not self._stopped.is_set():
            self._woken.clear()
            # `stop` may have come just before the line above, which has forgotten it.
            if self._stopped.is_set():
                return
            self.take_turn()
            self._woken.wait(self._interval_s() if callable(self._interval_s) else self._interval_s)
