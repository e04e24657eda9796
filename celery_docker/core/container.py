"""A container as Docker describes it, as plain values, and the next step for the job that it belongs to.

Owns the view of a container that all folders share. Pure: the engine fills it in, the runner acts on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

LABEL_PREFIX = "celery-docker."
LABEL_JOB = f"{LABEL_PREFIX}job"
LABEL_HOST = f"{LABEL_PREFIX}host"
LABEL_BOOT = f"{LABEL_PREFIX}boot"
LABEL_ATTEMPT = f"{LABEL_PREFIX}attempt"
LABEL_NAME = f"{LABEL_PREFIX}name"
# The digest of the arguments that the container was made of.
LABEL_ARGUMENTS = f"{LABEL_PREFIX}arguments"
# The log files, and whose they are; see `joblogs`.
LABEL_LOGS = f"{LABEL_PREFIX}logs"
# The GPUs that it has, by name, separated by commas.
LABEL_GPUS = f"{LABEL_PREFIX}gpus"
# The part of the host's offer that it takes, as `admission.Needs` writes it.
LABEL_NEEDS = f"{LABEL_PREFIX}needs"


def name_of(job_id: str) -> str:
    """Return the container name of a job: one job has one name, so Docker itself refuses a second container."""
    return f"run-{job_id}"


class Status(StrEnum):
    """The states Docker itself reports (`docker inspect`, State.Status)."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


ALIVE = (Status.RUNNING, Status.PAUSED, Status.RESTARTING)


@dataclass(frozen=True)
class Container:
    """One container as `docker inspect` shows it; what Docker does not know yet is None.

    `image_id` is the local image's content id, `pid` the host's process id of the container's first process.
    `restarts`: somebody has told the engine to start it again after its end.
    """

    container_id: str
    name: str
    status: Status
    labels: Mapping[str, str]
    image_id: str
    exit_code: int | None = None
    oom_killed: bool | None = None
    error: str | None = None
    pid: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    restarts: bool = False


@dataclass(frozen=True)
class End:
    """The end of a container as the engine told it to whoever waited; `exit_code` None: it is gone, its end unseen."""

    exit_code: int | None = None


@dataclass(frozen=True)
class Listed:
    """One container as a list of them shows it."""

    container_id: str
    name: str
    status: Status
    labels: Mapping[str, str]
    created_at: datetime


class Event(StrEnum):
    """Docker's own events of a container: its start, a signal to end that somebody had sent to it, its end."""

    START = "start"
    KILL = "kill"
    DIE = "die"


def ended_by_itself(remembered: Sequence[Event]) -> bool:
    """Return True if the events that one Docker process has seen prove that a container ended by itself.

    It saw the last start and the end, so that no other came between, and nobody told it to end the container. The end
    alone would not do: a Docker that was killed and is started again ends what still runs, and remembers that.
    """
    return set(_since_start(remembered)) == {Event.START, Event.DIE}


def was_signalled(remembered: Sequence[Event]) -> bool:
    """Return True if somebody had a signal to end sent to a container, and has not started it again since."""
    return Event.KILL in _since_start(remembered)


def _since_start(remembered: Sequence[Event]) -> Sequence[Event]:
    starts = [index for index, event in enumerate(remembered) if event is Event.START]
    return remembered[starts[-1] :] if starts else remembered


class Stream(IntEnum):
    """The container's stream that a frame belongs to, numbered as in Docker's attach protocol."""

    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True)
class Frame:
    """A piece of a container's output, as it came."""

    stream: Stream
    payload: bytes


@dataclass(frozen=True)
class Usage:
    """The resources that a container has used so far: CPU seconds, highest memory in bytes; None where unknown.

    `oom_killed`: the kernel has killed a process of it for want of memory.
    """

    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    oom_killed: bool | None = None

    def updated(self, later: Usage) -> Usage:
        """Return later figures, with these in place of what is unknown there."""
        return Usage(
            cpu_s=self.cpu_s if later.cpu_s is None else later.cpu_s,
            memory_peak_bytes=self.memory_peak_bytes if later.memory_peak_bytes is None else later.memory_peak_bytes,
            oom_killed=self.oom_killed if later.oom_killed is None else later.oom_killed,
        )


class Step(StrEnum):
    """The next step for a job, from the container that has its name."""

    CREATE = "create"
    ADOPT = "adopt"
    HARVEST = "harvest"
    REPLACE = "replace"
    # Wait for processes that Docker does not know of.
    AWAIT = "await"
    # The attempt is over: its container may have run, and Docker has lost what became of it.
    REPEAT = "repeat"
    GIVE_UP = "give up"


def next_step(
    container: Container | None, attempt: int, *, has_processes: bool = False, may_have_run: bool = False
) -> Step:
    """Decide on the next step of an attempt (counted from 1), from the container that the job has.

    A container of an earlier attempt has been reported already: its place is needed. One that ended is never run
    again: it is the evidence of this attempt. `has_processes`: the kernel has processes of it. Where Docker says that
    it never started, it was killed in the instant in which it did: nothing may run beside them.
    `may_have_run`: the record names the container, so somebody may have asked Docker to start it. If Docker says that
    it never ran, it may have gone down in the instant of the start; another run is another attempt then. If Docker is
    about to remove it, somebody else has ended it.
    """
    if container is None:
        return Step.CREATE
    if container.status is Status.CREATED and has_processes:
        return Step.AWAIT
    if container.labels.get(LABEL_ATTEMPT) != str(attempt):
        return Step.REPLACE
    if container.status in ALIVE:
        return Step.ADOPT
    if container.status is Status.EXITED:
        return Step.HARVEST
    if not may_have_run:
        return Step.REPLACE
    return Step.REPEAT if container.status is Status.CREATED else Step.GIVE_UP
