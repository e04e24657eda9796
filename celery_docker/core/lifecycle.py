"""The states of a job, the outcome of an attempt, and the decision about a retry.

Owns every decision about success, failure and retry. Pure: no clock, no randomness (the draw is an argument), no I/O.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, replace
from enum import StrEnum

from celery_docker.core import sizes

# The state of a job whose record cannot be read, and what a reader adds to an unknown one of a job that has ended.
BROKEN = "broken"
HAS_ENDED = " (ended)"
_WORD = re.compile(r"[a-z][a-z_]{0,30}( \(ended\))?", re.ASCII)


class State(StrEnum):
    """The state of a job; Redis stores the value."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    ERROR = "error"
    LOST = "lost"

    @classmethod
    def _missing_(cls, value: object) -> State:
        """Return a state of a newer version, which is shown as it is; `broken` for what is no word at all."""
        word = value if isinstance(value, str) and _WORD.fullmatch(value) else BROKEN
        unknown = str.__new__(cls, word)
        unknown._name_, unknown._value_ = "UNKNOWN", word
        return unknown

    @property
    def is_known(self) -> bool:
        """False for the state of a newer version, and for one that cannot be read."""
        return self.value in State.__members__.values()

    @property
    def is_final(self) -> bool:
        """True for a state that absorbs whatever comes later; of an unknown one, the reader has added whether it is."""
        if not self.is_known:
            return self.endswith(HAS_ENDED)
        return self not in (State.QUEUED, State.STARTING, State.RUNNING)


# The final states of jobs that may be run again; a cancelled job ended as somebody wished.
FAILURES = (State.FAILED, State.TIMED_OUT, State.REJECTED, State.ERROR, State.LOST, State.EXPIRED)


class Cause(StrEnum):
    """The cause of an attempt's end; each has its own rule for retries."""

    EXIT = "exit"
    OUT_OF_MEMORY = "out_of_memory"
    HOST = "host"
    REQUEST = "request"
    # Ended by the worker, on an end request.
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    # It has another owner: nothing is decided or reported about it here.
    FENCED = "fenced"
    # Ended before a host had it, or when its host was lost.
    EXPIRED = "expired"
    LOST = "lost"
    # Another attempt would mend nothing, or could run the job a second time.
    ERROR = "error"


def cause_of(text: str | None) -> Cause:
    """Return the cause of an end request as a record has it; one of a newer version counts as a cancel."""
    return Cause(text) if text in (Cause.EXPIRED, Cause.LOST) else Cause.CANCELLED


@dataclass(frozen=True)
class Outcome:
    """The outcome of one attempt. `reason` is one line for people, empty after a success like any other."""

    cause: Cause
    reason: str = ""
    exit_code: int | None = None
    oom_killed: bool | None = None

    @property
    def succeeded(self) -> bool:
        return self.cause is Cause.EXIT and self.exit_code == 0


@dataclass(frozen=True)
class EndRequest:
    """A request to end a job before it ends by itself: a cancel, an expiry, a loss, a timeout, a stop of its worker."""

    cause: Cause
    reason: str


@dataclass(frozen=True)
class Budget:
    """The retries that a job is allowed. `retry_on` None means: after any exit that another try could change."""

    max_retries: int
    retry_delay_s: int
    retry_on: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Tally:
    """The retries a job has had so far, per class."""

    exits: int = 0
    host_faults: int = 0


@dataclass(frozen=True)
class Retry:
    """Queue the job again after `delay_s` seconds; `tally` counts this retry."""

    delay_s: int
    tally: Tally


@dataclass(frozen=True)
class Finish:
    """The job ends here."""

    state: State


# A host that is ill for longer than this (50 minutes of growing delays) is not ill in passing.
MAX_HOST_FAULTS = 10
MAX_HOST_DELAY_S = 600
# What shells and `docker run` say where a command cannot be executed or found: another try finds it no better.
_HOPELESS_EXITS = {126: "the command cannot be executed", 127: "the command was not found in the image"}
KILLED_EXIT = 137
_RESTART_EXITS = (KILLED_EXIT, 143, 255)
# What moby writes for a container whose end it has not seen.
_UNSEEN_EXIT = 255
_SIGNAL_BASE = 128


_STATE_OF_CAUSE = {
    Cause.REQUEST: State.REJECTED,
    Cause.ERROR: State.ERROR,
    Cause.CANCELLED: State.CANCELLED,
    Cause.TIMEOUT: State.TIMED_OUT,
    Cause.EXPIRED: State.EXPIRED,
    Cause.LOST: State.LOST,
}


ENDED_BEFORE_RUN = (Cause.CANCELLED, Cause.EXPIRED, Cause.LOST)


def decide(outcome: Outcome, tally: Tally, budget: Budget, draw: float) -> Retry | Finish:
    """Return what follows an attempt. `draw` is a uniform random number from 2 to 4.

    The delay after a container's failure is the rule of the original role: `int(draw ** n * retry_delay)` with n
    retries before this one.
    """
    if outcome.succeeded:
        return Finish(State.SUCCEEDED)
    if outcome.cause in _STATE_OF_CAUSE:
        return Finish(_STATE_OF_CAUSE[outcome.cause])
    if outcome.cause is Cause.INTERRUPTED:
        return Retry(delay_s=0, tally=tally)
    if outcome.cause is Cause.HOST:
        return _after_host_fault(tally, budget)
    return _after_exit(outcome, tally, budget, draw)


def _after_exit(outcome: Outcome, tally: Tally, budget: Budget, draw: float) -> Retry | Finish:
    if not _is_retried(outcome.exit_code, budget) or tally.exits >= budget.max_retries:
        return Finish(State.FAILED)
    return Retry(
        delay_s=int(draw**tally.exits * budget.retry_delay_s),
        tally=Tally(exits=tally.exits + 1, host_faults=tally.host_faults),
    )


