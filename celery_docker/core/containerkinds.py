"""Names and addresses of a job's container: what each may be, as in `kinds`.

Pure. Invariant: what is accepted here, every Docker of today starts; what Docker would refuse only at the start of the
container, or take for something else, is refused here.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from typing import Any

from celery_docker.core import kinds, listkinds

# One label of a name in DNS; the kernel takes 64 characters, RFC 1123 has 63.
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_MOST_HOSTNAME = 63
# As in /etc/hosts: compose files have names of services with an underscore there.
_HOST = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9_.-]*[a-zA-Z0-9])?", re.ASCII)
_MOST_HOST = 253
_PLATFORM = re.compile(r"linux/[a-z0-9_]{1,16}(?:/[a-z0-9]{1,16})?", re.ASCII)


def _hostname(value: Any) -> str:
    text = kinds.parse_text(value)
    if len(text) > _MOST_HOSTNAME or not _HOSTNAME.fullmatch(text):
        raise ValueError(
            f"must be letters, digits, '-' and '.', at most {_MOST_HOSTNAME} of them, "
            "like 'node-1' or 'node.example.org'"
        )
    return text


def _hosts(value: Any) -> tuple[str, ...] | None:
    """Return lines of /etc/hosts as NAME:ADDRESS; a name may have several."""
    return (
        tuple(_host(name, address) for name, address in listkinds.pairs(value, ":", "db.example.org:10.0.0.7")) or None
    )


def _host(name: str, address: Any) -> str:
    if len(name) > _MOST_HOST or not _HOST.fullmatch(name):
        raise ValueError(f"has {kinds.shown(name)}, which is no host name")
    try:
        return f"{name}:{_checked_address(address)}"
    except ValueError as exc:
        raise ValueError(f"has {name} at {kinds.shown(address)}, which {exc}, as in 'db.example.org:10.0.0.7'") from exc


def _addresses(value: Any) -> tuple[str, ...] | None:
    addresses = []
    for text in listkinds.texts(value, "10.0.0.53"):
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


def _platform(value: Any) -> str:
    text = kinds.parse_text(value)
    if not _PLATFORM.fullmatch(text):
        raise ValueError("must be like 'linux/amd64' or 'linux/arm/v7'")
    return text


HOSTNAME = kinds.Kind(
    "NAME", _hostname, {"type": "string", "maxLength": _MOST_HOSTNAME, "pattern": f"^{_HOSTNAME.pattern}$"}
)
HOST = kinds.Kind(
    "NAME:ADDRESS",
    _hosts,
    listkinds.table(
        {"propertyNames": {"maxLength": _MOST_HOST}, "additionalProperties": {"type": "string"}},
        f"^{_HOST.pattern}:[0-9a-fA-F:.]+$",
    ),
)
ADDRESS = kinds.Kind(
    "ADDRESS",
    _addresses,
    {"type": "array", "maxItems": listkinds.MOST_ENTRIES, "items": {"type": "string", "pattern": "^[0-9a-fA-F:.]+$"}},
)
PLATFORM = kinds.Kind("OS/ARCH", _platform, {"type": "string", "pattern": f"^{_PLATFORM.pattern}$"})
