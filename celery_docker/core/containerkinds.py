"""Values of a job that only a container has: what each may be, as in `kinds`.

Pure. Invariant: what is accepted here, every Docker of today starts; what Docker would refuse only at the start of the
container, or take for something else, is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any

from celery_docker.core import kinds, sizes

# One label of a name in DNS; the kernel takes 64 characters, RFC 1123 has 63.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MOST_HOSTNAME = 63
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
# As in /etc/hosts: compose files have names of services with an underscore there.
_HOST = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?", re.ASCII)
_MOST_HOST = 253
_PLATFORM = re.compile(r"linux/[a-z0-9_]{1,16}(?:/[a-z0-9]{1,16})?", re.ASCII)
_GROUP = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?", re.ASCII)
_MOST_GROUP = 128
# The trees of a container that are the kernel's, Docker's or a job's mounts.
_TAKEN = ("/proc", "/sys", "/dev", "/input", "/output")
# Of a folder's name, for the kernel; of its path, so that Docker's own folders can stand before it.
_MOST_NAME_BYTES, _MOST_FOLDER_BYTES = 255, 1024
# As many of each as somebody can mean; the kernel and Docker have bounds that they tell at the start only.
_MOST_ENTRIES = 64
_TMPFS_FLAGS = {"rw": "ro", "ro": "rw", "exec": "noexec", "noexec": "exec", "nosuid": "", "nodev": ""}
_MODE = re.compile(r"[0-7]{3,4}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)
_ULIMIT = re.compile(r"(-1|[0-9]{1,16})(?::(-1|[0-9]{1,16}))?", re.ASCII)


def pairs(value: Any, separator: str, form: str) -> list[tuple[str, Any]]:
    """Return names and values of a table, or of a list of texts with a separator; the value of a bare name is None.

    Raises `ValueError` that names the `form` of such a text.
    """
    _check_number(value)
    if isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return list(value.items())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        parts = [item.partition(separator) for item in value]
        return [(name, text if found else None) for name, found, text in parts]
    raise ValueError(f"must be a table, or a list of {form!r}")


def _check_number(value: Any) -> None:
    if isinstance(value, list | tuple | Mapping) and len(value) > _MOST_ENTRIES:
        raise ValueError(f"has {len(value):,} entries; {_MOST_ENTRIES} are the most")


def _hostname(value: Any) -> str:
    text = kinds.parse_text(value)
    if len(text) > _MOST_HOSTNAME or not _HOSTNAME.fullmatch(text):
        raise ValueError(
            f"must be letters, digits, '-' and '.', at most {_MOST_HOSTNAME} of them, "
            "like 'node-1' or 'node.example.org'"
        )
    return text


def _ulimits(value: Any) -> dict[str, str] | None:
    """Return soft and hard limits as `SOFT:HARD`, by name; as in docker run, the last one of a name counts."""
    limits = {name: _ulimit(name, limit) for name, limit in pairs(value, "=", "nofile=1024:2048")}
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


def _capabilities(value: Any) -> tuple[str, ...] | None:
    return tuple(_capability(name) for name in _texts(value, "NET_RAW")) or None


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


def _texts(value: Any, form: str) -> list[str]:
    _check_number(value)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list like {[form]!r}")
    return list(value)


def _hosts(value: Any) -> tuple[str, ...] | None:
    """Return lines of /etc/hosts as NAME:ADDRESS; a name may have several."""
    return tuple(_host(name, address) for name, address in pairs(value, ":", "db.example.org:10.0.0.7")) or None


def _host(name: str, address: Any) -> str:
    if len(name) > _MOST_HOST or not _HOST.fullmatch(name):
        raise ValueError(f"has {kinds.shown(name)}, which is no host name")
    try:
        return f"{name}:{_checked_address(address)}"
    except ValueError as exc:
        raise ValueError(f"has {name} at {kinds.shown(address)}, which {exc}, as in 'db.example.org:10.0.0.7'") from exc


def _addresses(value: Any) -> tuple[str, ...] | None:
    addresses = []
    for text in _texts(value, "10.0.0.53"):
        try:
            addresses.append(_checked_address(text))
        except ValueError as exc:
            raise ValueError(f"has {kinds.shown(text)}, which {exc}") from exc
    return tuple(addresses) or None


def _checked_address(value: Any) -> str:
    """Return an address as it was given; one of a single link (`%eth0`) means nothing in a container."""
    try:
        if isinstance(value, str) and "%" not in value:
            ip_address(value)
            return value
    except ValueError:
        pass
    raise ValueError("must be an IP address")


def _tmpfs(value: Any) -> dict[str, str] | None:
    """Return options by folder; as in docker run, the last one of a folder counts."""
    mounts = {_folder(path): _options(path, text) for path, text in pairs(value, ":", "/scratch:size=1g")}
    return mounts or None


def _folder(path: str) -> str:
    text = _IN_CONTAINER.parse(path)
    if path.startswith("//") or str(PurePosixPath(text)) != text or ".." in PurePosixPath(text).parts:
        raise ValueError(f"has {kinds.shown(path)}, which must be written without '..', '.' and '//'")
    if ":" in text or len(text.encode()) > _MOST_FOLDER_BYTES:
        raise ValueError(f"has {kinds.shown(path)}, which must have no ':' and at most {_MOST_FOLDER_BYTES:,} bytes")
    if any(len(part.encode()) > _MOST_NAME_BYTES for part in PurePosixPath(text).parts):
        raise ValueError(f"has {kinds.shown(path)}, in which a name has more than {_MOST_NAME_BYTES} bytes")
    if text == "/" or any(PurePosixPath(text).is_relative_to(tree) for tree in _TAKEN):
        remedy = "; shm_size is the size of /dev/shm" if text == "/dev/shm" else ""  # noqa: S108  # the container's
        raise ValueError(f"has {kinds.shown(path)}, which must be a folder outside of {', '.join(_TAKEN)}{remedy}")
    return str(text)


def _options(path: str, value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"has {kinds.shown(path)} with {kinds.shown(value)}, which must be a string of options")
    given: dict[str, str] = {}
    for option in value.split(",") if value else ():
        name, equals, text = option.partition("=")
        if name in given or _TMPFS_FLAGS.get(name, "") in given:
            raise ValueError(f"has {kinds.shown(path)} with {kinds.shown(value)}, which says twice what {name!r} says")
        try:
            given[name] = f"{name}={_VALUES[name](text)}" if equals else name
            is_known = name in (_VALUES if equals else _TMPFS_FLAGS)
        except (KeyError, ValueError):
            is_known = False
        if not is_known:
            raise ValueError(
                f"has {kinds.shown(path)} with {kinds.shown(option)}, which is none of size=N[k|m|g], mode=1777, "
                f"uid=N, gid=N, {', '.join(_TMPFS_FLAGS)}"
            )
    return ",".join(given.values())


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def _id(text: str) -> int:
    number = int(_matching(_NUMBER, text))
    if number > kinds.MAX_ID:
        raise ValueError
    return number


_VALUES: Mapping[str, Callable[[str], Any]] = {
    "size": sizes.parse_space,
    "mode": lambda text: _matching(_MODE, text),
    "uid": _id,
    "gid": _id,
}


def size_of_tmpfs(options: str) -> int | None:
    """Return the size in bytes among the options of a parsed tmpfs; None: half of the host's memory."""
    sizes_ = [option.partition("=")[2] for option in options.split(",") if option.startswith("size=")]
    return int(sizes_[0]) if sizes_ else None


