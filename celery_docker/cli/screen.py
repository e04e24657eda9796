"""Output of a command: data to the standard output, everything else to the standard error.

Owns the facts about the terminal: that there is one, its width, its colours. Knows nothing of jobs.
"""

from __future__ import annotations

import json
import os
import select
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TextIO

from celery_docker import errors
from celery_docker.cli import tables
from celery_docker.core import wording

# What JSON output is indented by where people read it.
_INDENT = 2
# Of a terminal that does not say how wide it is.
_WIDTH = 80


@dataclass(frozen=True)
class Screen:
    """Both streams of a process. `colour` and `width` are those of the standard output; None: no terminal."""

    out: TextIO
    err: TextIO
    colour: bool = False
    width: int | None = None

    @property
    def is_terminal(self) -> bool:
        """True where people look at the data, and not a program."""
        return self.width is not None

    def data(self, line: str) -> None:
        """Write a line of what was asked for; a terminal must not obey what somebody has put into it."""
        self.out.write(f"{wording.harmless_lines(line)}\n")

    def raw(self, data: bytes, *, to_err: bool = False) -> None:
        """Write bytes of a job's own output, at once and as they are."""
        stream = self.err if to_err else self.out
        stream.flush()
        stream.buffer.write(data)
        stream.buffer.flush()

    def takes_more(self, timeout_s: float, *, to_err: bool = False) -> bool:
        """Return whether a write of 4 KiB would not have to wait, or would fail, after this time at most."""
        return _is_ready(self.err if to_err else self.out, select.POLLOUT, timeout_s)

    @property
    def is_read(self) -> bool:
        """False once nobody is left who could read the standard output."""
        return is_read(self.out)

    @contextmanager
    def safe(self, line: str) -> Iterator[None]:
        """Write what is not to be lost; if that cannot be written, this line goes to the standard error."""
        try:
            yield
            self.out.flush()
        except OSError:
            with suppress(OSError):
                self.note(line)
            raise

    def note(self, line: str) -> None:
        """Write a line about what was asked for."""
        self.err.write(f"{wording.harmless_lines(line)}\n")
        self.err.flush()

    def json(self, value: Any) -> None:
        """Write a value as JSON: in one line for programs, indented for people."""
        self._json(value, _INDENT if self.is_terminal else None)

    def indented_json(self, value: Any) -> None:
        """Write a value as JSON that people read, in a pipe too."""
        self._json(value, _INDENT)

    def line_of_json(self, value: Any) -> None:
        """Write one of many values as a line of JSON."""
        self._json(value, None)

    def _json(self, value: Any, indent: int | None) -> None:
        self.out.write(wording.harmless_json(json.dumps(value, ensure_ascii=False, indent=indent)) + "\n")

    def table(self, columns: Sequence[tables.Column], rows: Iterable[Sequence[str]], *, whole: bool = False) -> None:
        """Write a table, cut to the terminal's width unless `whole`."""
        for line in tables.render(columns, rows, None if whole else self.width, colour=self.colour):
            self.out.write(f"{line}\n")

    def can_ask(self) -> bool:
        """True where somebody can answer a question."""
        return sys.stdin is not None and sys.stdin.isatty() and self.err.isatty()

    def confirmed(self, question: str) -> bool:
        """Ask somebody at the terminal; anything but yes is a no. Raises `UsageError` where nobody is there."""
        if not self.can_ask():
            raise errors.UsageError(f"{question} There is no terminal to ask on; say --yes")
        self.err.write(f"{question} [y/N] ")
        self.err.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_read(stream: TextIO) -> bool:
    """Return False once nobody is left who could read a stream, as behind `| head -1`."""
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):
        return True
    return not stat.S_ISFIFO(mode) or not _is_ready(stream, 0, 0)


def _is_ready(stream: TextIO, event: int, timeout_s: float) -> bool:
    """Return whether a stream is ready for an event, or broken; one that is no file is ready."""
    try:
        number = stream.fileno()
    except (OSError, ValueError):
        return True
    poll = select.poll()
    poll.register(number, event)
    return bool(poll.poll(timeout_s * 1000))


def of_process(environ: Mapping[str, str]) -> Screen:
    """Return the screen of this process."""
    is_terminal = sys.stdout.isatty()
    width = _columns(environ) if is_terminal else None
    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM", "dumb") == "dumb"
    return Screen(sys.stdout, sys.stderr, is_terminal and not plain, width)


def _columns(environ: Mapping[str, str]) -> int:
    """Return the terminal's width, as shutil does, whose import costs more than all of a help text."""
    text = environ.get("COLUMNS", "")
    try:
        return (
            int(text)
            if text.isascii() and text.isdigit() and len(text) < 6 and int(text)
            else os.get_terminal_size(sys.stdout.fileno()).columns or _WIDTH
        )
    except (OSError, ValueError):
        return _WIDTH
