"""JSON that comes from elsewhere: a value that can be handled and written again, or one line about why it is none.

Pure. Invariant: `parse` raises nothing but `NotUsable`, whatever it gets.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

MOST_DEPTH = 100
# How much of a name a complaint repeats.
_SHOWN = 60
_HALF = re.compile("[\ud800-\udfff]")
# One that is not closed goes on to the end.
_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)


class NotUsable(ValueError):
    """A value from elsewhere that cannot be used; the message says why, and goes on after the value's name."""


def parse(text: str | bytes, *, depth: int = MOST_DEPTH, most: int | None = None) -> Any:
    """Return what a JSON text says: finite numbers, names that are there once, valid Unicode, and not too deep.

    `most` bounds names and values: in memory each may take a hundred times as much as in the text. Raises `NotUsable`.
    """
    try:
        words = text if isinstance(text, str) else text.decode()
        if most is not None and _has_more(words, most):
            raise NotUsable(f"has more than {most:,} names and values; send less at once")
        value = json.loads(
            words, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite, parse_int=_integer
        )
    except NotUsable:
        raise
    except UnicodeDecodeError as exc:
        raise NotUsable(f"is not UTF-8 (byte {exc.start})") from exc
    except RecursionError as exc:
        raise NotUsable("is nested too deeply") from exc
    except ValueError as exc:
        raise NotUsable("is not JSON") from exc  # which knows the place
    if "\\u" in words or _HALF.search(words):
        _check_unicode(value)
    _check_depth(value, depth)
    return value


def table(text: str | bytes) -> dict[str, Any]:
    """Return the table that a JSON text is. Raises `NotUsable`."""
    value = parse(text)
    if not isinstance(value, dict):
        raise NotUsable("is not a table")
    return value


def _has_more(text: str, most: int) -> bool:
    """Tell whether a text has more names and values than that: each but the first is behind one of these marks."""
    marks = ",:[{"
    if sum(map(text.count, marks)) < most:
        return False
    without_strings = _STRING.sub("", text)
    return sum(map(without_strings.count, marks)) >= most


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen = set[str]()
        name = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise NotUsable(f"has the key {name[:_SHOWN]!r} twice in one table; remove one")
    return value


def _no_constant(word: str) -> Any:
    raise NotUsable(f"{word} is not a number in JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise NotUsable("has a number that is too large")
    return value


def _integer(digits: str) -> int:
    if len(digits) > 20:
        raise NotUsable("has a number that is too large")
    return int(digits)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_depth(value: Any, most: int) -> None:
    level = [value]
    for _ in range(most):
        level = [item for outer in level for item in _inside(outer) if isinstance(item, dict | list)]
        if not level:
            return
    raise NotUsable("is nested too deeply")


def _check_unicode(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        texts = [item] if isinstance(item, str) else list(item) if isinstance(item, Mapping) else []
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as exc:
            raise NotUsable("is not valid Unicode") from exc
        waiting.extend(_inside(item))
