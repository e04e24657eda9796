"""The command `metrics`: the figures of all hosts and queues, printed or put into a file for node_exporter."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile

from celery_docker import errors
from celery_docker.cli.context import Context
from celery_docker.client import metrics as metrics_of
from celery_docker.core import kinds
from celery_docker.store.figurequeries import Figures

_MODE = 0o644


def metrics(context: Context) -> int:
    """Print the figures, or put them into a file; where Redis does not answer they say so, and this raises it."""
    problem: errors.CeleryDockerError | None = None
    read: Figures | None = None
    try:
        with context.client() as client:
            read = client.figures.read()
    except (errors.StoreAway, errors.StoreRefused) as exc:
        problem = exc
    # Its library takes as long to import as everything else together.
    from celery_docker.client import exposition

    text = exposition.text(metrics_of.of(read))
    path = context.text("--textfile")
    if path is None:
        context.screen.raw(text)
    else:
        _replace(path, text)
    if problem is not None:
        raise problem
    return 0


def _replace(path: str, text: bytes) -> None:
    """Put a text in place of a file; whoever reads it meanwhile has the one before. Raises `UsageError`."""
    try:
        target = os.path.realpath(path)
        if os.path.lexists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise errors.UsageError(
                f"metrics: --textfile {kinds.shown(path)} is no file; leave --textfile out to have them printed"
            )
        _write(target, text)
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise errors.UsageError(
            f"metrics: --textfile {kinds.shown(path)} cannot be written: {why}; name a file in a folder that you may "
            "write to"
        ) from exc


def _write(path: str, text: bytes) -> None:
    # node_exporter reads what ends with .prom, and so not this one.
    number, part = tempfile.mkstemp(prefix=f".{os.path.basename(path)[:100]}.", dir=os.path.dirname(path))
    try:
        with open(number, "wb") as file:
            file.write(text)
            file.flush()
            os.fchmod(number, _MODE)
            os.fsync(number)
        os.rename(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise
