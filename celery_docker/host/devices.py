"""The devices of this host: what is at a path, by its numbers and the names that the kernel has for them.

Only looks, and opens none. The worker has a /dev of its own, so that celery-docker-open looks for it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from celery_docker.core.devices import Node

FOLDER = "/dev"
# The number of the drivers that share one; the next number of a device says which of them it is.
_MISC = 10
_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True)
class Place:
    """The mode and number of what is at a path. `is_swappable`: others than root can put another thing there."""

    mode: int
    number: int
    is_swappable: bool


def look(path: str) -> Node:
    """Look at a path with the rights of this process. Raises `OSError` as `place` does."""
    return node(place(path))


def place(path: str) -> Place:
    """Look at a path below /dev; raises `OSError`, `ELOOP` where a name in it is a link.

    No link is followed, and nothing is looked at below a folder that others than root can change: they could lead root
    to a file system that does not answer.
    """
    if not path.startswith(f"{FOLDER}/") or os.path.normpath(path) != path:
        raise _loop(path)
    for folder in [str(folder) for folder in Path(path).parents if folder.is_relative_to(FOLDER)][::-1]:
        about = os.lstat(folder)
        if stat.S_ISLNK(about.st_mode):
            raise _loop(path)
        if about.st_uid != 0 or about.st_mode & _OTHERS_MAY_WRITE:
            return Place(0, 0, is_swappable=True)
    about = os.lstat(path)
    if stat.S_ISLNK(about.st_mode):
        raise _loop(path)
    return Place(about.st_mode, about.st_rdev, is_swappable=False)


def _loop(path: str) -> OSError:
    return OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)


def node(place: Place) -> Node:
    """Return the device that is at a place, with the names that the kernel has for it."""
    if not stat.S_ISCHR(place.mode):
        return Node(is_character=False, is_block=stat.S_ISBLK(place.mode), is_swappable=place.is_swappable)
    major, minor = os.major(place.number), os.minor(place.number)
    drivers = _names("/proc/misc", minor) if major == _MISC else _names("/proc/devices", major)
    return Node(True, False, major, minor, drivers)


def _names(path: str, number: int) -> tuple[str, ...]:
    """Return the names behind a number; those of disks come after an empty line."""
    try:
        section = Path(path).read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return ()
    rows = [line.split(maxsplit=1) for line in section.splitlines()]
    return tuple(row[1].strip() for row in rows if len(row) == 2 and row[0] == str(number))
