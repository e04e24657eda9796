"""Whoever waits for jobs waits for Redis too: the jobs go on without it.

Invariant: a Redis that has never answered is a mistake of the caller's, and is told at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar

from celery_docker import errors

T = TypeVar("T")

_PAUSE_S = 0.5


def _nobody(_: errors.StoreAway) -> None: ...


@dataclass
class Outages:
    """Lets questions fail while Redis is away; `tell` hears of each outage once.

    `with outages:` leaves what stands in it undone where Redis is away, to be done again after a pause. It raises
    `StoreAway` if Redis has never answered, and every other error.
    """

    tell: Callable[[errors.StoreAway], object] = _nobody
    has_answered: bool = False
    _is_told: bool = False

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if value is None:
            self.has_answered, self._is_told = True, False
        if not isinstance(value, errors.StoreAway) or not self.has_answered:
            return False
        if not self._is_told:
            self.tell(value)
        self._is_told = True
        return True

    def answer(self, question: Callable[[], T]) -> T:
        """Return the answer to a question, as soon as there is one."""
        while True:
            with self:
                return question()
            time.sleep(_PAUSE_S)

    def each(self, begin: Callable[[], Iterable[T]]) -> Iterator[T]:
        """Yield what `begin` returns, which is asked to go on after an outage."""
        while True:
            with self:
                yield from begin()
                return
            time.sleep(_PAUSE_S)
