"""Pages of an index, the newest first, and all of it, the oldest first. Reads only.

Invariant: a page costs Redis some milliseconds a thousand entries, and looks at `MOST_ENTRIES` of them at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from celery_docker.store import redislink

Row = TypeVar("Row")

_AT_ONCE = 1000
MOST_ENTRIES = 10_000


@dataclass(frozen=True)
class Mark:
    """A place in an index: behind this entry the next page begins."""

    score: float
    name: str

    def __str__(self) -> str:
        return f"{self.score!r}_{self.name}"


NEWEST = Mark(math.inf, "")


def mark(text: str) -> Mark:
    """Return the place that a text means; raises `ValueError`."""
    score, _, name = text.partition("_")
    try:
        value = float(score)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise ValueError("must be the value of `next` in the answer before")
    return Mark(value, name)


def page(
    link: redislink.Link,
    index: str,
    before: Mark,
    most: int,
    rows_of: Callable[[Sequence[str]], Iterable[tuple[str, Row]]],
) -> tuple[list[Row], Mark | None]:
    """Return up to `most` rows from an index, and where the next page begins; None: there are no more.

    `rows_of` makes rows of some names, with the names, and leaves out what is not wanted. A page may be short, or
    empty, and have a next one, where few entries are wanted. Raises `StoreAway` or `StoreRefused`.
    """
    rows: list[Row] = []
    # Where everything is wanted, the first portion is all of the page.
    looks, portion = 0, min(most, _AT_ONCE)
    while looks < MOST_ENTRIES:
        marks = _behind(link, index, before, portion)
        places = {place.name: place for place in marks}
        for name, row in rows_of([place.name for place in marks]):
            rows.append(row)
            if len(rows) == most:
                return rows, places[name]
        if len(marks) < portion:
            return rows, None
        before, looks, portion = marks[-1], looks + portion, _AT_ONCE
    return rows, before


def each_name(link: redislink.Link, index: str, at_once: int) -> Iterator[str]:
    """Yield the names in an index, the oldest first, each that is there all the time; read as they are consumed."""
    before: Mark | None = None
    while True:
        marks = _behind(link, index, before, at_once, newest_first=False)
        yield from (place.name for place in marks)
        # A name that is no text has its place before itself, and would be the last again and again.
        if len(marks) < at_once:
            return
        before = marks[-1]


def _behind(
    link: redislink.Link, index: str, before: Mark | None, count: int, *, newest_first: bool = True
) -> list[Mark]:
    """Return the places of the entries behind a place, also where thousands have its score or its own is gone."""
    place = ["", ""] if before is None or before is NEWEST else [repr(before.score), before.name]
    flat = link.call("behind", [index], [*place, count, int(newest_first)])
    return [Mark(float(score), name) for name, score in zip(flat[::2], flat[1::2], strict=True)]
