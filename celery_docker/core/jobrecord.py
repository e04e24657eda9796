"""A job's record in Redis as plain values: a new job, the answer to a claim, the owner, a hold on a job. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from celery_docker.core import lifecycle

# The field of a record or batch that says whose it is, where the gateway wrote it: the user's number.
UID = "uid"
# The field of a record that says to which share of its submitter a job belongs.
SHARE = "share"
# The most jobs with an end request that are listed at once, besides those of the host itself.
TO_END_AT_ONCE = 100


@dataclass(frozen=True)
class New:
    """A job to be submitted. `queue` is the Redis list; a job that has not started after `expires_s` seconds expires.

    It runs once the jobs `after` have succeeded. `about` has further fields of the record: for listings, its user, and
    its share, without which it is never held back.
    """

    job_id: str
    queue: str
    envelope: Mapping[str, Any]
    spec: Mapping[str, Any]
    expires_s: float | None = None
    after: tuple[str, ...] = ()
    batch_id: str | None = None
    batch_index: int = 0
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ownership:
    """The owner of a job by its record, as one host sees it. `owner` is empty while the job is queued.

    `in_hand`: that host owns the job and has not settled it. `fence` and `envelope` are None if the record has none.
    """

    state: str
    owner: str
    fence: int | None = None
    has_ended: bool = False
    in_hand: bool = False
    envelope: Mapping[str, Any] | None = None


class Verdict(StrEnum):
    """The answer to a claim: run the job, adopt its container, report its end, drop the message, or park the job."""

    RUN = "run"
    ADOPT = "adopt"
    REPORT = "report"
    DROP = "drop"
    PARK = "park"


@dataclass(frozen=True)
class Claim:
    """The answer to a claim. `attempt` counts from 1; `submitted_at` is None for a plain Celery client's job.

    `container_id` is that of the container which this attempt may have started, None if there is none. `batch_id` is
    for people, empty for a job of no batch.
    """

    verdict: Verdict
    fence: int = 0
    attempt: int = 0
    tally: lifecycle.Tally = field(default_factory=lifecycle.Tally)
    submitted_at: float | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()
    receipt: Mapping[str, Any] | None = None
    end_request: lifecycle.EndRequest | None = None
    container_id: str | None = None
    batch_id: str = ""


@dataclass(frozen=True)
class Holding:
    """A host's hold on a job, by the fence of its claim.

    `queue` and `envelope` (its message) are for a record that Redis has lost: it is begun again with them.
    """

    job_id: str
    host: str
    fence: int
    queue: str = ""
    envelope: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Finished:
    """The end of a job, as its record keeps it; so many `notices` of it are to be sent."""

    holding: Holding
    state: lifecycle.State
    receipt: Mapping[str, Any]
    notices: int = 0


class Taken(NamedTuple):
    """A message that this host has taken and no slot has claimed: the list it came from, and its bytes."""

    source: str
    text: bytes


@dataclass(frozen=True)
class Term:
    """The time in which a message may be run, in seconds since the epoch; None: any time."""

    not_before: float | None = None
    not_after: float | None = None


ANY_TIME = Term()


@dataclass(frozen=True)
class JobToEnd:
    """A job with an end request that has not ended; `envelope` is None where only its id is known."""

    job_id: str
    state: str
    queue: str
    envelope: Mapping[str, Any] | None
    request: lifecycle.EndRequest
