"""The fields of a record as Redis has them, read to values: what cannot be read is unknown, and named. Pure.

Invariant: nothing here raises, whatever somebody has written into a record, in this version or another.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core import kinds, strictjson

# The end of the year 9999: no later time can be written for people.
_LATEST_S = 253_402_300_799
_WHOLE = re.compile(r"-?[0-9]{1,15}", re.ASCII)


@dataclass
class Fields:
    """The fields of one record; `problems` has a line for each that could not be read."""

    record: Mapping[str, str]
    problems: list[str] = field(default_factory=list)

    def text(self, name: str) -> str | None:
        """Return a field as it is; None where it is missing or empty."""
        return self.record.get(name) or None

    def whole(self, name: str) -> int | None:
        """Return a whole number."""
        text = self.text(name)
        if text is not None and not _WHOLE.fullmatch(text):
            self._problem(name, text, "is not a whole number")
            return None
        return None if text is None else int(text)

    def count(self, name: str) -> int:
        """Return a whole number from 0, which is also for what is missing."""
        number = self.whole(name) or 0
        if number < 0:
            self._problem(name, str(number), "is less than 0")
        return max(number, 0)

    def number(self, name: str) -> float | None:
        """Return a finite number."""
        text = self.text(name)
        try:
            value = None if text is None else float(text)
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            self._problem(name, text, "is not a number")
            return None
        return value

    def moment(self, name: str) -> float | None:
        """Return a time in seconds since the epoch."""
        value = self.number(name)
        if value is not None and not 0 <= value <= _LATEST_S:
            self._problem(name, self.text(name), "is not a time")
            return None
        return value

    def words(self, name: str) -> dict[str, str]:
        """Return a table of strings."""
        value = self.json(name, dict) or {}
        if not all(isinstance(text, str) for text in value.values()):
            self._problem(name, self.text(name), "is not a table of strings")
            return {}
        return value

    def entries(self, name: str) -> tuple[dict[str, Any], ...]:
        """Return a list of tables."""
        value = self.json(name, list) or []
        if not all(isinstance(entry, dict) for entry in value):
            self._problem(name, self.text(name), "is not a list of tables")
            return ()
        return tuple(value)

    def json(self, name: str, kind: type) -> Any:
        """Return what a field says in JSON, of this kind."""
        text = self.text(name)
        if text is None:
            return None
        try:
            value = strictjson.parse(text)
        except strictjson.NotUsable as exc:
            self._problem(name, text, str(exc))
            return None
        if not isinstance(value, kind):
            self._problem(name, text, "is of another kind")
            return None
        return value

    def _problem(self, name: str, value: object, words: str) -> None:
        self.problems.append(f"{name}: {kinds.shown(value)} {words}")
