"""The events that the journal explains, and the fields of an entry about jobs. Pure.

A log record with the attribute `event` goes to the journal with that id as MESSAGE_ID; `journalctl -x` then adds the
text that systemd/celery-docker.catalog has for it. The ids belong to running installations: a new event gets a new
one, from `journalctl --new-id128`. Invariant: a value that others have written is one short line without control
characters, and nothing here is taken from a job's environment, command or output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from celery_docker.core import wording
from celery_docker.core.lifecycle import State

PREFIX = "CELERY_DOCKER_"
JOB = f"{PREFIX}JOB"
# The most jobs that one entry names: it has to fit into one datagram, also with the longest ids.
MOST_JOBS = 250
# An image may have a longer name; what is looked for is at its beginning.
_MOST_CHARS = 256


class JournalEvent(StrEnum):
    """One kind of event, as MESSAGE_ID names it."""

    READY = "deb3280cf6c042a3840811515b71ae63"
    INTAKE_CLOSED = "182be30c3634453298d634d6526e6270"
    INTAKE_OPEN = "b93558ab2f2f41d4b11df0e9f32d0e71"
    TAKEOVER = "fcec43a97a4b4065a125d4069c7989f8"
    REFUSAL = "05fdc1c4f35d4c9a88ad77b64fd28cf0"
    UNKNOWN_CONTAINER = "7d9489118ce94cb4b685438fff0a93b6"
    NOTICE_DELAYED = "0468dd9b3c304d9ebe476dca3e9c5cfe"
    NOTICE_GIVEN_UP = "65602211569042d685b97f6b9e94a2c5"
    JOB_STARTED = "0eb6082c73a94dbaaecbf679653df81b"
    JOB_ADOPTED = "e750911d61394fe09a8b1ec47edfba63"
    JOB_STOPPED = "69939207d66549dd99a5917f510c362c"
    JOB_RETRIED = "a7e9eba1b93342d7a3b3c7c947b7f6dd"
    JOB_FENCED = "1b51c1627ff142c88d6a65b3f09c8637"
    JOB_SUCCEEDED = "4192209404d64c81b750f7c7b490b3b3"
    JOB_FAILED = "88ea12d36b7346d9bccf817288315060"
    JOB_TIMED_OUT = "8d845fe3a52d4dbd836d95ba1f4f945e"
    JOB_EXPIRED = "d3e6270c6f0d46029295f712ce08e3ff"
    JOB_CANCELLED = "c45ffa23f2544679845982dc4d9e1c56"
    JOB_REJECTED = "d7f51d5987eb45de83fd2cf9c9839af9"
    JOB_ERROR = "1ec86e0af8c549a29e267455bc5c4afd"
    JOB_LOST = "42570a25b5614aee85ed44d44ace3e2c"


def end_event(state: State) -> JournalEvent | None:
    """Return the event of a job's end; None for a state of a newer version."""
    return JournalEvent.__members__.get(f"JOB_{state.name}") if state.is_final else None


@dataclass(frozen=True)
class JobFacts:
    """What an entry says of its jobs besides their ids; what is empty or None is left out.

    `host` is the host that has the job, or had it. `user` is who has signed it, so that nobody can say who he is not.
    """

    batch: str = ""
    attempt: int | None = None
    state: str = ""
    exit_code: int | None = None
    image: str = ""
    host: str = ""
    queue: str = ""
    user: str = ""


def attributes(event: JournalEvent | None, jobs: str | Sequence[str], facts: JobFacts) -> dict[str, Any]:
    """Return the attributes (`extra`) of a log record about a job, or about at most `MOST_JOBS` of them."""
    about = {"job": jobs} if isinstance(jobs, str) else {"jobs": tuple(jobs)}
    return {**about, "event": event, "facts": facts}


def fields(job: str | None, jobs: Sequence[str], facts: JobFacts | None) -> Iterator[tuple[str, str]]:
    """Yield the fields of an entry with their values; that of the job is there once for each."""
    for job_id in (job,) if job else jobs:
        yield JOB, shown(job_id)
    for name, value in vars(facts).items() if facts else ():
        if value not in (None, ""):
            yield PREFIX + name.upper(), shown(str(value))


def shown(value: str) -> str:
    """Return a value that somebody else may have written as a field has it."""
    return wording.one_line(value, _MOST_CHARS)


def portions(job_ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield job ids in portions that fit into one entry each; one empty portion where there are none."""
    for begin in range(0, len(job_ids) or 1, MOST_JOBS):
        yield job_ids[begin : begin + MOST_JOBS]
