"""Privileges of a job's container, capabilities and groups: what each may be, as in `kinds`.

Pure. Invariant: what is accepted here, every Docker of today starts; what Docker would refuse only at the start of the
container, or take for something else, is refused here.
"""

from __future__ import annotations

import re
from typing import Any

from celery_docker.core import kinds, listkinds

# Those that Docker 20.10 knows.
CAPABILITIES = frozenset(
    (
        *("AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH"),
        *("FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE", "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE"),
        *(
            "MKNOD",
            "NET_ADMIN",
            "NET_BIND_SERVICE",
            "NET_BROADCAST",
            "NET_RAW",
            "SETFCAP",
            "SETGID",
            "SETPCAP",
            "SETUID",
        ),
        *("SYSLOG", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE"),
        *("SYS_RAWIO", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"),
    )
)
ALL_CAPABILITIES = "ALL"
# Those of every container, of Docker's and of Podman's: a job that drops all may take them back.
EVERYBODYS_CAPABILITIES = frozenset(
    (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP"),
        *("SETUID", "SYS_CHROOT"),
    )
)
# More that a host's policy can allow. Who has one of the rest can be root of the host, or change it for all.
_ADDED = frozenset(
    (
        *("AUDIT_WRITE", "IPC_LOCK", "IPC_OWNER", "LEASE", "MKNOD", "NET_ADMIN", "NET_BROADCAST", "NET_RAW"),
        *("SYS_NICE", "SYS_PTRACE", "SYS_RESOURCE"),
    )
)
_CAPABILITY = re.compile(r"[A-Za-z_]{1,32}", re.ASCII)
_GROUP = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?", re.ASCII)
_MOST_GROUP = 128


def _capabilities(value: Any) -> tuple[str, ...] | None:
    return tuple(_capability(name) for name in listkinds.texts(value, "NET_RAW")) or None


def _capability(text: str) -> str:
    """Return the name of a capability as Docker prints it, without CAP_."""
    name = text.upper().removeprefix("CAP_") if _CAPABILITY.fullmatch(text) else ""
    if name != ALL_CAPABILITIES and name not in CAPABILITIES:
        raise ValueError(f"has {kinds.shown(text)}, which is no capability; one is like 'NET_RAW', and all are 'ALL'")
    return name


def _added_capabilities(value: Any) -> tuple[str, ...] | None:
    names = _capabilities(value) or ()
    for name in names:
        if name not in EVERYBODYS_CAPABILITIES | _ADDED:
            raise ValueError(f"has {name!r}, which no host gives to a job; it can have {', '.join(sorted(_ADDED))}")
    return names or None


def _groups(value: Any) -> tuple[str, ...] | None:
    listkinds.check_number(value)
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of groups, like ['video', 44]")
    return tuple(_group(group) for group in value) or None


def _group(value: Any) -> str:
    text = (
        str(value) if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= kinds.MAX_ID else value
    )
    is_group = isinstance(text, str) and len(text) <= _MOST_GROUP and _GROUP.fullmatch(text)
    if not is_group or (text.isdigit() and int(text[:11]) > kinds.MAX_ID):
        raise ValueError(f"has {kinds.shown(value)}, which must be a group's name or a gid")
    return str(text)


CAPABILITY = kinds.Kind(
    "NAME",
    _capabilities,
    {
        "type": "array",
        "maxItems": listkinds.MOST_ENTRIES,
        "items": {"type": "string", "pattern": f"^{_CAPABILITY.pattern}$"},
    },
)
ADDED_CAPABILITY = kinds.Kind("NAME", _added_capabilities, CAPABILITY.schema)
GROUP = kinds.Kind(
    "GROUP",
    _groups,
    {
        "type": "array",
        "maxItems": listkinds.MOST_ENTRIES,
        "items": {
            "type": ["string", "integer"],
            "maxLength": _MOST_GROUP,
            "pattern": f"^{_GROUP.pattern}$",
            "minimum": 0,
            "maximum": kinds.MAX_ID,
        },
    },
)
