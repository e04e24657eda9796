"""Facts about a terminal: colours, width, and whether somebody can answer."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from celery_docker import errors
from celery_docker.cli import screen, tables


@pytest.fixture
def terminal() -> Iterator[TextIO]:
    """A terminal of 60 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    with os.fdopen(theirs, "w") as stream:
        yield stream
    os.close(ours)


@pytest.mark.parametrize(
    ("environ", "colour", "width"),
    [
        ({"TERM": "xterm"}, True, 60),
        ({"TERM": "xterm", "COLUMNS": "100"}, True, 100),
        ({"TERM": "xterm", "COLUMNS": "wide"}, True, 60),
        ({"TERM": "xterm", "COLUMNS": "0"}, True, 60),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, 60),
        # Only a value that is not empty counts (no-color.org).
        ({"TERM": "xterm", "NO_COLOR": ""}, True, 60),
        ({"TERM": "dumb"}, False, 60),
        ({}, False, 60),
    ],
)
def test_a_terminal(
    terminal: TextIO, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], colour: bool, width: int
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal)
    output = screen.of_process(environ)
    assert (output.colour, output.width, output.is_terminal) == (colour, width, True)


def test_a_pipe_gets_neither_colour_nor_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    pipe = screen.of_process({"TERM": "xterm", "COLUMNS": "10"})
    assert (pipe.colour, pipe.width) == (False, None)
    pipe.table([tables.Column("state"), tables.Column("reason", may_shrink=True)], [("failed", "x" * 200)])
    assert f"failed  {'x' * 200}\n" in pipe.out.getvalue()  # type: ignore[attr-defined]


def test_a_narrow_terminal_cuts_what_may_be_cut() -> None:
    out = io.StringIO()
    columns = [tables.Column("state"), tables.Column("reason", may_shrink=True)]
    screen.Screen(out, out, colour=True, width=20).table(columns, [("failed", "x" * 200)])
    assert out.getvalue().splitlines()[1] == f"\x1b[31mfailed\x1b[0m  {'x' * 11}…"


def test_json_is_one_line_for_programs_and_text_as_it_is() -> None:
    out = io.StringIO()
    screen.Screen(out, out).json({"name": "größe"})
    assert out.getvalue() == '{"name": "größe"}\n'


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    err = io.StringIO()
    with pytest.raises(errors.UsageError, match=r"^Really\? There is no terminal to ask on; say --yes$"):
        screen.Screen(io.StringIO(), err).confirmed("Really?")
