"""A finding: one line that a check gives, with its gravity and the remedy. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery_docker.core import wording

# The remedy where this user may not look.
AS_ROOT = "sudo celery-docker doctor"


class Level(StrEnum):
    """The gravity of a finding."""

    OK = "ok"
    # It could not be looked at.
    SKIP = "skip"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One line: the thing that was checked, the result, and the remedy; `details` are lines of its own log."""

    level: Level
    what: str
    says: str
    remedy: str = ""
    details: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the finding as people read it."""
        first = f"{self.level:<4}  {self.what}: {self.says}" + (f" → {self.remedy}" if self.remedy else "")
        return [wording.harmless(line) for line in (first, *(f"      | {line}" for line in self.details))]

    def to_json(self) -> dict[str, Any]:
        """Return the finding for programs."""
        return {
            "level": self.level.value,
            "what": self.what,
            "says": self.says,
            "remedy": self.remedy or None,
            "details": list(self.details),
        }
