"""Docker's answers about containers as plain values.

A part of the engine: owns the words of the API (1.41). Does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import container


def container_of(details: Mapping[str, Any]) -> container.Container:
    """Return what an inspection says about a container."""
    state = details["State"]
    status = container.Status(state["Status"])
    ended = status not in container.ALIVE and (_moment(state["FinishedAt"]) is not None or bool(state["Error"]))
    return container.Container(
        container_id=details["Id"],
        name=details["Name"].removeprefix("/"),
        status=status,
        labels=details["Config"]["Labels"] or {},
        image_id=details["Image"],
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=state["OOMKilled"] if ended else None,
        error=state["Error"] or None,
        pid=state["Pid"] or None,
        started_at=_moment(state["StartedAt"]),
        finished_at=_moment(state["FinishedAt"]) if ended else None,
    )


def listed(entry: Mapping[str, Any]) -> container.Listed:
    """Return what a list says about one container."""
    return container.Listed(
        container_id=entry["Id"],
        name=entry["Names"][0].removeprefix("/") if entry["Names"] else "",
        status=container.Status(entry["State"]),
        labels=entry["Labels"] or {},
        created_at=datetime.fromtimestamp(entry["Created"], UTC),
    )


def _moment(text: str) -> datetime | None:
    """Return Docker's time; it writes year 1 for one that has not come."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text)
