"""Whether a host takes jobs, in the words that its worker and the command line share. Pure."""

from __future__ import annotations

from enum import StrEnum

# What the status of a worker begins with that takes no new jobs.
STOPPING = "Stopping"


TAKES_NO_JOBS = "Takes no jobs"


# A host gives a sign of life every five seconds.
SILENT_S = 30


class WorkerState(StrEnum):
    """Whether a host takes jobs, and if not, why."""

    READY = "ready"
    # Somebody keeps it from that.
    DRAINED = "drained"
    # Its Docker or a disk does.
    SICK = "sick"
    STOPPING = "stopping"
    SILENT = "silent"
    LOST = "lost"
