"""The report that a host writes with each heartbeat, as others read it. Pure.

Invariant: a field that this version knows is of its kind, or missing; those of a newer version are kept as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_docker.core import strictjson
from celery_docker.core.admission import Offer, Room

# More than any machine has; what is more was not written by a worker.
_MOST_CPUS, _MOST_BYTES, _MOST_GPUS, _MOST_COUNTS = 10**6, 2**60, 10**4, 10**3


def parse(text: str | bytes | None) -> dict[str, Any]:
    """Return what a host has reported; nothing where that cannot be read."""
    try:
        report = strictjson.table(text or "{}")
    except strictjson.NotUsable:
        return {}
    return {name: value for name, value in report.items() if _FIELDS.get(name, _anything)(value)}


def of_offer(offer: Offer) -> dict[str, Any]:
    """Return an offer as a report has it."""
    return {"cpus": offer.millicpus / 1000, "memory": offer.memory_bytes, "gpus": list(offer.gpus)}


def of_room(room: Room) -> dict[str, Any]:
    """Return the free room of a host as its report has it: nothing, where more is in use than it offers."""
    return {
        "cpus": max(room.millicpus, 0) / 1000,
        "memory": max(room.memory_bytes, 0),
        "gpus": max(room.gpus, 0),
    }


def offer(report: Mapping[str, Any]) -> Offer | None:
    """Return the offer of the host that wrote this report; None: it is of an older version, and says none."""
    said: Any = report.get("offer")
    return Offer(round(said["cpus"] * 1000), said["memory"], tuple(said["gpus"])) if _is_offer(said) else None


def room(report: Mapping[str, Any]) -> Room | None:
    """Return the room that was free when this report was written; None where it does not say."""
    said: Any = report.get("free")
    return Room(round(said["cpus"] * 1000), said["memory"], said["gpus"]) if _is_room(said) else None


def reserved_for(report: Mapping[str, Any]) -> str:
    """Return the parked job for which a host keeps room, as it reported; empty for none."""
    return str(report.get("reserved_for", ""))


def lists_ends(report: Mapping[str, Any]) -> bool:
    """Tell whether the host that wrote this report lists the jobs that it ends; one of an older version does not."""
    return report.get("lists_ends") is True


def _anything(_: Any) -> bool:
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_counts(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= _MOST_COUNTS and all(map(_is_count, value.values()))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _is_offer(value: Any) -> bool:
    return _has_sizes(value) and _is_names(value.get("gpus")) and len(value["gpus"]) <= _MOST_GPUS


def _is_room(value: Any) -> bool:
    return _has_sizes(value) and _is_count(value.get("gpus")) and value["gpus"] <= _MOST_GPUS


def _has_sizes(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    cpus: Any = value.get("cpus")
    memory: Any = value.get("memory")
    is_number = isinstance(cpus, int | float) and not isinstance(cpus, bool) and 0 <= cpus <= _MOST_CPUS
    return is_number and _is_count(memory) and bool(memory <= _MOST_BYTES)


_FIELDS: Mapping[str, Callable[[Any], bool]] = {
    **dict.fromkeys(
        ("version", "machine", "unit", "started_at", "docker", "python", "status", "clock", "phase"), _is_text
    ),
    **dict.fromkeys(("pid", "slots", "running", "unknown_containers"), _is_count),
    **dict.fromkeys(("running_by_queue", "pulls"), _is_counts),
    "accepting": _is_flag,
    **dict.fromkeys(("queues", "sick"), _is_names),
    "offer": _is_offer,
    "free": _is_room,
    "reserved_for": _is_text,
}
