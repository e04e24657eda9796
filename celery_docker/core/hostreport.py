"""The report that a host writes with each heartbeat, as others read it. Pure.

Invariant: a field that this version knows is of its kind, or missing; those of a newer version are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_docker.core import strictjson


def parse(text: str | bytes | None) -> dict[str, Any]:
    """Return what a host has reported; nothing where that cannot be read."""
    try:
        report = strictjson.table(text or "{}")
    except strictjson.NotUsable:
        return {}
    return {name: value for name, value in report.items() if _FIELDS.get(name, _anything)(value)}


def _anything(_: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("version", "machine", "unit", "started_at", "docker", "python", "status", "clock", "phase"), _is_text
    ),
    **dict.fromkeys(("pid", "slots", "running"), _is_count),
    "accepting": _is_flag,
    "queues": _is_names,
}
