"""Exit statuses of the command line, and its one-line reasons.

Owns the table from a job's end to an exit status: the container's own code where there is one, else the codes that
`timeout`, `docker run` and shells use. Pure. The status is 0 only if the job is known to have succeeded.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from celery_docker import errors
from celery_docker.core import wording
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt

REFUSED = 1
USAGE = 2
NO_SUCH_JOB = 4
BAD_CONFIG = 78
TIMED_OUT = 124
NOT_RUN = 125
# The output of an attached job that was shown is not all of it, or that of several attempts.
INCOMPLETE = NOT_RUN
KILLED = 128 + signal.SIGKILL
CANCELLED = 128 + signal.SIGTERM
# What a shell says of a program that was told to end, that the terminal has interrupted, or whose reader has gone.
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + signal.SIGPIPE
_CANNOT_START = (126, 127)

_BY_STATE = {
    State.TIMED_OUT: TIMED_OUT,
    State.EXPIRED: TIMED_OUT,
    State.CANCELLED: CANCELLED,
}


def exit_status(receipt: Receipt) -> int:
    """Return the exit status for a job, from its receipt or the facts that are known so far."""
    state, code = receipt.state, receipt.exit_code
    if state == State.SUCCEEDED and code == 0:
        return 0
    if state in (State.SUCCEEDED, State.FAILED):
        return _own_code(receipt)
    if state == State.REJECTED and code in _CANNOT_START:
        return int(code)
    return next((status for candidate, status in _BY_STATE.items() if candidate == state), NOT_RUN)


def _own_code(receipt: Receipt) -> int:
    code = receipt.exit_code
    # The system keeps eight bits of a status: 256 would come out as 0.
    if isinstance(code, int) and 1 <= code <= 255:
        return code
    if receipt.oom_killed:
        return KILLED
    number = receipt.signal
    return 128 + number if isinstance(number, int) and 1 <= number < signal.SIGRTMIN else NOT_RUN


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command that waits for jobs as Ctrl-C does."""


def of_interruption(exc: KeyboardInterrupt) -> int:
    """Return the exit status for a command that a signal has ended."""
    return TERMINATED if isinstance(exc, Terminated) else INTERRUPTED


def of_error(exc: errors.CeleryDockerError) -> int:
    """Return the exit status for an error of the command itself."""
    if isinstance(exc, errors.NoSuchJob):
        return NO_SUCH_JOB
    return USAGE if isinstance(exc, errors.UsageError | errors.SpecError | errors.AmbiguousId) else NOT_RUN


def highest(codes: Iterable[int]) -> int:
    """Return the exit status for several jobs: the highest, so 0 only if each has 0."""
    return max(codes, default=0)


def explain(receipt: Receipt) -> str | None:
    """Return in one line why a job did not succeed, with the receipt's reason; None if it did."""
    state, attempts = receipt.state, len(receipt.attempts)
    if state == State.SUCCEEDED:
        return None
    sentence = wording.harmless(" ".join(_sentence(state, receipt.reason or "").split()))
    return f"{sentence} (after {attempts} attempts)" if attempts > 1 else sentence


def cancel_outcome(state: str) -> str:
    """Return the outcome of a cancel in words, from the state that the job was in."""
    if state == "unknown":
        return "there is no record of this job; nothing will run under this id"
    if State(state).is_final:
        return f"has ended already: {state}"
    return f"was {state}, is being cancelled"


def _sentence(state: str, reason: str) -> str:
    word = state.replace("_", " ")
    # How a container ended speaks for itself; a reason of somebody else's may say nothing of what became of the job.
    if reason and (state == State.FAILED or reason.startswith(word)):
        return reason
    return f"{word}: {reason}" if reason else word
