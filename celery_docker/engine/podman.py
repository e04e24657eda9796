"""Podman's differences from Docker, whose API its service speaks.

A part of the engine: owns Podman's words. Does no I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from celery_docker.core.container import Event, Status

# The least version of each service that can run jobs.
LEAST = {"docker": "Docker 20.10", "podman": "Podman 4.3"}
STATES = {
    "configured": Status.CREATED,
    "initialized": Status.CREATED,
    "stopping": Status.RUNNING,
    "stopped": Status.EXITED,
}
EVENTS = {"died": Event.DIE, "stop": Event.KILL}
# It keeps bytes as they come, and all of them, as Docker's driver `local` does.
_LOG_CONFIG: dict[str, Any] = {"Type": "k8s-file", "Config": {}}
# It says the latter two of whatever its runtime did not find or might not use, such as a library of the runtime: only
# with words of runc or crun about a command they stand for the command.
_OF_COMMAND = re.compile(r'exec: ".*": |executable file .* not found|open executable: ')
_EXIT_CODES = {"OCI permission denied": 126, "OCI runtime attempted to invoke a command that was not found": 127}
# It makes a container ready to start as soon as somebody attaches to it.
_OF_START = "preparing container"


def is_podman(about: Mapping[str, Any]) -> bool:
    """Return True if an answer to /version is Podman's."""
    return any("podman" in str(part.get("Name", "")).lower() for part in about.get("Components") or ())


def name(about: Mapping[str, Any]) -> str:
    """Return an engine's name and version, from its answer to /version."""
    return f"{'Podman' if is_podman(about) else 'Docker'} {about['Version']}"


def service_of(base_url: str, name: str = "") -> str:
    """Return the systemd service behind a socket, by the engine's name, or that of the socket while it is silent."""
    return "podman" if name.startswith("Podman") or "podman" in base_url else "docker"


def exit_code_of_start(text: str) -> int | None:
    """Return the exit code for a command that cannot be started, which a refused start only describes in words."""
    if not _OF_COMMAND.search(text):
        return None
    return next((exit_code for words, exit_code in _EXIT_CODES.items() if words in text), None)


def is_of_start(text: str) -> bool:
    """Return True for the refusal of an attach that is about the start of the container."""
    return text.startswith(_OF_START)


def events_query(container_id: str, now_s: float) -> dict[str, Any]:
    """Return the query for a container's events up to now; it is answered when the current second is over.

    Podman knows no fraction of a second there, no time 0, and other words for some events.
    """
    filters = {"type": ["container"], "container": [container_id]}
    return {"since": 1, "until": int(now_s) + 1, "filters": json.dumps(filters)}


def body(planned: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body of a create as Podman understands it."""
    config = {**planned["HostConfig"], "LogConfig": _LOG_CONFIG}
    if "Tmpfs" in config:
        config["Tmpfs"] = {path: _tmpfs(options) for path, options in config["Tmpfs"].items()}
    return {**planned, "HostConfig": config}


def _tmpfs(options: str) -> str:
    """Return the options that make the tmpfs that Docker would make: empty, and without programs unless asked for.

    Podman 4 refuses uid and gid; in their place everybody in the container may write there.
    """
    words = [word for word in options.split(",") if word]
    if any(word.startswith(("uid=", "gid=")) for word in words):
        words = [*(word for word in words if not word.startswith(("uid=", "gid=", "mode="))), "mode=1777"]
    if "exec" not in words and "noexec" not in words:
        words.append("noexec")
    return ",".join([*words, "notmpcopyup"])
