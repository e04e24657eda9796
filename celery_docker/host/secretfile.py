"""A file of secrets, of root and the workers' group: written whole or not at all, its rights checked."""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import stat

OWNER = 0
GROUP = "celery"
MODE = 0o640
# What chown leaves a group as it is for.
_NO_GROUP = -1


def state(path: str) -> tuple[int, ...]:
    """Return what changes with each change of a file. Raises `OSError`."""
    about = os.stat(path)
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns


def read(path: str, most: int) -> bytes:
    """Return up to so many bytes of a file. Raises `OSError`, for a pipe too: nobody would write to it."""
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file", path)
        return file.read(most)


def write(path: str, text: bytes) -> None:
    """Put a text in place of the one that is there. Raises `OSError`; the file is as before then."""
    part = f"{path}.part"
    try:
        _write(part, text)
        os.rename(part, path)
        _sync(os.path.dirname(path))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def problems(path: str, danger: str) -> list[str]:
    """Return what is wrong with owner and mode of a file that is there, with the remedy.

    `danger` is what somebody can do who reads it. Raises `OSError`.
    """
    about = os.stat(path)
    mode, gid = stat.S_IMODE(about.st_mode), group()
    found = []
    if about.st_uid != OWNER or (gid != _NO_GROUP and about.st_gid not in (0, gid)):
        found.append(f"{path} belongs to {about.st_uid}:{about.st_gid}; chown root:{GROUP} {path}")
    if mode & ~MODE:
        found.append(f"{path} has mode {mode:04o}, and {danger}; chmod 0640 {path}")
    return found


def is_closed(path: str) -> bool:
    """Tell whether the workers' group cannot read a file, or enter its folder. Raises `OSError`.

    Where an access control list says more than the mode, it is taken to let them.
    """
    return not (_lets(os.path.dirname(path), stat.S_IXGRP, stat.S_IXOTH) and _lets(path, stat.S_IRGRP, stat.S_IROTH))


def to_read(path: str) -> str:
    """Return what to do for a file that is there, by a user who may not read it. Raises `OSError`."""
    if is_closed(path):
        return f"chown root:{GROUP} {path}; chmod 0640 {path}"
    return f"do it as root, or as a member of group {GROUP}"


def is_public(path: str) -> bool:
    """Tell whether everybody can read a file. Raises `OSError`."""
    return bool(os.stat(path).st_mode & stat.S_IROTH and os.stat(os.path.dirname(path)).st_mode & stat.S_IXOTH)


def _lets(path: str, of_group: int, of_others: int) -> bool:
    about = os.stat(path)
    return bool(about.st_mode & (of_group if about.st_gid == group() else of_others)) or _has_list(path)


def _has_list(path: str) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(path)
    except OSError:
        return False


def group() -> int:
    """Return the number of the workers' group, or that of no group where there is none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return _NO_GROUP


def _write(path: str, text: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(text)
        file.flush()
        # Others than root may give it to no group but their own.
        if os.geteuid() == 0:
            os.fchown(file.fileno(), -1, group())
        os.fchmod(file.fileno(), MODE)
        os.fsync(file.fileno())


def _sync(folder: str) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
