"""The command line: called in this process, which is 0.3 s cheaper, or as a process of its own.

What hangs on a terminal, a signal or a closed stream is for a process. That both say the same is tested for every
command in tests/integration/test_cli.py.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from subprocess import CompletedProcess
from unittest import mock

from celery_docker.cli import main

ROOT = Path(__file__).parents[1]
_LIMIT_S = 120


def environ(broker_url: str, home: Path) -> dict[str, str]:
    """Return the environment of somebody with this queue and this home."""
    place = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)}
    return place | {"CELERY_DOCKER_BROKER_URL": broker_url}


def process(*line: str) -> list[str]:
    """Return what starts the command as a process of its own."""
    return [sys.executable, "-m", "celery_docker.cli", *line]


def call(*line: str, environ: Mapping[str, str], input: str = "", folder: Path | None = None) -> CompletedProcess[str]:
    """Return the exit status and output of a process with this environment and standard input, in this folder.

    What would be a traceback there is raised here, and `AssertionError` where it does not end.
    """
    stdin, out, err = (_stream(text) for text in (input, "", ""))
    with (
        mock.patch.object(sys, "argv", ["celery-docker", *line]),
        mock.patch.object(sys, "stdin", stdin),
        mock.patch.dict(os.environ, environ, clear=True),
        # A library that warns does so on the standard error, and not in pytest's log.
        mock.patch.object(logging.getLogger(), "handlers", []),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(folder or Path.cwd()),
        _limited(),
    ):
        status = main.main()
    return CompletedProcess(line, status, _text(out), _text(err))


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def give_up(*_: object) -> None:
        raise AssertionError(f"the command has not ended after {_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _stream(text: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8")


def _text(stream: io.TextIOWrapper) -> str:
    stream.seek(0)
    return stream.read()
