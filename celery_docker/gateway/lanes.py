"""The requests that wait for a thread, in a lane for each user: the lanes are served in turn. Pure.

Invariant: who sends many requests waits for his own, and nobody else for more than one of them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Lanes(Generic[T]):
    """A queue with the methods of a `deque` that the web server calls; `user_of` returns whose lane an entry takes."""

    def __init__(self, user_of: Callable[[T], Hashable]) -> None:
        self._user_of = user_of
        self._lanes: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0

    def append(self, entry: T) -> None:
        """Put an entry at the end of its user's lane; a new lane is the last."""
        self._lanes.setdefault(self._user_of(entry), deque()).append(entry)
        self._count += 1

    def popleft(self) -> T:
        """Take the first entry of the first lane, which is the last then. Raises `IndexError` where there is none."""
        if not self._lanes:
            raise IndexError("no request waits")
        user, lane = self._lanes.popitem(last=False)
        entry = lane.popleft()
        self._count -= 1
        if lane:
            self._lanes[user] = lane
        return entry

    def __len__(self) -> int:
        return self._count
