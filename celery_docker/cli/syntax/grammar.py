"""Parts of a command of `celery-docker`: flags and operands. Pure values; `commandtable` has the commands."""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.core import kinds

PROGRAM = "celery-docker"


@dataclass(frozen=True)
class Flag:
    """One option. Its last name is its key; without a `metavar` it is a switch.

    `kind` checks its value at once; without one the text goes on as it is. `words` are what a shell may offer.
    """

    names: tuple[str, ...]
    help: str
    metavar: str = ""
    repeated: bool = False
    kind: kinds.Kind | None = None
    words: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return self.names[-1]

    @property
    def is_path(self) -> bool:
        """True where a shell completes the names of files."""
        return self.metavar in ("PATH", "FILE", "FILE|-")


@dataclass(frozen=True)
class Operands:
    """The words after the flags: at least and at most so many of them, None: any number.

    Of a `literal` tail nothing is read any more: from the first word on, everything belongs to the job's command.
    """

    usage: str = ""
    least: int = 0
    most: int | None = 0
    literal: bool = False
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """One command: its `summary` fits into a list, `about` says the rest in sentences; examples are (what, line)."""

    name: str
    module: str
    summary: str
    operands: Operands
    flags: tuple[Flag, ...]
    examples: tuple[tuple[str, str], ...]
    about: str = ""

    @property
    def usage(self) -> str:
        parts = (PROGRAM, self.name, "[FLAGS]" if self.flags else "", self.operands.usage)
        return " ".join(part for part in parts if part)

    @property
    def function(self) -> str:
        """The name of the function that does it."""
        return self.name.replace("-", "_")

    def flag(self, name: str) -> Flag | None:
        """Return the flag that has this name, None if there is none."""
        return next((flag for flag in self.flags if name in flag.names), None)
