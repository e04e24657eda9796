"""The paths of a job on this host, followed to where they lead; nothing is told of places outside of given roots.

Outside, every path has the same answer, whether it exists or not. Where a job names no user, root looks, and whoever
submits it must not see through root's eyes.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

# As many as the kernel follows.
_MOST_LINKS = 40
_EVERYBODY_MAY_ENTER = 0o001


class Outside(Exception):
    """The path leads out of the roots, or to where not everybody may look. `exit`: where it left them, or empty."""

    def __init__(self, exit: str = "") -> None:
        super().__init__(exit)
        self.exit = exit


def is_under(path: str, roots: Sequence[str]) -> bool:
    """Return True for one of the roots and for what is below, by the names alone."""
    return any(PurePosixPath(path).is_relative_to(root) for root in roots)


def follow(path: str, roots: Sequence[str], *, must_exist: bool = True) -> str:
    """Return where an absolute path leads, without symbolic links.

    Raises `Outside`, and `OSError` for what is below a root and is not there or cannot be looked at; that only if it
    `must_exist`.
    """
    walk = _Walk(tuple(roots), must_exist, path.split("/")[::-1])
    while walk.pending:
        walk.step(walk.pending.pop())
    if not is_under(walk.place, roots):
        raise Outside(walk.exit)
    return walk.place


@dataclass
class _Walk:
    """A path on its way: `place` is where it has come, without links, and `pending` the names that are left, reversed.

    Links that lie outside of the roots are followed, as an administrator's /project to /data/project. For instance:

        path   /data/mine/l/x, where l is a link to /root/secret; the roots are /data
        step   /data, /data/mine: below a root; l is a link, so on with /root/secret/x
        step   /root: outside; it is there for everybody to see
        step   /root/secret: only root may enter /root, so the walk ends, whether there is such a file or not
    """

    roots: tuple[str, ...]
    must_exist: bool
    pending: list[str]
    place: str = "/"
    exit: str = ""
    _links: int = 0
    _was_inside: bool = False

    def step(self, name: str) -> None:
        if name in ("", "."):
            return
        if name == "..":
            self.place = os.path.dirname(self.place)
            return
        here = os.path.join(self.place, name)
        self._note(here)
        try:
            target = self._target(here)
        except OSError:
            if self.must_exist and is_under(here, self.roots):
                raise
            if self.must_exist:
                raise Outside(self.exit) from None
            target = None
        if target is None:
            self.place = here
            return
        self.pending += target.split("/")[::-1]
        if target.startswith("/"):
            self.place = "/"

    def _note(self, here: str) -> None:
        """Remember where the path leaves the roots; raise `Outside` where not everybody may look."""
        if is_under(here, self.roots):
            self._was_inside, self.exit = True, ""
        elif not _is_on_the_way(here, self.roots):
            if self._was_inside and not self.exit:
                self.exit = os.path.join(here, *self.pending[::-1])
            if not _is_open(self.place):
                raise Outside(self.exit)

    def _target(self, here: str) -> str | None:
        """Return the text of a link, None for what is no link. Raises `OSError`."""
        if not stat.S_ISLNK(os.lstat(here).st_mode):
            return None
        self._links += 1
        if self._links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), here)
        return os.readlink(here)


def _is_on_the_way(path: str, roots: Sequence[str]) -> bool:
    """Return True for the folders above a root."""
    return any(is_under(root, (path,)) for root in roots)


def _is_open(folder: str) -> bool:
    try:
        return bool(os.stat(folder).st_mode & _EVERYBODY_MAY_ENTER)
    except OSError:
        return False
