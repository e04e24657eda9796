"""What the command line exits with for a job, and what it says about it.

Owns the table from a job's end to an exit status: the container's own code where there is one, else the codes that
`timeout`, `docker run` and shells use. Pure. A job of which no good end is known never comes to 0.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from typing import Any

from celery_docker import errors
from celery_docker.core import wording
from celery_docker.core.lifecycle import State

USAGE = 2
NO_SUCH_JOB = 4
TIMED_OUT = 124
NOT_RUN = 125
KILLED = 128 + signal.SIGKILL
CANCELLED = 128 + signal.SIGTERM
# What a shell says of a program that the terminal has interrupted, or whose reader has gone.
INTERRUPTED = 128 + signal.SIGINT
READER_GONE = 128 + signal.SIGPIPE
_CANNOT_START = (126, 127)

_BY_STATE = {
    State.TIMED_OUT: TIMED_OUT,
    State.EXPIRED: TIMED_OUT,
    State.CANCELLED: CANCELLED,
}


def exit_status(receipt: Mapping[str, Any]) -> int:
    """Return what to exit with for a job with this receipt, or with what is known of it so far."""
    state, code = receipt.get("state"), receipt.get("exit_code")
    if state == State.SUCCEEDED and code == 0:
        return 0
    if state in (State.SUCCEEDED, State.FAILED):
        return _own_code(receipt)
    if state == State.REJECTED and code in _CANNOT_START:
        return int(code)
    return next((status for known, status in _BY_STATE.items() if known == state), NOT_RUN)


def _own_code(receipt: Mapping[str, Any]) -> int:
    code = receipt.get("exit_code")
    # The system keeps eight bits of a status: 256 would come out as 0.
    if isinstance(code, int) and 1 <= code <= 255:
        return code
    if receipt.get("oom_killed"):
        return KILLED
    number = receipt.get("signal")
    return 128 + number if isinstance(number, int) and 1 <= number < signal.SIGRTMIN else NOT_RUN


def of_error(exc: errors.CeleryDockerError) -> int:
    """Return what to exit with where no job came of a command at all."""
    if isinstance(exc, errors.NoSuchJob):
        return NO_SUCH_JOB
    return USAGE if isinstance(exc, errors.UsageError | errors.SpecError | errors.AmbiguousId) else NOT_RUN


def highest(codes: Iterable[int]) -> int:
    """Return what to exit with for several jobs; 0 only if all of them came to 0."""
    return max(codes, default=0)


def explain(receipt: Mapping[str, Any]) -> str | None:
    """Return in one line why a job did not succeed, with the receipt's reason; None if it did."""
    state, attempts = str(receipt["state"]), len(receipt.get("attempts") or ())
    if state == State.SUCCEEDED:
        return None
    said = wording.harmless(" ".join(_sentence(state, receipt.get("reason") or "").split()))
    return f"{said} (after {attempts} attempts)" if attempts > 1 else said


def cancel_told(state: str) -> str:
    """Return in words what a cancel came to, from the state that the job was in."""
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
