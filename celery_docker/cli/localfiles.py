"""Files and folders of this machine, as far as they show a mistake of the command line before a job is queued.

A path may be right on the host that runs the job and missing here: that is worth a note, and never a refusal.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery_docker import errors
from celery_docker.cli.syntax import parser


def check_image(arguments: parser.Arguments) -> None:
    """Raise `UsageError` where IMAGE is a file of this folder: the shell has expanded a pattern before it."""
    if not arguments.operands:
        return
    image = arguments.operands[0]
    patterns = arguments.flags.get("--each", ())
    was_expanded = bool(patterns) and not any(glob.has_magic(pattern) for pattern in patterns)
    if os.path.isfile(image) or (was_expanded and os.path.exists(image)):
        remedy = "quote a pattern like '*.csv', so that the shell does not expand it"
        raise errors.UsageError(
            f"{arguments.command.name}: IMAGE {image!r} is a file here; {remedy}; if it is an image, add its tag"
        )


def missing_input(arguments: parser.Arguments, path: str | None) -> str:
    """Return a note where a relative path was typed as input and is not here, like an image after docker's -i."""
    typed = arguments.flags.get("--input")
    if typed is None or path is None or typed.startswith(("/", "~")) or "{" in typed or os.path.lexists(path):
        return ""
    return (
        f"-i {typed}: there is no such file or folder here; the host that runs the job must have {path}; "
        "-i is --input, and --stdin - hands on the standard input"
    )


def check_outputs(jobs: Iterable[Mapping[str, Any]]) -> None:
    """Raise `SpecError` where the output folder of a job is a file."""
    for path in _outputs(jobs):
        if os.path.exists(path) and not os.path.isdir(path):
            raise errors.SpecError(f"--output: {path!r} is a file; name a folder")


def make_outputs(jobs: Iterable[Mapping[str, Any]], user: str | None) -> None:
    """Make the missing output folders of jobs that run as this user, where the user may; for None nobody is.

    No folder is made in `/`, where a path of another host would leave a trace on this one.
    """
    for path in _outputs(job for job in jobs if user is not None and job.get("user") == user):
        if not os.path.isdir(Path(path).parts[0] + Path(path).parts[1]):
            continue
        with suppress(OSError):
            os.makedirs(path, exist_ok=True)


def _outputs(jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(job["outputpath"] for job in jobs if job.get("outputpath") not in (None, "/")))
