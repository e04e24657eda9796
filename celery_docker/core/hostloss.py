"""The decision that a host is lost, and the takeover of its jobs.

Pure. Every time is by Redis' clock, in seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from celery_docker.core import incoming, lifecycle, message, receipt, wording
from celery_docker.core.jobrecord import Ownership
from celery_docker.core.recordfields import Fields

# Two heartbeats that are further apart are not one streak.
GAP_S = 15


@dataclass(frozen=True)
class Beat:
    """The answer to a heartbeat: its time, and the time of the one before; None for a host that was not in the list.

    `rival` is the report of another machine that works under the same name; the heartbeat did not count then.
    """

    now: float
    before: float | None = None
    rival: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Silence:
    """A host without a heartbeat for `for_s` seconds."""

    host: str
    heard_at: float
    for_s: float


@dataclass(frozen=True)
class Loss:
    """The end of a job whose host is silent (`ends`), or its next run, and the values for its record."""

    ends: bool
    reason: str
    host_faults: int
    attempts: Sequence[Mapping[str, Any]]
    envelope: Mapping[str, Any]


@dataclass(frozen=True)
class Streak:
    """Heartbeats without a gap, from `since` to `last`."""

    since: float
    last: float

    @property
    def is_new(self) -> bool:
        """True for a single heartbeat: it proves nothing about the time before it."""
        return self.since == self.last


def continued(streak: Streak | None, beat: Beat, lost_after_s: int) -> Streak:
    """Return the streak with one more heartbeat, or a new streak.

    A new one begins where Redis was away, has lost the heartbeat before, or had its clock set: then the other hosts
    look silent although they are not.
    """
    if streak is None or beat.before != streak.last or not 0 <= beat.now - streak.last <= min(GAP_S, lost_after_s):
        return Streak(beat.now, beat.now)
    return Streak(streak.since, beat.now)


def may_take_over(streak: Streak | None, lost_after_s: int) -> bool:
    """Return True if a host with such a streak may declare others lost."""
    return streak is not None and streak.last - streak.since >= lost_after_s


def is_fenced(ownership: Ownership | None, host: str, fence: int) -> bool:
    """Return True if a job that this host runs belongs to another host, or to a later attempt.

    A job whose record Redis has lost, all of it or its fence, is still this host's.
    """
    return ownership is not None and ownership.fence is not None and (ownership.owner, ownership.fence) != (host, fence)


def loss(job_id: str, record: Mapping[str, str], silence: Silence, tag: str) -> Loss:
    """Decide from its record how a silent host's job goes on. `tag` is that of its next delivery."""
    fields = Fields(record)
    envelope = incoming.of_record(job_id, fields.text("message")) if fields.text("queue") else None
    host_faults = fields.count("host_faults")
    silent = f"host {silence.host} was silent for {silence.for_s:.0f} s"
    end_reason = _end_reason(envelope, host_faults)
    return Loss(
        ends=end_reason is not None,
        reason=f"its {silent}{end_reason or ''}",
        host_faults=host_faults + 1,
        attempts=(*fields.entries("attempts"), _entry(record, silence, silent)),
        envelope=message.redelivery(envelope, tag) if envelope else {},
    )


def sentence(silence: Silence, results: Mapping[str, int]) -> str:
    """Return the takeover of a silent host's jobs in one line; `results` counts them by `Takeover`."""
    words = {"queued": "queued again", "lost": "lost", "cancelled": "cancelled", "ended": "ended already"}
    counts = [(results[result], word) for result, word in words.items() if results.get(result)]
    parts = [f"{count} {word}" for count, word in counts[1:]]
    if counts:
        count, word = counts[0]
        parts.insert(0, f"{wording.counted(count, 'job')} {word}")
    return f"host {silence.host} was silent for {silence.for_s:.0f} s: {', '.join(parts) or 'it had no jobs'}"


def _end_reason(envelope: Mapping[str, Any] | None, host_faults: int) -> str | None:
    """Return the reason for which a job ends with its host; None if it runs again."""
    if envelope is None:
        return " and its message is gone"
    kwargs: object = message.arguments(envelope)[1]
    if isinstance(kwargs, Mapping) and kwargs.get("requeue") is False:
        return " and the job says requeue=false"
    if host_faults >= lifecycle.MAX_HOST_FAULTS:
        return f", after {host_faults} other faults of its hosts"
    return None


def _entry(record: Mapping[str, str], silence: Silence, reason: str) -> dict[str, Any]:
    """Return the entry about the lost attempt, in the shape of `receipt.Attempt.entry`."""
    fields = Fields(record)
    started_at = fields.moment("claimed_at") or silence.heard_at
    began = record.get("state") == lifecycle.State.RUNNING
    return {
        "attempt": fields.count("attempt"),
        "host": silence.host,
        # The field may be that of an earlier attempt until this one runs.
        "container_id": record.get("container_id") if began else None,
        "started_at": receipt.rfc3339(datetime.fromtimestamp(started_at, UTC)),
        "finished_at": None,
        "exit_code": None,
        "reason": reason,
    }


class Takeover(StrEnum):
    """The result of the takeover of one job of a silent host."""

    # The host was heard again, or the job has changed since it was read: it is looked at again later.
    KEPT = "kept"
    # It belonged to another host already.
    FOREIGN = "foreign"
    # It has ended; the host that took it over reports its end.
    ENDED = "ended"
    # Somebody had requested its end, which follows.
    CANCELLED = "cancelled"
    LOST = "lost"
    QUEUED = "queued"
