"""Questions about the reasons for which jobs wait. Reads only.

Invariant: a listing of any length asks about the hosts once and about each queue once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core import waiting
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields
from celery_docker.core.waiting import JobFacts, Place, SharePlace, Wait
from celery_docker.store import keys, redislink
from celery_docker.store.heads import Head, Heads
from celery_docker.store.hostqueries import LatestHosts
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import JobRow
from celery_docker.store.parking import Parking

_AT_ONCE = 1000
# Of the jobs that have to succeed first, so many are looked at.
_PENDING_AT_MOST = 20


@dataclass(frozen=True)
class _Times:
    """Until when jobs wait, when the messages of others were put into their queues, and the time now."""

    due_at: dict[str, float] = field(default_factory=dict)
    put_at: dict[str, float] = field(default_factory=dict)
    now: float = 0.0


@dataclass(frozen=True)
class WaitQueries:
    """Questions about waits. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link
    heads: Heads
    hosts: LatestHosts

    def of(self, rows: Sequence[JobRow]) -> dict[str, Wait]:
        """Return the wait of each of these jobs that has one.

        A job that has moved on since its row was read may have the wait of a moment ago.
        """
        live = [row for row in rows if not row.state.is_final]
        if not live:
            return {}
        hosts = self.hosts.facts()
        free = [row for row in live if _is_free(row)]
        times = self._times([row.job_id for row in free])
        jobs = self._facts(live, free, times)
        waits = ((row.job_id, waiting.wait_of(jobs[row.job_id], hosts, times.now)) for row in live)
        return {job_id: wait for job_id, wait in waits if wait is not None}

    def attempts(self, job_ids: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
        """Return the attempts of jobs that another one followed, or is to follow, as in a receipt."""
        rows = zip(job_ids, JobQueries(self.link).fields(job_ids, "attempts"), strict=True)
        return {job_id: list(Fields({"attempts": text}).entries("attempts")) for job_id, (text,) in rows if text}

    def _facts(self, rows: Sequence[JobRow], free: Sequence[JobRow], times: _Times) -> dict[str, JobFacts]:
        in_line = [row for row in free if row.job_id not in times.due_at]
        parked = self._parked([row for row in in_line if row.parked_at is not None])
        heads = self._heads([row for row in in_line if row.job_id not in parked], times)
        attempts = self.attempts([row.job_id for row in rows if row.attempt and (_is_free(row) or _is_over_share(row))])
        pending = self._first_pending([row.job_id for row in rows if _is_in_line(row) and row.waits_for])
        shares = self._shares([row for row in rows if _is_over_share(row)])
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
                share=shares.get(row.job_id),
                not_before=times.due_at.get(row.job_id),
                place=parked.get(row.job_id) or (heads[row.queue].place(row.job_id) if row.queue in heads else None),
                pull=row.pull,
                needs=row.needs,
                is_parked=row.job_id in parked,
            )
            for row in rows
        }

    def _parked(self, rows: Sequence[JobRow]) -> dict[str, Place]:
        """Return the places of those jobs that are still parked, among those that need the same."""
        job_ids = [row.job_id for row in rows]
        fields = JobQueries(self.link).fields(job_ids, "queue", "needs")
        groups = {job_id: f"{queue}|{needs}" for job_id, (queue, needs) in zip(job_ids, fields, strict=True)}
        heads = Parking(self.link).heads(groups.values()) if groups else {}
        places = {job_id: heads[group].place(job_id) for job_id, group in groups.items()}
        return {job_id: place for job_id, place in places.items() if place is not None}

    def _shares(self, rows: Sequence[JobRow]) -> dict[str, SharePlace]:
        """Return the places of jobs that are held back in their shares."""
        places = JobQueries(self.link).share_places((row.job_id, row.share) for row in rows)
        return {
            row.job_id: SharePlace((row.submitted_by or "").rpartition("@")[0] or "its submitter", published, before)
            for row, (published, before) in zip(rows, places, strict=True)
        }

    def _heads(self, rows: Sequence[JobRow], times: _Times) -> dict[str, Head]:
        """Return the head of each queue of these jobs."""
        put_at: dict[str, list[float | None]] = {}
        for row in rows:
            if row.queue:
                put_at.setdefault(row.queue, []).append(times.put_at.get(row.job_id))
        return {queue: self.heads.of(queue, _latest(moments)) for queue, moments in put_at.items()}

    def _times(self, job_ids: Sequence[str]) -> _Times:
        times = _Times()
        for first in range(0, len(job_ids), _AT_ONCE):
            part = list(job_ids[first : first + _AT_ONCE])
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                pipeline.zmscore(keys.DELAYED, part).zmscore(keys.WAITING, part).time()
                due_at, put_at, (seconds, microseconds) = pipeline.execute()
            times = _Times(
                times.due_at | _known(part, due_at), times.put_at | _known(part, put_at), seconds + microseconds / 1e6
            )
        return times

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


def _is_in_line(row: JobRow) -> bool:
    return row.state is State.QUEUED and not row.cancel_reason


def _is_free(row: JobRow) -> bool:
    """Tell whether a job has its turn in a queue, or at a time of its own."""
    return _is_in_line(row) and not row.waits_for and not row.held and not row.over_share


def _is_over_share(row: JobRow) -> bool:
    return _is_in_line(row) and row.over_share


def _known(job_ids: Sequence[str], scores: Sequence[float | None]) -> dict[str, float]:
    return {job_id: score for job_id, score in zip(job_ids, scores, strict=True) if score is not None}


def _latest(moments: Sequence[float | None]) -> float | None:
    known = [moment for moment in moments if moment is not None]
    return max(known) if len(known) == len(moments) else None


def _ids(text: str) -> list[str]:
    ids = Fields({"after": text}).json("after", list) or []
    return [job_id for job_id in ids if isinstance(job_id, str)]


def _failure(attempts: Sequence[Mapping[str, Any]] | None) -> str:
    """Return the reason of the latest attempt; empty where it is not known."""
    return str(attempts[-1].get("reason") or "") if attempts else ""
