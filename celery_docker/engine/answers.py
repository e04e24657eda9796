"""Docker's answers about containers as plain values.

A part of the engine: owns the words of the API (1.41). Does no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import container
from celery_docker.core.container import Event, Status
from celery_docker.engine import podman

# A signal of these asks for news, and ends nothing that listens to it: CONT, USR1, USR2, WINCH.
_HARMLESS_SIGNALS = ("18", "10", "12", "28")


def container_of(details: Mapping[str, Any]) -> container.Container:
    """Return what an inspection says about a container."""
    state = details["State"]
    status = _status(state["Status"]) or _status_by_facts(state)
    started_at, finished_at = _moment(state["StartedAt"]), _moment(state["FinishedAt"])
    ended = status not in container.ALIVE and (finished_at is not None or _cannot_start(state))
    if started_at is not None and finished_at is not None:
        # Docker reads the clock for each in another place: what ran for a moment has ended before its start there.
        finished_at = max(started_at, finished_at)
    return container.Container(
        container_id=details["Id"],
        name=details["Name"].removeprefix("/"),
        status=status,
        labels=details["Config"]["Labels"] or {},
        image_id=details["Image"],
        exit_code=state["ExitCode"] if ended else None,
        oom_killed=state["OOMKilled"] if ended else None,
        error=state.get("Error") or None,
        pid=state["Pid"] or None,
        started_at=started_at,
        finished_at=finished_at if ended else None,
        restarts=details["HostConfig"].get("RestartPolicy", {}).get("Name") not in (None, "", "no"),
    )


def listed(entry: Mapping[str, Any]) -> container.Listed:
    """Return what a list says about one container."""
    return container.Listed(
        container_id=entry["Id"],
        name=entry["Names"][0].removeprefix("/") if entry["Names"] else "",
        # A list has no other facts than the word: nothing that may run is given up for one that is not known.
        status=_status(entry["State"]) or Status.RUNNING,
        labels=entry["Labels"] or {},
        created_at=datetime.fromtimestamp(entry["Created"], UTC),
    )


def event_of(entry: Mapping[str, Any]) -> Event | None:
    """Return an event of a container; None for a signal that ends nothing, and for what we do not ask about."""
    action = entry.get("Action") or entry.get("status")
    if action == Event.KILL and _attributes(entry).get("signal") in _HARMLESS_SIGNALS:
        return None
    return ({event.value: event for event in Event} | podman.EVENTS).get(str(action))


def exit_code_of(entry: Mapping[str, Any]) -> int | None:
    """Return the exit code that the event of a container's end has; None for another event."""
    if event_of(entry) is not Event.DIE:
        return None
    code = _attributes(entry).get("exitCode") or _attributes(entry).get("containerExitCode")
    return int(code) if code is not None and str(code).isdecimal() else None


def cdi_folders_of(info: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the folders in which an engine looks for devices of CDI; none where it has CDI switched off."""
    folders = info.get("CDISpecDirs")
    return tuple(folder for folder in folders if isinstance(folder, str)) if isinstance(folders, list) else ()


def _attributes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return (entry.get("Actor") or {}).get("Attributes") or {}


def _status(word: str) -> Status | None:
    """Return the state that an engine's word stands for, None for an unknown word."""
    statuses = {status.value: status for status in Status} | podman.STATES
    return statuses.get(word)


def _status_by_facts(state: Mapping[str, Any]) -> Status:
    """Return the state of a container whose word for it is not known."""
    if state.get("Running") or state.get("Paused") or state.get("Restarting") or state.get("Pid"):
        return Status.RUNNING
    return Status.CREATED if _moment(state["FinishedAt"]) is None else Status.EXITED


def _cannot_start(state: Mapping[str, Any]) -> bool:
    """Return True for the exit code of a command that could not be started; Podman writes an error without one."""
    return bool(state.get("Error")) and state["ExitCode"] != 0


def _moment(text: str) -> datetime | None:
    """Return Docker's time; it writes year 1 for one that has not come."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text)
