"""Further mounts of a job's container, in docker run's two notations and as tables: what each may be, as in `kinds`.

`HOST:CONTAINER[:ro]` is that of -v, `type=bind,source=HOST,target=CONTAINER,readonly` that of --mount; a table has the
names of the latter. Pure; whether a path exists is not known here. Invariant: what stands in a mount is what its
submitter wrote for it, whatever characters it has: a flag is divided before anything is filled in.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from celery_docker.core import kinds, listkinds, tmpfskinds

# More trees at which nothing of the host is mounted: by the files in /etc users and groups are known, in /sbin and /run
# lies what Docker and Podman put into each container, and a home is made at the rest.
TAKEN = (*tmpfskinds.TAKEN, "/etc", "/run", "/sbin", "/home/celery-docker")
_BIND, _TMPFS = "bind", "tmpfs"
_FORM = "HOST:CONTAINER[:ro], or type=bind,source=HOST,target=CONTAINER"
_NAMES = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly"}
_SIZE, _MODE = "tmpfs-size", "tmpfs-mode"
_KNOWN = {_BIND: ("type", "source", "target", "readonly"), _TMPFS: ("type", "target", "readonly", _SIZE, _MODE)}
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
_SWITCHES = ("readonly", "ro")
# The beginning of a text for --mount. What -v takes begins with a path.
_PAIR = re.compile(rf'"?(?:[a-z][a-z0-9-]*=|(?:{"|".join(_SWITCHES)})(?:,|$))', re.ASCII)
_PROPAGATION = "what is mounted on the host later comes to no job"
_SELINUX = "labels of SELinux are the host's own"
_MEANINGLESS = "means nothing to Linux"
_VOLUMES = "a job has no volumes of Docker, which each host has for itself; name a folder of the worker's host"
_NOT_MADE = "a folder that is missing on the host is not made"
_REFUSED: Mapping[str, str] = {
    **dict.fromkeys(("z", "Z"), _SELINUX),
    **dict.fromkeys(("shared", "slave", "private", "rshared", "rslave", "rprivate", "bind-propagation"), _PROPAGATION),
    **dict.fromkeys(("consistent", "cached", "delegated", "consistency"), _MEANINGLESS),
    **dict.fromkeys(("bind-nonrecursive", "bind-recursive"), "file systems that are mounted below come along, always"),
    **dict.fromkeys(("bind-create-src", "bind-create-host-path"), _NOT_MADE),
    **dict.fromkeys(("nocopy", "volume", "npipe", "cluster", "image", "volume-nocopy", "volume-driver"), _VOLUMES),
    **dict.fromkeys(("volume-opt", "volume-label", "volume-subpath", "image-subpath"), _VOLUMES),
}


@dataclass(frozen=True)
class Mount:
    """A file or folder of the worker's host, and where the container has it."""

    source: str
    target: str
    is_read_only: bool = False

    def table(self) -> dict[str, Any]:
        """Return the mount as a job document has it."""
        about = {"type": _BIND, "source": self.source, "target": self.target}
        return about | ({"readonly": True} if self.is_read_only else {})


@dataclass(frozen=True)
class MemoryMount:
    """An empty folder in memory, which the field `tmpfs` has as well; `options` are as there."""

    target: str
    options: str

    def table(self) -> dict[str, Any]:
        """Return the mount as a job document has it."""
        words = dict(option.partition("=")[::2] for option in self.options.split(",") if option)
        names = {"ro": ("readonly", True), "size": (_SIZE, words.get("size")), "mode": (_MODE, words.get("mode"))}
        return {"type": _TMPFS, "target": self.target} | dict(names[word] for word in words)


def divided(mounts: Sequence[Mount | MemoryMount]) -> tuple[tuple[Mount, ...], dict[str, str]]:
    """Return those of the host, and the options of those in memory by folder."""
    of_host = tuple(mount for mount in mounts if isinstance(mount, Mount))
    return of_host, {mount.target: mount.options for mount in mounts if isinstance(mount, MemoryMount)}


