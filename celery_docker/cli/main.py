"""The command `celery-docker`: finds the command that was typed, calls it, and turns its end into an exit status.

Imports nothing slow: help, completion and complaints are there before Redis could be imported. A command's own
imports wait until it is called.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, TextIO

from celery_docker import errors
from celery_docker.cli import exitcodes, screen
from celery_docker.cli.syntax import flagtable, parser
from celery_docker.cli.syntax.grammar import PROGRAM, Flag

if TYPE_CHECKING:
    from celery_docker.cli import context

_IN, _OUT, _ERR = 0, 1, 2


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Do what the arguments say; return the exit status."""
    _open_closed()
    _prepare(sys.stdout, sys.stderr)
    terminal = screen.of_process(os.environ if environ is None else environ)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = _status(sys.argv[1:] if argv is None else argv, os.environ if environ is None else environ, terminal)
        terminal.out.flush()
    except KeyboardInterrupt as exc:  # while the last of it was written, to somebody who does not read
        _forget(_OUT)
        return exitcodes.of_interruption(exc)
    except BrokenPipeError:
        _forget(_OUT, _ERR)
        return exitcodes.READER_GONE
    except OSError as exc:
        _forget(_OUT)
        try:
            terminal.note(f"{PROGRAM}: cannot write the output: {exc.strerror}")
        except OSError:
            _forget(_ERR)
        return exitcodes.NOT_RUN
    return status


def _status(argv: Sequence[str], environ: Mapping[str, str], terminal: screen.Screen) -> int:
    try:
        arguments = parser.parse(argv)
        if isinstance(arguments, Flag):
            _about_program(arguments, terminal)
            return 0
        if arguments.is_set(flagtable.HELP):
            from celery_docker.cli.syntax import helptext

            terminal.data(helptext.of(arguments.command))
            return 0
        from celery_docker.cli import context

        return _function(arguments)(context.Context(arguments, environ, terminal))
    except errors.CeleryDockerError as exc:
        terminal.note(f"{PROGRAM}: {_lines(exc)}")
        return exitcodes.of_error(exc)
    except KeyboardInterrupt as exc:
        for line in getattr(exc, "__notes__", ()):
            terminal.note(f"{PROGRAM}: {line}")
        return exitcodes.of_interruption(exc)


def _lines(exc: errors.CeleryDockerError) -> str:
    """Return an error for a terminal: in one line, or one for each problem of a batch."""
    from celery_docker.core import wording

    lines = str(exc).split("\n") if isinstance(exc, errors.BatchError) else [str(exc)]
    return "\n".join(map(wording.harmless, lines))


def _about_program(flag: Flag, terminal: screen.Screen) -> None:
    if flag is flagtable.VERSION:
        from celery_docker import version as package

        terminal.data(f"{PROGRAM} {package.version() or '0+source'}")
        return
    from celery_docker.cli.syntax import helptext

    terminal.data(helptext.overview())


def _function(arguments: parser.Arguments) -> Callable[[context.Context], int]:
    module = import_module(f"celery_docker.cli.commands.{arguments.command.module}")
    function: Callable[[context.Context], int] = getattr(module, arguments.command.function)
    return function


def _open_closed() -> None:
    """Open what the caller has closed, as empty: otherwise the next file or socket would take its number."""
    for name, number, mode in (("stdin", _IN, "r"), ("stdout", _OUT, "w"), ("stderr", _ERR, "w")):
        if getattr(sys, name) is None:
            _forget(number)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def _prepare(*streams: TextIO) -> None:
    """Let a name that this terminal has no letters for be written all the same, and not end the command."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def _forget(*numbers: int) -> None:
    """Let nothing come of these streams any more: Python would try to write the rest at its end."""
    for number in numbers:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