def _platform(value: Any) -> str:
    text = kinds.parse_text(value)
    if not _PLATFORM.fullmatch(text):
        raise ValueError("must be like 'linux/amd64' or 'linux/arm/v7'")
    return text


def _groups(value: Any) -> tuple[str, ...] | None:
    _check_number(value)
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


def _table(names: Mapping[str, Any], item: str) -> Mapping[str, Any]:
    """Return the schema of a table of values, or of a list of texts."""
    return {
        "anyOf": [
            {"type": "object", "maxProperties": _MOST_ENTRIES, **names},
            {"type": "array", "maxItems": _MOST_ENTRIES, "items": {"type": "string", "pattern": item}},
        ]
    }


_IN_CONTAINER = kinds.path("in the container")
HOSTNAME = kinds.Kind(
    "NAME", _hostname, {"type": "string", "maxLength": _MOST_HOSTNAME, "pattern": f"^{_HOSTNAME.pattern}$"}
)
SPACE = kinds.Kind("N[b|k|m|g]", sizes.parse_space, sizes.SPACE_SCHEMA)
PIDS = kinds.number(_LEAST_PIDS, _MOST_PIDS)
ULIMIT = kinds.Kind(
    "NAME=SOFT[:HARD]",
    _ulimits,
    _table(
        {
            "propertyNames": {"enum": list(ULIMITS)},
            "additionalProperties": {"type": ["integer", "string"], "minimum": -1, "maximum": _MOST_ULIMIT},
        },
        f"^(?:{'|'.join(ULIMITS)})={_ULIMIT.pattern}$",
    ),
)
CAPABILITY = kinds.Kind(
    "NAME",
    _capabilities,
    {
        "type": "array",
        "maxItems": _MOST_ENTRIES,
        "items": {"type": "string", "pattern": f"^{_CAPABILITY.pattern}$"},
    },
)
ADDED_CAPABILITY = kinds.Kind("NAME", _added_capabilities, CAPABILITY.schema)
HOST = kinds.Kind(
    "NAME:ADDRESS",
    _hosts,
    _table(
        {"propertyNames": {"maxLength": _MOST_HOST}, "additionalProperties": {"type": "string"}},
        f"^{_HOST.pattern}:[0-9a-fA-F:.]+$",
    ),
)
ADDRESS = kinds.Kind(
    "ADDRESS",
    _addresses,
    {"type": "array", "maxItems": _MOST_ENTRIES, "items": {"type": "string", "pattern": "^[0-9a-fA-F:.]+$"}},
)
TMPFS = kinds.Kind(
    "PATH[:OPTIONS]",
    _tmpfs,
    _table({"additionalProperties": {"type": ["string", "null"]}}, "^/[^:]+(?::[a-z0-9=.,BKMGTi]*)?$"),
)
PLATFORM = kinds.Kind("OS/ARCH", _platform, {"type": "string", "pattern": f"^{_PLATFORM.pattern}$"})
GROUP = kinds.Kind(
    "GROUP",
    _groups,
    {
        "type": "array",
        "maxItems": _MOST_ENTRIES,
        "items": {
            "type": ["string", "integer"],
            "maxLength": _MOST_GROUP,
            "pattern": f"^{_GROUP.pattern}$",
            "minimum": 0,
            "maximum": kinds.MAX_ID,
        },
    },
)
