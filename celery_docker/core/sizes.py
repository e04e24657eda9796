"""Sizes in bytes as people write them, and how much memory a container may have. Pure."""

from __future__ import annotations

import re
from typing import Any

# As docker run reads them: 2g, 2GB, 2Gi and 2GiB are the same.
_SIZE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?(?:([kmgt])i?)?b?", re.ASCII | re.IGNORECASE)
_RULE = "must be a number of bytes, or one with k, m, g or t, like '512m'"
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# Docker's own minimum; the maximum keeps the number one that every JSON reader knows.
_LEAST_MEMORY, _MOST_MEMORY = 6 * 2**20, 2**50
# A page of the kernel's. What is asked for less is taken for no limit by some.
_LEAST_SPACE = 2**12

MEMORY_SCHEMA = {
    "type": ["integer", "string"],
    "minimum": _LEAST_MEMORY,
    "maximum": _MOST_MEMORY,
    "pattern": r"^[0-9]{1,18}(\.[0-9]{1,18})?([kmgtKMGT][iI]?)?[bB]?$",
}
SPACE_SCHEMA = {**MEMORY_SCHEMA, "minimum": _LEAST_SPACE}


def shown(size: int) -> str:
    """Return bytes as `docker run` takes them where that is exact (`512m`), else the number in words."""
    for unit in "tgmk":
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return f"{size} bytes"


def parse(text: str) -> int:
    """Return the bytes that a size like `512m` or `1.5g` means (powers of 1024, as Docker counts).

    Raises `ValueError` that says what is allowed.
    """
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise ValueError(_RULE)
    whole, fraction = match[1], match[2] or ""
    return int(whole + fraction) * _UNITS[(match[3] or "").lower()] // int("1" + "0" * len(fraction))


def parse_memory(value: Any) -> int:
    """Return a memory limit in bytes from a number or a size; raises `ValueError` that says what is allowed."""
    return _bounded(value, _LEAST_MEMORY, ", the least that Docker accepts")


def parse_space(value: Any) -> int:
    """Return the size in bytes of a file system in memory, like `parse_memory`."""
    return _bounded(value, _LEAST_SPACE, "")


def _bounded(value: Any, least: int, why: str) -> int:
    size = parse(value) if isinstance(value, str) else value
    if not isinstance(size, int) or isinstance(size, bool):
        raise ValueError(_RULE)
    if size < least:
        raise ValueError(f"must be at least {shown(least)}{why}")
    if size > _MOST_MEMORY:
        raise ValueError(f"must be at most {shown(_MOST_MEMORY)}")
    return size
