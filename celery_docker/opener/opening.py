"""Paths of a job, opened with the rights of this process; `asuser` gives it those of a user.

The path of a folder is followed first, as `paths.follow` tells where it leads and what may be told of it. Then it is
opened at that place, where no name may be a link any more: whoever puts one there meanwhile has the path followed
again. A log is opened where its path led when it was judged.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence

from celery_docker.host import paths
from celery_docker.opener import kernel

# Somebody who swaps a link every few milliseconds is met a few times in a row.
_MOST_TRIES = 50
# The last: a link became a folder before it was read.
_SWAPPED = (errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EINVAL)
_LOG_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
_LOG_MODE = 0o644


def open_mount(path: str, roots: Sequence[str]) -> int:
    """Return a descriptor of what a job's container is to see. Raises `Outside` and `OSError`."""
    return _until_it_stays(lambda: _opened(paths.follow(path, roots), os.O_PATH))


def open_log(place: str) -> int:
    """Return a descriptor of a log file, to append to, at a place that was followed and judged; its folders are made.

    Raises `OSError`, as where there is a link by now.
    """

    def opened() -> int:
        _make_folder(os.path.dirname(place))
        return _opened(place, _LOG_FLAGS, _LOG_MODE)

    return _until_it_stays(opened)


def place_of(descriptor: int) -> str:
    """Return the path of what is open, by which it is judged."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _until_it_stays(attempt: Callable[[], int]) -> int:
    for _ in range(_MOST_TRIES):
        try:
            return attempt()
        except OSError as exc:
            if exc.errno not in _SWAPPED:
                raise
            last = exc
    raise last


def _opened(place: str, flags: int, mode: int = 0) -> int:
    descriptor = kernel.open_without_links(place, flags, mode)
    # The folder may have been moved away since: the path of what was opened counts, not the one that was asked for.
    if place_of(descriptor) != place:
        os.close(descriptor)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), place)
    return descriptor


def _make_folder(place: str) -> None:
    """Make a folder and those above, without following a link."""
    try:
        os.close(_opened(place, os.O_PATH | os.O_DIRECTORY))
        return
    except FileNotFoundError:
        _make_folder(os.path.dirname(place))
    upper = _opened(os.path.dirname(place), os.O_PATH | os.O_DIRECTORY)
    try:
        os.mkdir(os.path.basename(place), dir_fd=upper)
    finally:
        os.close(upper)
