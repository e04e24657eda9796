"""The filter of a listing of jobs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celery_docker.core import message
from celery_docker.core.lifecycle import State
from celery_docker.store.listing import JobRow

# The fields of a record that are looked at, and the values that each may have.
Conditions = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class JobFilter:
    """The jobs that a listing wants; None, and no states at all, is any.

    `uid` is that of the gateway's user; `since_at` the earliest submission, in seconds since the epoch by Redis' clock.
    """

    states: tuple[State, ...] = ()
    name: str | None = None
    host: str | None = None
    queue: str | None = None
    uid: int | None = None
    since_at: float | None = None

    def has(self, row: JobRow) -> bool:
        """Tell whether the listing has this job."""
        return (
            (not self.states or row.state in self.states)
            and self.name in (None, row.name)
            and self.host in (None, row.host)
            and self.queue in (None, row.queue)
            and self.uid in (None, row.uid)
            and (self.since_at is None or (row.submitted_at or 0) >= self.since_at)
        )

    def conditions(self) -> Conditions:
        """Return what the record of a job has to have."""
        wanted: dict[str, Sequence[str]] = {}
        if self.states:
            wanted["state"] = [state.value for state in self.states]
        for field, value in (("name", self.name), ("owner", self.host), ("uid", self.uid)):
            if value is not None:
                wanted[field] = [str(value)]
        if self.queue is not None:
            wanted["queue"] = message.queue_keys(self.queue)
        return wanted


ALL = JobFilter()


def wishes(fields: Sequence[str], conditions: Conditions) -> list[str | int]:
    """Return what `lua/wanted.lua` reads: the fields of a row, and the conditions."""
    parts: list[str | int] = [len(fields), *fields, len(conditions)]
    for name, values in conditions.items():
        parts += [name, len(values), *values]
    return parts
