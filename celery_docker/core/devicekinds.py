"""Devices of the host in a job: what each may be, as in `kinds`.

Pure. Invariant: a path is written in one way only, and a device appears in the container's own /dev, at no place that
the kernel, Docker or a mount of the job's has.
"""

from __future__ import annotations

import re
from typing import Any

from celery_docker.core import gpus, kinds, listkinds

_FORM = "/dev/ttyUSB0"
_PART = r"(?!\.{1,2}(?:/|:|$))[^/:,\0\s]{1,64}"
_PATH = rf"/dev(?:/{_PART}){{1,8}}"
_DEVICE = re.compile(rf"({_PATH})(?::({_PATH}))?(?::([rwm]{{1,3}}))?")
_EVERYTHING = "rwm"
# What is in every container's /dev.
_TAKEN = (
    *("console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin"),
    *("stdout", "tty", "urandom", "zero"),
)


def _devices(value: Any) -> tuple[str, ...] | None:
    """Return devices as PATH:PATH IN THE CONTAINER:PERMISSIONS."""
    devices = [_device(text) for text in listkinds.texts(value, _FORM)]
    places = [place for _, place, _ in map(device_of, devices)]
    for place in places:
        if places.count(place) > 1:
            raise ValueError(
                f"has two devices for {place!r} in the container; name another place as in '{_FORM}:/dev/b'"
            )
    return tuple(devices) or None


def _device(text: str) -> str:
    if gpus.is_cdi(text) and gpus.is_name(text):
        raise ValueError(f"has {kinds.shown(text)}, which is a name of CDI; a job asks for GPUs by gpus")
    match = _DEVICE.fullmatch(text)
    permissions = (match[3] or _EVERYTHING) if match else ""
    if match is None or not text.isprintable() or len(set(permissions)) < len(permissions):
        raise ValueError(
            f"has {kinds.shown(text)}, which must be a device below /dev, as '{_FORM}' or '{_FORM}:/dev/meter:rw'"
        )
    place = match[2] or match[1]
    if place.split("/")[2] in _TAKEN:
        raise ValueError(f"has {kinds.shown(text)}: {place!r} is there in each container; name another place for it")
    return f"{match[1]}:{place}:{permissions}"


def device_of(text: str) -> tuple[str, str, str]:
    """Return the path on the host, the path in the container and the permissions of a parsed device."""
    path, place, permissions = text.split(":")
    return path, place, permissions


DEVICE = kinds.Kind(
    "PATH[:PATH[:rwm]]",
    _devices,
    {
        "type": "array",
        "maxItems": listkinds.MOST_ENTRIES,
        "items": {"type": "string", "pattern": "^/dev/[^/:][^:]*(?::/dev/[^/:][^:]*)?(?::[rwm]{1,3})?$"},
    },
)
