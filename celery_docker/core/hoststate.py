"""The state of a host, in the words that its worker and the command line share. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

# The beginnings of a status line, which is for people; hosts before version 0.2 report nothing else.
STOPPING = "Stopping"
TAKES_NO_JOBS = "Takes no jobs"
# A host sends a heartbeat every five seconds.
SILENT_S = 30


class Phase(StrEnum):
    """The part of its life that a worker is in."""

    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"


class WorkerState(StrEnum):
    """A host that takes jobs, or the reason why it takes none."""

    READY = "ready"
    # Somebody keeps it from that.
    DRAINED = "drained"
    # Its Docker or a disk does.
    SICK = "sick"
    STOPPING = "stopping"
    SILENT = "silent"
    LOST = "lost"


def is_stopping(report: Mapping[str, Any]) -> bool:
    """True if the worker that wrote this report is about to leave."""
    phase = report.get("phase")
    return str(report.get("status", "")).startswith(STOPPING) if phase is None else phase == Phase.STOPPING


def is_accepting(report: Mapping[str, Any]) -> bool:
    """True if nothing kept the worker that wrote this report from taking jobs."""
    accepting = report.get("accepting")
    return not str(report.get("status", "")).startswith(TAKES_NO_JOBS) if accepting is None else bool(accepting)


def obstacle(report: Mapping[str, Any]) -> str:
    """Return the reason for which the worker that wrote this report takes no jobs; empty if it does."""
    if is_stopping(report):
        return "its worker is stopping"
    if is_accepting(report):
        return ""
    # The status ends with the number of jobs that run.
    reason = str(report.get("status", "")).removeprefix(f"{TAKES_NO_JOBS}: ").rpartition("; ")[0]
    return reason or "its status does not say why"
