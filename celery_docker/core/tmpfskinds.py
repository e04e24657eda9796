"""Empty folders in memory of a job's container: what each may be, as in `kinds`.

Pure. Invariant: what is accepted here, every Docker of today starts; what Docker would refuse only at the start of the
container, or take for something else, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from celery_docker.core import kinds, listkinds, ownfolder, sizes

# The trees of a container that are the kernel's, Docker's, a job's mounts or ours.
TAKEN = ("/proc", "/sys", "/dev", "/input", "/output", ownfolder.FOLDER)
# Of a folder's name, for the kernel; of its path, so that Docker's own folders can stand before it.
_MOST_NAME_BYTES, _MOST_FOLDER_BYTES = 255, 1024
_TMPFS_FLAGS = {"rw": "ro", "ro": "rw", "exec": "noexec", "noexec": "exec", "nosuid": "", "nodev": ""}
_MODE = re.compile(r"[0-7]{3,4}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)


def _tmpfs(value: Any) -> dict[str, str] | None:
    """Return options by folder; as in docker run, the last one of a folder counts."""
    mounts = {_folder(path): options(path, text) for path, text in listkinds.pairs(value, ":", "/scratch:size=1g")}
    return mounts or None


def _folder(path: str) -> str:
    try:
        return place(path, TAKEN)
    except ValueError as exc:
        raise ValueError(f"has {kinds.shown(path)}, which {exc}") from exc


def place(path: Any, taken: Sequence[str]) -> str:
    """Return the path in a container at which something can be mounted; it is in none of the `taken` trees.

    Raises `ValueError` with words that go on after the path.
    """
    text: str = _IN_CONTAINER.parse(path)
    if path.startswith("//") or str(PurePosixPath(text)) != text or ".." in PurePosixPath(text).parts:
        raise ValueError("must be written without '..', '.' and '//'")
    if ":" in text or len(text.encode()) > _MOST_FOLDER_BYTES:
        raise ValueError(f"must have no ':' and at most {_MOST_FOLDER_BYTES:,} bytes")
    if any(len(part.encode()) > _MOST_NAME_BYTES for part in PurePosixPath(text).parts):
        raise ValueError(f"must have no name of more than {_MOST_NAME_BYTES} bytes")
    if text == "/" or any(PurePosixPath(text).is_relative_to(tree) for tree in taken):
        remedy = "; shm_size is the size of /dev/shm" if text == "/dev/shm" else ""  # noqa: S108  # the container's
        raise ValueError(f"must lie outside of {', '.join(taken)}{remedy}")
    return text


def options(path: str, value: Any) -> str:
    """Return the options of a tmpfs as Docker takes them. Raises `ValueError` that names the `path`."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"has {kinds.shown(path)} with {kinds.shown(value)}, which must be a string of options")
    given: dict[str, str] = {}
    for option in value.split(",") if value else ():
        name, equals, text = option.partition("=")
        if name in given or _TMPFS_FLAGS.get(name, "") in given:
            raise ValueError(f"has {kinds.shown(path)} with {kinds.shown(value)}, which says twice what {name!r} says")
        if name not in (_VALUES if equals else _TMPFS_FLAGS):
            raise ValueError(
                f"has {kinds.shown(path)} with {kinds.shown(option)}, which is none of size=N[k|m|g], mode=1777, "
                f"uid=N, gid=N, {', '.join(_TMPFS_FLAGS)}"
            )
        try:
            given[name] = f"{name}={_VALUES[name](text)}" if equals else name
        except ValueError as exc:
            raise ValueError(f"has {kinds.shown(path)} with {kinds.shown(option)}: {name} {exc}") from exc
    return ",".join(given.values())


def _mode(text: str) -> str:
    if not _MODE.fullmatch(text):
        raise ValueError("must be three or four digits from 0 to 7, like 1777")
    return text


def _id(text: str) -> int:
    if not _NUMBER.fullmatch(text) or int(text) > kinds.MAX_ID:
        raise ValueError(f"must be a number from 0 to {kinds.MAX_ID}")
    return int(text)


_VALUES: Mapping[str, Callable[[str], Any]] = {
    "size": sizes.parse_space,
    "mode": _mode,
    "uid": _id,
    "gid": _id,
}


def size_of_tmpfs(options: str) -> int | None:
    """Return the size in bytes among the options of a parsed tmpfs; None: half of the host's memory."""
    sizes_ = [option.partition("=")[2] for option in options.split(",") if option.startswith("size=")]
    return int(sizes_[0]) if sizes_ else None


_IN_CONTAINER = kinds.path("in the container")
TMPFS = kinds.Kind(
    "PATH[:OPTIONS]",
    _tmpfs,
    listkinds.table({"additionalProperties": {"type": ["string", "null"]}}, "^/[^:]+(?::[a-z0-9=.,BKMGTi]*)?$"),
)
