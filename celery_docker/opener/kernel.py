"""The calls to the kernel that Python has not: openat2(2), and those that copy, change, move and remove mounts.

The only importer of `ctypes`. Each raises `OSError`.
"""

from __future__ import annotations

import ctypes
import os

# The same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _OPENAT2, _MOUNT_SETATTR = 428, 429, 437, 442
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_NO_MAGIC_LINKS, _NO_LINKS = 0x02, 0x04
_CLONE = 1
_READ_ONLY, _PRIVATE = 1, 1 << 18
_FROM_DESCRIPTOR = 4
_NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 2, 4, 8
_DETACH, _NO_FOLLOW = 2, 8

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class _Attributes(ctypes.Structure):
    _fields_ = (
        ("set", ctypes.c_uint64),
        ("clear", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("user_namespace", ctypes.c_uint64),
    )


def open_without_links(path: str, flags: int, mode: int = 0) -> int:
    """Open an absolute path in which no name may be a symbolic link; `ELOOP` if one is."""
    how = _How(flags | os.O_CLOEXEC, mode, _NO_LINKS | _NO_MAGIC_LINKS)
    return _checked(
        _libc.syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how)))
    )


def copy_of_tree(descriptor: int, *, read_only: bool) -> int:
    """Return a copy of what is seen at a descriptor, with all that is mounted below; it is mounted nowhere yet.

    Later mounts below the original do not come to the copy. `read_only` holds for every mount in it.
    """
    flags = _CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
    tree = _checked(_libc.syscall(_OPEN_TREE, descriptor, b"", flags))
    try:
        wanted = _Attributes(set=_READ_ONLY if read_only else 0, propagation=_PRIVATE)
        size = ctypes.c_size_t(ctypes.sizeof(wanted))
        flags = _AT_EMPTY_PATH | _AT_RECURSIVE
        _checked(_libc.syscall(_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(wanted), size))
    except OSError:
        os.close(tree)
        raise
    return tree


def mount_tree(tree: int, folder: int, name: str) -> None:
    """Mount a copy at a name in an open folder."""
    _checked(_libc.syscall(_MOVE_MOUNT, tree, b"", folder, os.fsencode(name), _FROM_DESCRIPTOR))


def mount_memory(path: str) -> None:
    """Mount an empty file system in memory, for root only."""
    flags = _NO_SUID | _NO_DEVICES | _NO_PROGRAMS
    _checked(_libc.mount(b"celery-docker", os.fsencode(path), b"tmpfs", ctypes.c_ulong(flags), b"mode=700,size=1m"))


def unmount(path: str) -> None:
    """Take a mount, and all below it, out of sight at once; whoever uses it keeps it. `EINVAL`: there is none."""
    _checked(_libc.umount2(os.fsencode(path), _DETACH | _NO_FOLLOW))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
