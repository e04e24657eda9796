"""`@last`: the id of the job or batch that this user has submitted last, in a small file of theirs.

A home that is missing, full or read-only is no reason to fail: the job is in the queue already.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from celery_docker import errors
from celery_docker.cli.syntax import commandtable
from celery_docker.client import configfiles

_FILE = "celery-docker/last"


def remember(environ: Mapping[str, str], submitted: str) -> None:
    """Keep an id as the last one."""
    path = _path(environ)
    if path is None:
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_text(f"{submitted}\n")


def expand(environ: Mapping[str, str], name: str) -> str:
    """Return the id that was submitted last for `@last`, any other name as it is.

    Raises `NoSuchJob` where nothing was submitted yet.
    """
    if name != commandtable.LAST:
        return name
    path = _path(environ)
    with suppress(OSError, UnicodeDecodeError):
        job_id = path.read_text().strip() if path else ""
        if job_id:
            return job_id
    where = path or "no file: HOME is not set"
    raise errors.NoSuchJob(f"{name}: it is not known what you have submitted last ({where}); give the id")


def _path(environ: Mapping[str, str]) -> Path | None:
    folder = configfiles.home_folder(environ, "XDG_STATE_HOME", ".local/state")
    return folder / _FILE if folder else None
