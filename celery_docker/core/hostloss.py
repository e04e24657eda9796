"""Who may declare a host lost, when, and what becomes of the jobs of one that is.

Pure. Every time is by Redis' clock, in seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from celery_docker.core import lifecycle, message, receipt

# Two signs of life that are further apart are not one series.
GAP_S = 15


@dataclass(frozen=True)
class Beat:
    """The answer to a sign of life: when it was, when the one before was, None for a host that was not in the list.

    `rival` is what another machine says of itself that works under the same name; the sign of life did not count then.
    """

    now: float
    before: float | None = None
    rival: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Silence:
    """A host that has not been heard for `for_s` seconds."""

    host: str
    heard_at: float
    for_s: float


@dataclass(frozen=True)
class Standing:
    """Whose a job is, by its record; the owner is empty while it is queued."""

    owner: str
    fence: int


@dataclass(frozen=True)
class Loss:
    """What is to become of a job whose host is silent: its end, or another run, with this in its record."""

    ends: bool
    reason: str
    host_faults: int
    attempts: Sequence[Mapping[str, Any]]
    envelope: Mapping[str, Any]


@dataclass(frozen=True)
class Series:
    """Signs of life that all worked, without a gap, from `since` to `last`."""

    since: float
    last: float

    @property
    def is_new(self) -> bool:
        """True for one sign of life alone: what others did before it is unknown."""
        return self.since == self.last


def continued(series: Series | None, beat: Beat, lost_after_s: int) -> Series:
    """Return the series with one more sign of life, or a new one.

    It begins anew where Redis was away, has forgotten the sign before, or had its clock set: then others look dead too.
    """
    if series is None or beat.before != series.last or not 0 <= beat.now - series.last <= min(GAP_S, lost_after_s):
        return Series(beat.now, beat.now)
    return Series(series.since, beat.now)


def may_judge(series: Series | None, lost_after_s: int) -> bool:
    """Say whether a host with such a series may call others silent."""
    return series is not None and series.last - series.since >= lost_after_s


def is_fenced(standing: Standing | None, host: str, fence: int) -> bool:
    """Say whether a job that a host has in hand is another's. One whose record Redis has lost is not."""
    return standing is not None and standing != Standing(host, fence)


def loss(record: Mapping[str, str], silence: Silence, tag: str) -> Loss:
    """Return what becomes of a job, by its record. `tag` is that of its next delivery."""
    envelope = json.loads(record["message"]) if record.get("message") and record.get("queue") else None
    host_faults = int(record.get("host_faults", 0))
    silent = f"host {silence.host} was silent for {silence.for_s:.0f} s"
    doom = _doom(envelope, host_faults)
    return Loss(
        ends=doom is not None,
        reason=f"its {silent}{doom or ''}",
        host_faults=host_faults + 1,
        attempts=(*json.loads(record.get("attempts") or "[]"), _entry(record, silence, silent)),
        envelope=message.redelivery(envelope, tag) if envelope else {},
    )


def sentence(silence: Silence, fates: Mapping[str, int]) -> str:
    """Return in one line what has become of a silent host's jobs; `fates` counts them."""
    words = {"queued": "queued again", "lost": "lost", "cancelled": "cancelled", "ended": "ended already"}
    counts = [(fates[fate], said) for fate, said in words.items() if fates.get(fate)]
    told = [f"{count} {said}" for count, said in counts[1:]]
    if counts:
        count, said = counts[0]
        told.insert(0, f"{count} {'job' if count == 1 else 'jobs'} {said}")
    return f"host {silence.host} was silent for {silence.for_s:.0f} s: {', '.join(told) or 'it had no jobs'}"


def _doom(envelope: Mapping[str, Any] | None, host_faults: int) -> str | None:
    """Return why a job ends with its host; None if it runs again."""
    if envelope is None:
        return " and its message is gone"
    kwargs: object = message.arguments(envelope)[1]
    if isinstance(kwargs, Mapping) and kwargs.get("requeue") is False:
        return " and the job says requeue=false"
    if host_faults >= lifecycle.MAX_HOST_FAULTS:
        return f", after {host_faults} other faults of its hosts"
    return None


def _entry(record: Mapping[str, str], silence: Silence, reason: str) -> dict[str, Any]:
    """Return the line about the lost attempt, in the shape of `receipt.Attempt.entry`."""
    started_at = float(record.get("claimed_at") or silence.heard_at)
    began = record.get("state") == lifecycle.State.RUNNING
    return {
        "attempt": int(record.get("attempt", 0)),
        "host": silence.host,
        # The field may be that of an earlier attempt until this one runs.
        "container_id": record.get("container_id") if began else None,
        "started_at": receipt.timestamp(datetime.fromtimestamp(started_at, UTC)),
        "finished_at": None,
        "exit_code": None,
        "reason": reason,
    }


class Fate(StrEnum):
    """What has become of a job of a silent host."""

    # The host was heard again, or the job has changed: it is looked at once more later.
    KEPT = "kept"
    # It was another's all along.
    FOREIGN = "foreign"
    # It has ended, and is the judge's now, who tells its end.
    ENDED = "ended"
    # It was to end anyway, and will.
    CANCELLED = "cancelled"
    LOST = "lost"
    QUEUED = "queued"
