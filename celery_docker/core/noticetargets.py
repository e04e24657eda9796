"""Whom the word of a job's end may be sent to: the kind of value, and the rule of a policy.

Pure. A submitter names a mail address, or a target of the host (`noticefile`).
Invariant: an address has no blank, no line end and no hyphen at its beginning, so it is neither a header nor a flag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from celery_docker.core import kinds, listkinds

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_ADDRESS = re.compile(rf"[a-zA-Z0-9_][a-zA-Z0-9_.+-]{{0,63}}@{_DOMAIN}", re.ASCII)
NAME = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)
_TO_ALL = re.compile(rf"\*@{_DOMAIN}", re.ASCII)
_MOST_ADDRESS = 254
_MOST_TARGETS = 8
_FORM = "must be mail addresses, or names of targets of the host, like 'alice@example.org' or 'lab-chat'"


def is_address(target: str) -> bool:
    """Return True for a mail address, False for the name of a target."""
    return "@" in target


def check_rule(rule: str) -> None:
    """Raise `ValueError` for a rule that can allow no target; its words go on after the rule."""
    if not _TO_ALL.fullmatch(rule) and not _is_target(rule):
        raise ValueError("must be a mail address, '*@' and a domain, or the name of a target, like 'lab-chat'")


def allows(rules: Iterable[str], target: str) -> bool:
    """Return True if a rule allows a target: it is the same, or all addresses of the same domain."""
    domain = target.partition("@")[2].lower()
    return any(rule == target or (bool(domain) and rule.lower() == f"*@{domain}") for rule in rules)


def count_in(kwargs: Mapping[str, Any]) -> int:
    """Return how many targets the arguments of a job name; 0 where they cannot be used."""
    try:
        return len(_targets(kwargs["notify"]) or ()) if kwargs.get("notify") is not None else 0
    except ValueError:
        return 0


def _is_target(text: Any) -> bool:
    if not isinstance(text, str) or len(text) > _MOST_ADDRESS:
        return False
    return bool(_ADDRESS.fullmatch(text) or NAME.fullmatch(text))


def _targets(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple) and len(value) > _MOST_TARGETS:
        raise ValueError(f"has {len(value):,} entries; {_MOST_TARGETS} are the most")
    targets = listkinds.texts(value, "alice@example.org")
    for text in targets:
        if not _is_target(text):
            raise ValueError(f"{_FORM}, not {kinds.shown(text)}")
    return tuple(dict.fromkeys(targets)) or None


TARGETS = kinds.Kind(
    "ADDRESS|NAME",
    _targets,
    {
        "type": "array",
        "maxItems": _MOST_TARGETS,
        "items": {
            "type": "string",
            "maxLength": _MOST_ADDRESS,
            "pattern": f"^(?:{_ADDRESS.pattern}|{NAME.pattern})$",
        },
    },
)
