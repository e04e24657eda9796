"""Limits of a job's container: what each may be, as in `kinds`.

Pure. Invariant: what is accepted here, every Docker of today starts; what Docker would refuse only at the start of the
container, or take for something else, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from celery_docker.core import kinds, listkinds, sizes

# The init of a container and its command; and as many as the kernel can count.
_LEAST_PIDS, _MOST_PIDS = 2, 2**22
# The least of each. Docker needs some open files to start a container, and the kernel ends what may use no CPU.
ULIMITS: Mapping[str, int] = {
    "core": 0,
    "cpu": 1,
    "fsize": 0,
    "memlock": 0,
    "msgqueue": 0,
    "nice": 0,
    "nofile": 64,
    "rtprio": 0,
    "rttime": 0,
    "sigpending": 0,
    "stack": 0,
}
UNLIMITED = -1
# The greatest number that every JSON reader knows.
_MOST_ULIMIT = 2**53 - 1
_NO_ULIMITS = {
    "nproc": "counts the processes of the user on the whole host; set pids_limit",
    "as": "is not one that Docker can set; set memory",
    "data": "ends the container before its command begins; set memory",
    "rss": "means nothing to Linux; set memory",
    "locks": "means nothing to Linux",
}
_ULIMIT = re.compile(r"(-1|[0-9]{1,16})(?::(-1|[0-9]{1,16}))?", re.ASCII)


def _ulimits(value: Any) -> dict[str, str] | None:
    """Return soft and hard limits as `SOFT:HARD`, by name; as in docker run, the last one of a name counts."""
    limits = {name: _ulimit(name, limit) for name, limit in listkinds.pairs(value, "=", "nofile=1024:2048")}
    return limits or None


def _ulimit(name: str, value: Any) -> str:
    if name in _NO_ULIMITS:
        raise ValueError(f"has {name!r}, which {_NO_ULIMITS[name]}")
    if name not in ULIMITS:
        raise ValueError(f"has {kinds.shown(name)}, which is none of {', '.join(ULIMITS)}")
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _ULIMIT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"has {name} = {kinds.shown(value)}, which must be SOFT or SOFT:HARD, like '1024:2048'")
    soft, hard = int(match[1]), int(match[2] or match[1])
    if any(number != UNLIMITED and not ULIMITS[name] <= number <= _MOST_ULIMIT for number in (soft, hard)):
        raise ValueError(
            f"has {name} = {kinds.shown(value)}, which must be from {ULIMITS[name]} to {_MOST_ULIMIT}, or -1: unlimited"
        )
    if hard != UNLIMITED and (soft == UNLIMITED or soft > hard):
        raise ValueError(f"has {name} = {kinds.shown(value)}, of which the soft limit is above the hard one")
    return f"{soft}:{hard}"


def ulimit_of(text: str) -> tuple[int, int]:
    """Return the soft and the hard limit of a parsed one."""
    soft, _, hard = text.partition(":")
    return int(soft), int(hard)


SPACE = kinds.Kind("N[b|k|m|g]", sizes.parse_space, sizes.SPACE_SCHEMA)
PIDS = kinds.number(_LEAST_PIDS, _MOST_PIDS)
ULIMIT = kinds.Kind(
    "NAME=SOFT[:HARD]",
    _ulimits,
    listkinds.table(
        {
            "propertyNames": {"enum": list(ULIMITS)},
            "additionalProperties": {"type": ["integer", "string"], "minimum": -1, "maximum": _MOST_ULIMIT},
        },
        f"^(?:{'|'.join(ULIMITS)})={_ULIMIT.pattern}$",
    ),
)
