"""The file of the named targets of notices, `/etc/celery-docker/notify.toml`: a URL or a command for each name.

Pure. It is the administrator's, and no submitter reads it: what is secret in a URL stays here, and no job can make a
host connect to, or start, what its administrator has not written down. Invariant: no complaint has a URL in it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from celery_docker.core import kinds, noticetargets, wording

FILE = "/etc/celery-docker/notify.toml"


@dataclass(frozen=True)
class Target:
    """A named target: a URL that gets a POST, or the words of a command; one of the two is empty."""

    url: str = field(default="", repr=False)
    command: tuple[str, ...] = ()


def parse(text: str) -> dict[str, Target]:
    """Return the targets that a TOML text names. Raises `ValueError` that names the target, and no URL."""
    try:
        table = tomllib.loads(text)
    except RecursionError as exc:
        raise ValueError("is nested too deeply") from exc
    except ValueError as exc:
        raise ValueError(f"is not TOML: {wording.harmless(str(exc))}") from exc
    return {name: _target(name, value) for name, value in table.items()}


def _target(name: str, value: Any) -> Target:
    if not noticetargets.NAME.fullmatch(name):
        raise ValueError(f"has {kinds.shown(name)}, which must be lower-case letters, digits and '-', a letter first")
    if isinstance(value, str):
        if not _is_url(value):
            raise ValueError(f"has no URL for {name}, like https://chat.example.org/hook; a user in it is refused")
        return Target(url=value)
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise ValueError(f"must have a URL, or the words of a command as a list, for {name}")
    if not value[0].startswith("/") or any("\0" in word for word in value):
        raise ValueError(f"has a command for {name} that does not begin with an absolute path")
    return Target(command=tuple(value))


def _is_url(text: str) -> bool:
    if not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return (
            parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
        )
    except ValueError:
        return False
