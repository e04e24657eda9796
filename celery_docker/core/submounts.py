"""The file systems that are mounted below a folder, from the kernel's table of mounts (proc_pid_mountinfo(5)). Pure.

A read-only bind mount is read-only at its top alone: each file system below needs one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_ESCAPE = re.compile(r"\\([0-7]{3})")
# The place of an automount, whose file system comes when somebody looks; in a container it never does.
_AUTOMOUNT = "autofs"


@dataclass(frozen=True)
class _Mount:
    number: str
    parent: str
    place: str
    kind: str


def below(mountinfo: str, folder: str) -> list[str]:
    """Return the places below a folder at which another file system is seen, the upper ones first.

    `folder` has no links and no slash at its end. A mount that another one hides is left out.
    """
    mounts = list(_parsed(mountinfo))
    tree = {(mount.parent, mount.place): mount for mount in mounts if mount.parent != mount.number}
    numbers = {mount.number for mount in mounts}
    tops = [mount for mount in mounts if mount.parent == mount.number or mount.parent not in numbers]
    prefix = f"{folder.rstrip('/')}/"
    places = {
        mount.place
        for mount in mounts
        if mount.place.startswith(prefix)
        and mount.place != prefix
        and mount.kind != _AUTOMOUNT
        and any(_seen_at(mount.place, top, tree) is mount for top in tops)
    }
    return sorted(places, key=lambda place: (place.count("/"), place))


def _seen_at(place: str, top: _Mount, tree: Mapping[tuple[str, str], _Mount]) -> _Mount:
    """Return the mount that is seen at a place. For instance /a/b is mounted, and /a after it:

    the table   mount 2 of /a/b on the root, mount 3 of /a on the root
    the way     at /a to mount 3, on which nothing is mounted at /a/b: mount 2 is hidden
    """
    current, path = top, ""
    for name in place.split("/"):
        path = f"{path.rstrip('/')}/{name}"
        while (upper := tree.get((current.number, path))) is not None:
            current = upper
    return current


def _parsed(mountinfo: str) -> Iterator[_Mount]:
    # A path may have any other character at which Python would end a line.
    for line in mountinfo.split("\n"):
        fields = line.split(" ", 5)
        if len(fields) > 5:
            place = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
            yield _Mount(fields[0], fields[1], place, line.partition(" - ")[2].partition(" ")[0])