def nested(mounts: Sequence[Mount], folders: Sequence[str]) -> list[str]:
    """Return a problem for each mount that lies in another one, or in one of the folders in memory, or around it.

    Docker would make the inner folder in the outer one: on the host, as root.
    """
    targets = [*(mount.target for mount in mounts), *folders]
    pairs = [(mount.target, other) for place, mount in enumerate(mounts) for other in targets[place + 1 :]]
    return [
        f"mounts: {kinds.shown(target)} and {kinds.shown(other)} lie in one another; mount each at a folder of its own"
        for target, other in pairs
        if is_within(target, other) or is_within(other, target)
    ]


def is_within(path: str, folder: str) -> bool:
    """Return True for a folder and for what is below it, by the names alone."""
    return PurePosixPath(path).is_relative_to(folder)


def completed(value: Any, complete: Callable[[str], str]) -> Any:
    """Return mounts, as a document has them, with the paths of the host completed; what is none stays as it is."""
    if not isinstance(value, list | tuple):
        return value
    return [_completed(mount, complete) for mount in value]


def _completed(mount: Any, complete: Callable[[str], str]) -> Any:
    try:
        table = _from_text(mount) if isinstance(mount, str) else mount
    except ValueError:
        return mount
    if not isinstance(table, Mapping) or not isinstance(table.get("source"), str):
        return mount
    return {**table, "source": complete(table["source"])}


def _mounts(value: Any) -> tuple[Mount | MemoryMount, ...] | None:
    listkinds.check_number(value)
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of what the container sees of the worker's host, like ['/data/ref:/ref:ro']")
    mounts = tuple(_mount(_from_text(entry) if isinstance(entry, str) else entry) for entry in value)
    targets = [mount.target for mount in mounts]
    twice = next((target for target in targets if targets.count(target) > 1), None)
    if twice is not None:
        raise ValueError(f"{kinds.shown(twice)} has two mounts; give each a place of its own in the container")
    return mounts or None


def _mount(entry: Any) -> Mount | MemoryMount:
    if isinstance(entry, Mount | MemoryMount):
        return entry
    if not isinstance(entry, Mapping) or not all(isinstance(name, str) for name in entry):
        raise ValueError(f"{kinds.shown(entry)} must be a text like '/data/ref:/ref:ro', or a table of these words")
    table = _renamed(entry)
    kind = table.get("type")
    _check_names(table, kind)
    shown = kinds.shown(table.get("target"))
    if table.get("target") is None:
        raise ValueError(f"{kinds.shown(dict(entry))} has no target, the place in the container")
    try:
        target = tmpfskinds.place(table["target"], TAKEN if kind == _BIND else tmpfskinds.TAKEN)
    except ValueError as exc:
        raise ValueError(f"{shown} {exc}") from exc
    is_read_only = _boolean(table.get("readonly", False), shown)
    if kind == _BIND:
        return Mount(_source(table.get("source"), shown), target, is_read_only)
    return MemoryMount(target, _memory_options(target, table, is_read_only=is_read_only))


def _memory_options(target: str, table: Mapping[str, Any], *, is_read_only: bool) -> str:
    words = [f"{word}={table[name]}" for word, name in (("size", _SIZE), ("mode", _MODE)) if name in table]
    if any("," in word for word in words):
        raise ValueError(f"{kinds.shown(target)} has a comma in its size or mode")
    try:
        return tmpfskinds.options(target, ",".join([*words, *(["ro"] if is_read_only else [])]))
    except ValueError as exc:
        raise ValueError(f"type={_TMPFS} {exc}") from exc


