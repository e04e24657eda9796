"""Log files of a batch as this machine sees them: two names of one file are found before a job is queued."""

from __future__ import annotations

import functools
import os.path
from collections.abc import Sequence

from celery_docker.core import sharedlogs
from celery_docker.core.batch import Expanded


def check(jobs: Sequence[Expanded]) -> None:
    """Raise `BatchError` where jobs share a log file, also by a symlink or another spelling of its path."""
    folders = functools.cache(os.path.realpath)

    def real(path: str) -> str:
        folder, name = os.path.split(path)
        if name in ("", ".", ".."):
            return os.path.realpath(path)
        path = os.path.join(folders(folder), name)
        return os.path.realpath(path) if os.path.islink(path) else path

    sharedlogs.check(jobs, real)
