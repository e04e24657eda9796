"""Questions about the reasons for which jobs wait. Reads only.

Invariant: a listing of any length asks about the hosts once and about each queue once, and of a queue it looks at the
first `_PLACES` messages only, which keeps Redis busy for some milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import message, waiting
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields
from celery_docker.core.waiting import JobFacts, Place, Wait
from celery_docker.store import keys, listing, redislink
from celery_docker.store.hostqueries import HostQueries
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import JobRow, WorkerRow

_PLACES = 1000
_PLACES_BYTES = 4 * 2**20
_AT_ONCE = 1000
# Of the jobs that have to succeed first, so many are looked at.
_PENDING_AT_MOST = 20


@dataclass(frozen=True)
class _Head:
    """The jobs that are next in a queue, by their places among so many messages; `is_all`: there are no more."""

    places: Mapping[str, int]
    count: int
    is_all: bool

    def place(self, job_id: str) -> Place | None:
        """Return the place of a job; None if a host has just taken its message."""
        if job_id in self.places:
            return Place(self.places[job_id])
        return None if self.is_all else Place(self.count, exact=False)


@dataclass(frozen=True)
class WaitQueries:
    """Questions about waits. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def of(self, rows: Sequence[JobRow], now: float, hosts: Sequence[WorkerRow] | None = None) -> dict[str, Wait]:
        """Return the wait of each of these jobs that has one; `now` is the time of the rows, `hosts` if they are known.

        A job that has moved on since its row was read may have the wait of a moment ago.
        """
        live = [row for row in rows if not row.state.is_final]
        if not live:
            return {}
        facts = [listing.host_facts(row) for row in (HostQueries(self.link).rows() if hosts is None else hosts)]
        jobs = self._facts(live)
        waits = ((row.job_id, waiting.wait_of(jobs[row.job_id], facts, now)) for row in live)
        return {job_id: wait for job_id, wait in waits if wait is not None}

    def attempts(self, job_ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Return the attempts of jobs that another one followed, or is to follow, as in a receipt."""
        rows = zip(job_ids, JobQueries(self.link).fields(job_ids, "attempts"), strict=True)
        return {job_id: list(Fields({"attempts": text}).entries("attempts")) for job_id, (text,) in rows if text}

    def _facts(self, rows: Sequence[JobRow]) -> dict[str, JobFacts]:
        queued = [row for row in rows if row.state is State.QUEUED and not row.cancel_reason]
        blocked = [row for row in queued if row.waits_for]
        free = [row for row in queued if not row.waits_for and not row.held]
        due_at = self._due_at([row.job_id for row in free])
        heads = {queue: self._head(queue) for queue in {row.queue for row in free if row.job_id not in due_at} if queue}
        attempts = self.attempts([row.job_id for row in free if row.attempt])
        pending = self._first_pending([row.job_id for row in blocked])
        return {
            row.job_id: JobFacts(
                row.state,
                queue=row.queue or "",
                host=row.host,
                image=row.image,
                attempt=row.attempt,
                failure=_failure(attempts.get(row.job_id)),
                end_reason=row.cancel_reason,
                pending=row.waits_for,
                first_pending=pending.get(row.job_id),
                is_held=row.held,
                not_before=due_at.get(row.job_id),
                place=heads[row.queue].place(row.job_id) if row.queue in heads else None,
                pull=row.pull,
            )
            for row in rows
        }

    def _due_at(self, job_ids: Sequence[str]) -> dict[str, float]:
        """Return the times of those jobs that wait for one."""
        due_at: dict[str, float] = {}
        for first in range(0, len(job_ids), _AT_ONCE):
            part = job_ids[first : first + _AT_ONCE]
            with self.link.translated():
                scores = self.link.client.zmscore(keys.DELAYED, list(part))
            due_at |= {job_id: score for job_id, score in zip(part, scores, strict=True) if score is not None}
        return due_at

    def _head(self, queue: str) -> _Head:
        is_all, *job_ids = self.link.call("heads", message.queue_keys(queue), [_PLACES, _PLACES_BYTES, keys.JOB])
        # Of a job that is there twice, the first one counts.
        places = {job_id: place for place, job_id in reversed(list(enumerate(job_ids)))}
        return _Head(places, len(job_ids), bool(is_all))

    def _first_pending(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return the first job that each of these waits for, where its record says that."""
        jobs = JobQueries(self.link)
        rows = zip(job_ids, jobs.fields(job_ids, "after"), strict=True)
        after = {job_id: _ids(text)[:_PENDING_AT_MOST] for job_id, (text,) in rows if text}
        earlier = list(dict.fromkeys(earlier_id for ids in after.values() for earlier_id in ids))
        states = dict(zip(earlier, (state for (state,) in jobs.fields(earlier, "state")), strict=True))
        going = {job_id for job_id, state in states.items() if state is not None and not State(state).is_final}
        first = {
            job_id: next((earlier_id for earlier_id in ids if earlier_id in going), "") for job_id, ids in after.items()
        }
        return {job_id: earlier_id for job_id, earlier_id in first.items() if earlier_id}


def _ids(text: str) -> list[str]:
    ids = Fields({"after": text}).json("after", list) or []
    return [job_id for job_id in ids if isinstance(job_id, str)]


def _failure(attempts: Sequence[Mapping[str, Any]] | None) -> str:
    """Return the reason of the latest attempt; empty where it is not known."""
    return str(attempts[-1].get("reason") or "") if attempts else ""