def _is_retried(exit_code: int | None, budget: Budget) -> bool:
    if budget.retry_on is not None:
        return exit_code in budget.retry_on
    return exit_code not in _HOPELESS_EXITS


def _after_host_fault(tally: Tally, budget: Budget) -> Retry | Finish:
    if tally.host_faults >= MAX_HOST_FAULTS:
        return Finish(State.ERROR)
    return Retry(
        delay_s=min(max(budget.retry_delay_s, 1) * 2**tally.host_faults, MAX_HOST_DELAY_S),
        tally=Tally(exits=tally.exits, host_faults=tally.host_faults + 1),
    )


@dataclass(frozen=True)
class MemoryLimit:
    """The memory limit of a container, in bytes; `is_fixed`: a job here can have no more."""

    size: int
    is_fixed: bool

    def __str__(self) -> str:
        advice = "set by this host's policy" if self.is_fixed else "raise it with -m"
        return f"limit {sizes.shown(self.size)}, {advice}"


class DockerProcess(StrEnum):
    """The fate of the Docker process while a container of it ran."""

    STAYED = "stayed"
    WENT = "went"
    # No worker watched, and Docker has no record of it.
    UNKNOWN = "unknown"


def outcome_of_exit(
    exit_code: int,
    oom_killed: bool | None,
    limit: MemoryLimit | None,
    *,
    docker: DockerProcess,
    outlives_docker: bool,
    engine: str,
    was_signalled: bool = False,
) -> Outcome:
    """Return what a container's end means. `limit` is the container's memory limit, None without one.

    `engine` is Docker's name for people, which may be Podman. `was_signalled`: somebody had it send a signal to end.

    A Docker that goes has its containers end, and whatever they answer to its signal, but for 0, is the host's doing,
    not the job's. Where it may have gone, so are the exit codes of those that know no answer, and moby's 255 for a
    container that it finds dead.
    `outlives_docker` says that no end of Docker ends this container (live-restore): then 255 is of one that ended by
    itself, and nobody saw how. It has run to its end, so it must not run again.
    """
    # One exit code, two causes; only the Docker process tells them apart. A job that ends with 143:
    #   by itself:     it runs `kill $$`; the Docker that started it sees the end: a failure, which costs a retry
    #   by a restart:  Docker gets SIGTERM and passes it on; another Docker answers: the host's fault, at no cost
    #   in the dark:   both happened while no worker listened: Docker's own record of events decides; without one, 143
    #                  counts as the host's fault: better to run a job once more than to give it up
    if exit_code == 0 or docker is DockerProcess.STAYED:
        return _own_outcome(exit_code, oom_killed, limit, was_signalled=was_signalled)
    if outlives_docker and exit_code == _UNSEEN_EXIT:
        reason = f"it ended while {engine} or the worker was away, and nobody knows how (exit code {exit_code})"
        return Outcome(Cause.ERROR, reason, None, oom_killed)
    if not oom_killed and (exit_code in _RESTART_EXITS or (docker is DockerProcess.WENT and not outlives_docker)):
        reason = f"{engine} or the host went down under it (exit code {exit_code})"
        return Outcome(Cause.HOST, reason, exit_code, oom_killed)
    return _own_outcome(exit_code, oom_killed, limit, was_signalled=was_signalled)


def _own_outcome(exit_code: int, oom_killed: bool | None, limit: MemoryLimit | None, *, was_signalled: bool) -> Outcome:
    if oom_killed and exit_code != 0:
        reason = f"out of memory: {limit or 'the host had no memory left'}"
        return Outcome(Cause.OUT_OF_MEMORY, reason, exit_code, oom_killed)
    reason = exit_sentence(exit_code)
    # On a busy host, containerd often misses the kernel's note of it, since the control group is gone too soon.
    if exit_code == KILLED_EXIT and limit is not None and not was_signalled:
        reason += f", perhaps out of memory: {limit}"
    return Outcome(Cause.EXIT, reason, exit_code, oom_killed)


def outcome_of_end_request(outcome: Outcome, request: EndRequest) -> Outcome:
    """Return the outcome of an attempt that was ended on request; `outcome` is that of its container alone.

    A stop of the worker takes nothing from a job that says, by exit code 0, that it is done: it may have been just
    ending, and would run twice.
    """
    if request.cause is Cause.INTERRUPTED and outcome.succeeded:
        return outcome
    return replace(outcome, cause=request.cause, reason=request.reason)


def with_remark(outcome: Outcome, remark: str) -> Outcome:
    """Return an outcome whose reason also says something else that people should know; empty: nothing."""
    return replace(outcome, reason="; ".join(part for part in (outcome.reason, remark) if part))


def exit_sentence(exit_code: int) -> str:
    """Return an exit code in words; empty for 0."""
    if exit_code == 0:
        return ""
    if exit_code in _HOPELESS_EXITS:
        return f"exit code {exit_code}, {_HOPELESS_EXITS[exit_code]}"
    number = signal_of(exit_code)
    if number is None:
        return f"exit code {exit_code}"
    return f"exit code {exit_code}, ended by {signal.Signals(number).name}"


def signal_of(exit_code: int | None) -> int | None:
    """Return the signal that an exit code above 128 stands for, as shells and Docker count; else None."""
    if exit_code is None or exit_code <= _SIGNAL_BASE:
        return None
    number = exit_code - _SIGNAL_BASE
    return number if number in signal.valid_signals() and number < signal.SIGRTMIN else None
