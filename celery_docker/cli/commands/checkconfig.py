"""The command `check-config`: the worker's own check of its settings and policy, run as systemd would run the worker.

In a process of its own: the command line knows no Celery, whose options are among the settings.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from celery_docker import errors
from celery_docker.cli import exitcodes
from celery_docker.cli.context import Context
from celery_docker.core import settings, textinput

_CHECK = ("-P", "-m", "celery_docker.worker.configuration")
# The package that this command is part of, wherever it runs from.
_PACKAGE = {"PYTHONPATH": str(Path(errors.__file__).parents[1])}
_TIMEOUT_S = 60


def check_config(context: Context) -> int:
    """Check a worker's settings and the policy that they name; return 78 if it could not start with them."""
    worker = context.text("--worker") or ""
    *shared, own = settings.files(worker)
    # Without its file systemd starts a worker too.
    files = [*filter(_is_there, shared), *(context.arguments.operands or filter(_is_there, [own]))]
    assignments: dict[str, str] = {}
    for path in files:
        lines = settings.read_assignments(_text(path))
        _note_unknown(context, path, lines)
        assignments |= lines
    process = subprocess.run(  # noqa: S603  # our own interpreter and module
        [sys.executable, *_CHECK],
        env={**_PACKAGE, settings.WORKER: worker, **assignments},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_S,
        check=False,
    )
    names = " and ".join(files) or own
    if process.returncode != 0:
        context.screen.note(f"{names}: {process.stderr.strip().removeprefix('celery-worker: ')}")
        return exitcodes.BAD_CONFIG
    reload = f"systemctl reload {settings.unit(worker)}"
    context.screen.data(f"{names} and the policy are in order; {reload} applies them")
    for line in process.stdout.splitlines():
        context.screen.data(line)
    return 0


def _is_there(path: str) -> bool:
    return Path(path).exists()


def _note_unknown(context: Context, path: str, names: Iterable[str]) -> None:
    for name in settings.unknown(names):
        close = get_close_matches(name, [setting.variable for setting in settings.SETTINGS], n=1)
        context.screen.note(f"{path}: {name} is not a setting{f'; is it {close[0]}?' if close else ''}")


def _text(path: str) -> str:
    try:
        return textinput.text(Path(path).read_bytes())
    except PermissionError as exc:
        raise errors.SettingsError(
            f"you may not read {path}: run this with sudo, or as a member of group celery"
        ) from exc
    except OSError as exc:
        raise errors.UsageError(f"cannot read {path}: {exc.strerror}; it must be a file of KEY=value lines") from exc
    except ValueError as exc:
        raise errors.UsageError(f"{path}: {exc}") from exc
