"""The job records in Redis: the truth about every job.

One function per transition, each a Lua script, so that a transition happens whole or not at all and only by the owner.
Invariant: a job is in the set of exactly the host that owns it, from its claim until its result is stored and its
container is gone. Nothing here waits for a Redis that is away: a call raises `StoreAway` and can be repeated, because
every script may be said twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from celery_docker import errors, keys, lifecycle, redislink


class Verdict(StrEnum):
    """What a host is to do with a message it has just taken."""

    RUN = "run"
    ADOPT = "adopt"
    REPORT = "report"
    DROP = "drop"


@dataclass(frozen=True)
class Claim:
    """The answer to a claim. `attempt` counts from 1; `submitted_at` is None where nobody wrote it down."""

    verdict: Verdict
    fence: int = 0
    attempt: int = 0
    tally: lifecycle.Tally = field(default_factory=lifecycle.Tally)
    submitted_at: float | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()
    receipt: Mapping[str, Any] | None = None
    cancel_reason: str | None = None
    cancel_cause: lifecycle.Cause = lifecycle.Cause.CANCELLED


@dataclass(frozen=True)
class Cancelled:
    """A job that is to end and has not; `envelope` is None where only its id is known."""

    job_id: str
    state: str
    reason: str
    queue: str
    envelope: Mapping[str, Any] | None


@dataclass(frozen=True)
class Store:
    """The records, seen by one host. Times are seconds since the epoch, by the caller's clock."""

    link: redislink.Link

    def check(self) -> None:
        """Ask Redis for a sign of life. Raises `StoreAway` or `StoreRefused`."""
        self.link.check()

    def submit(self, job_id: str, *, queue: str, envelope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
        """Write a new job's record and publish its message, in one step; False if the id is known already."""
        touched = [keys.job(job_id), keys.INDEX]
        return bool(self.link.call("submit", touched, [job_id, time.time(), queue, _dump(envelope), _dump(spec)]))

    def claim(self, job_id: str, *, host: str, queue: str, envelope: Mapping[str, Any]) -> Claim:
        """Decide in Redis whose job this is, and take it if it is free; what was taken already is to be adopted."""
        touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host), keys.DELAYED]
        return _claim(self.link.call("claim", touched, [job_id, host, time.time(), queue, _dump(envelope)]))

    def update(
        self,
        job_id: str,
        *,
        host: str,
        fence: int,
        queue: str,
        envelope: Mapping[str, Any],
        values: Mapping[str, str | int | float],
    ) -> None:
        """Add to the record of a job that this host owns. Raises `Fenced` if it does not."""
        pairs = [part for pair in values.items() for part in pair]
        touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host)]
        args = [host, fence, job_id, time.time(), queue, _dump(envelope), *pairs]
        self._owned(self.link.call("update", touched, args), job_id)

    def finish(self, job_id: str, *, host: str, fence: int, state: lifecycle.State, receipt: Mapping[str, Any]) -> None:
        """Write how a job ended. Raises `Fenced` if it is not this host's."""
        touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host), keys.CANCELLING]
        args = [host, fence, job_id, time.time(), state.value, _dump(receipt)]
        self._owned(self.link.call("finish", touched, args), job_id)

    def requeue(
        self,
        job_id: str,
        *,
        host: str,
        fence: int,
        due_at: float,
        queue: str,
        envelope: Mapping[str, Any],
        tally: lifecycle.Tally,
        attempts: tuple[Mapping[str, Any], ...],
    ) -> None:
        """Give a job back to its queue, not before `due_at`. Raises `Fenced` if it is not this host's."""
        touched = [keys.job(job_id), keys.host_jobs(host), keys.DELAYED]
        args = [host, fence, job_id, due_at, _dump(envelope), tally.exits, tally.host_faults, _dump(attempts), queue]
        args.append(len(attempts))
        self._owned(self.link.call("requeue", touched, args), job_id)

    def cancel(self, job_id: str, *, reason: str) -> str:
        """Say that a job is not wanted any more; return the state it was in, `unknown` if there is no record of it."""
        touched = [keys.job(job_id), keys.INDEX, keys.DELAYED, keys.CANCELLING]
        return str(self.link.call("cancel", touched, [job_id, time.time(), reason]))

    def cancelling(self) -> list[Cancelled]:
        """Return the jobs that are to end and have not ended."""
        fields = ("state", "cancel_reason", "queue", "message")
        with self.link.translated():
            job_ids = sorted(self.link.client.smembers(keys.CANCELLING))
            with self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hmget(keys.job(job_id), fields)
                rows = pipeline.execute() if job_ids else []
        return [
            Cancelled(job_id, state or "", reason or "", queue or "", json.loads(text) if text else None)
            for job_id, (state, reason, queue, text) in zip(job_ids, rows, strict=True)
        ]

    def settle(self, job_id: str, *, host: str, retention_s: int) -> None:
        """Let go of a job whose result is stored and whose container is gone."""
        self.link.call("settle", [keys.job(job_id), keys.host_jobs(host)], [job_id, retention_s])

    def publish_due(self, now: float, limit: int = 1000) -> int:
        """Put the messages of delayed jobs that are due back into their queues; return how many."""
        with self.link.translated():
            due = self.link.client.zrange(keys.DELAYED, "-inf", now, byscore=True, offset=0, num=limit)
        return sum(int(self.link.call("publish", [keys.job(job_id), keys.DELAYED], [job_id])) for job_id in due)

    def forget_expired(self, before: float, limit: int = 1000) -> int:
        """Drop index entries older than `before` whose records have expired; return how many."""
        with self.link.translated():
            old = self.link.client.zrange(keys.INDEX, "-inf", before, byscore=True, offset=0, num=limit)
            gone = [job_id for job_id in old if not self.link.client.exists(keys.job(job_id))]
            if gone:
                self.link.client.zrem(keys.INDEX, *gone)
        return len(gone)

    def owned(self, host: str) -> dict[str, Mapping[str, Any] | None]:
        """Return the jobs that a host owns and their messages; None where Redis has lost it."""
        with self.link.translated():
            job_ids = sorted(self.link.client.smembers(keys.host_jobs(host)))
            with self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(keys.job(job_id), "message")
                texts = pipeline.execute()
        return {job_id: json.loads(text) if text else None for job_id, text in zip(job_ids, texts, strict=True)}

    def record(self, job_id: str) -> dict[str, str]:
        """Return the raw record of a job; empty if there is none."""
        with self.link.translated():
            record: dict[str, str] = self.link.client.hgetall(keys.job(job_id))
        return record

    def close(self) -> None:
        """Close every connection."""
        self.link.close()

    def _owned(self, answer: Any, job_id: str) -> None:
        if not answer:
            raise errors.Fenced(f"job {job_id} belongs to another host now")


def connect(url: str, *, connections: int | None = None) -> Store:
    """Return a store for a Redis URL; nothing is sent yet. `connections` bounds the pool, None: no bound.

    Raises `StoreRefused` for an option in the URL that Redis clients do not know.
    """
    return Store(redislink.connect(url, connections=connections))


def _claim(row: list[str]) -> Claim:
    verdict, fence, attempt, exits, host_faults, submitted_at, attempts, receipt, cancel_reason = row
    return Claim(
        verdict=Verdict(verdict),
        fence=int(fence or 0),
        attempt=int(attempt or 0),
        tally=lifecycle.Tally(exits=int(exits or 0), host_faults=int(host_faults or 0)),
        submitted_at=float(submitted_at) if submitted_at else None,
        attempts=tuple(json.loads(attempts)) if attempts else (),
        receipt=json.loads(receipt) if receipt else None,
        cancel_reason=cancel_reason or None,
    )


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