def _renamed(entry: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for name, value in entry.items():
        known = _NAMES.get(name, name)
        if known in table:
            raise ValueError(f"{kinds.shown(dict(entry))} says {kinds.shown(known)} twice")
        table[known] = value
    return {name: value for name, value in table.items() if value is not None}


def _check_names(table: Mapping[str, Any], kind: Any) -> None:
    if kind is None:
        raise ValueError(f"{kinds.shown(dict(table))} has no type; write type={_BIND}, or type={_TMPFS}")
    if not isinstance(kind, str) or kind not in _KNOWN:
        raise ValueError(f"type {kinds.shown(kind)} {_why(kind, 'is none of ' + ', '.join(_KNOWN))}")
    for name in table:
        if name not in _KNOWN[kind]:
            known = f"is not known with type={kind}; there are {', '.join(_KNOWN[kind])}"
            raise ValueError(f"option {kinds.shown(name)} {_why(name, known)}")


def _why(word: Any, otherwise: str) -> str:
    """Return the reason for which a word of docker run is refused, or what is said of any other."""
    reason = _REFUSED.get(word) if isinstance(word, str) else None
    return f"is refused: {reason}" if reason else otherwise


def _source(value: Any, target: str) -> str:
    if value is None:
        raise ValueError(f"{target} has no source, the path on the worker's host")
    try:
        return str(_ON_THE_HOST.parse(value))
    except ValueError as exc:
        raise ValueError(f"{target} is of {kinds.shown(value)}, which {exc}") from exc


def _boolean(value: Any, target: str) -> bool:
    flag = _BOOLEANS.get(value) if isinstance(value, str) else value
    if not isinstance(flag, bool):
        raise ValueError(f"{target} has readonly = {kinds.shown(value)}, which must be true or false")
    return flag


def _from_text(text: str) -> dict[str, Any]:
    """Return the table that a text of -v or --mount stands for. Raises `ValueError`."""
    kinds.parse_text(text)
    return _of_pairs(text) if _PAIR.match(text) else _of_parts(text)


def _of_pairs(text: str) -> dict[str, Any]:
    try:
        (cells,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError) as exc:
        raise ValueError(f"{kinds.shown(text)} must be one line of CSV, as docker run --mount has it") from exc
    table: dict[str, Any] = {}
    for cell in cells:
        name, equals, value = cell.partition("=")
        name = _NAMES.get(name, name)
        if not equals and name not in _SWITCHES:
            raise ValueError(f"{kinds.shown(text)} has {kinds.shown(cell)}, which must be NAME=VALUE")
        if name in table:
            raise ValueError(f"{kinds.shown(text)} says {kinds.shown(name)} twice")
        table[name] = value if equals else True
    return table


def _of_parts(text: str) -> dict[str, Any]:
    source, *rest = text.split(":")
    if not rest:
        raise ValueError(f"{kinds.shown(text)} must be {_FORM}; an empty folder is one in memory, tmpfs")
    if not source or not ("/" in source or "{" in source or source.startswith((".", "~"))):
        raise ValueError(f"{kinds.shown(text)} names a volume: {_VOLUMES}, as /data/ref or ./ref")
    target, *modes = rest
    words = ",".join(modes).split(",") if modes else []
    for word in words:
        if word not in ("ro", "rw"):
            colon = f"is neither ro nor rw; a path with ':' needs type={_BIND},source=PATH,target=PLACE"
            raise ValueError(f"{kinds.shown(text)} has {kinds.shown(word)}, which {_why(word, colon)}")
    if len(words) > 1:
        raise ValueError(f"{kinds.shown(text)} says twice what may be done there; write ro or rw")
    return {"type": _BIND, "source": source, "target": target} | ({"readonly": True} if words == ["ro"] else {})


_ON_THE_HOST = kinds.path("on the worker's host")
_TABLE = {
    "type": "object",
    "properties": {
        "type": {"enum": list(_KNOWN)},
        **{name: {"type": "string"} for name in ("source", "src", "target", "dst", "destination")},
        **{name: {"type": ["boolean", "string"]} for name in _SWITCHES},
        _SIZE: {"type": ["integer", "string"]},
        _MODE: {"type": "string"},
    },
    "required": ["type"],
    "additionalProperties": False,
}
MOUNT = kinds.Kind(
    "HOST:CONTAINER[:ro]|type=...",
    _mounts,
    {
        "type": "array",
        "maxItems": listkinds.MOST_ENTRIES,
        "items": {"anyOf": [{"type": "string", "pattern": "[:=]"}, _TABLE]},
    },
    _from_text,
    shown=False,
)
