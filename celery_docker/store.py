"""The job records in Redis: the truth about every job.

One function per transition, each a Lua script, so that a transition happens whole or not at all and only by the owner.
Invariant: a job is in the set of exactly the host that owns it, from its claim until its result is stored and its
container is gone. Nothing here waits for a Redis that is away: a call raises `StoreAway` and can be repeated, because
every script may be said twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from celery_docker import container, errors, keys, lifecycle, redislink


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


class Taken(NamedTuple):
    """A message of this host that nobody has claimed yet: the list it came from, and its bytes."""

    source: str
    text: bytes


@dataclass(frozen=True)
class Term:
    """When a message may be run, in seconds since the epoch; None: any time."""

    not_before: float | None = None
    not_after: float | None = None


ANY_TIME = Term()


@dataclass(frozen=True)
class Store:
    """The records. Every time in them is by Redis' own clock, in seconds since the epoch: those of hosts differ."""

    link: redislink.Link

    def check(self) -> None:
        """Ask Redis for a sign of life. Raises `StoreAway` or `StoreRefused`."""
        self.link.check()

    def submit(
        self,
        job_id: str,
        *,
        queue: str,
        envelope: Mapping[str, Any],
        spec: Mapping[str, Any],
        expires_s: float | None = None,
    ) -> bool:
        """Write a new job's record and publish its message, in one step; False if the id is known already.

        `queue` is the Redis list; a job that has not started after `expires_s` seconds will not.
        """
        touched = [keys.job(job_id), keys.INDEX, keys.WAITING, keys.EXPIRING]
        args = [job_id, queue, _dump(envelope), _dump(spec), "" if expires_s is None else expires_s]
        return bool(self.link.call("submit", touched, args))

    def claim(
        self,
        job_id: str,
        *,
        host: str,
        queue: str,
        envelope: Mapping[str, Any],
        taken: Taken | None = None,
        term: Term = ANY_TIME,
    ) -> Claim:
        """Decide in Redis whose job this is, and take it if it is free; what was taken already is to be adopted.

        In the same step its message leaves the host's list of `taken` ones. `term` is what the message itself says.
        """
        source, text = taken or ("", "")
        touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host), keys.DELAYED, keys.WAITING, keys.EXPIRING]
        args = [job_id, host, queue, _dump(envelope), text, _or_blank(term.not_before), _or_blank(term.not_after)]
        return _claim(self.link.call("claim", [*touched, keys.taken(host, source)], args))

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
        args = [host, fence, job_id, queue, _dump(envelope), *pairs]
        self._owned(self.link.call("update", touched, args), job_id)

    def finish(self, job_id: str, *, host: str, fence: int, state: lifecycle.State, receipt: Mapping[str, Any]) -> None:
        """Write how a job ended. Raises `Fenced` if it is not this host's."""
        touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host), keys.CANCELLING]
        args = [host, fence, job_id, state.value, _dump(receipt)]
        self._owned(self.link.call("finish", touched, args), job_id)

    def requeue(
        self,
        job_id: str,
        *,
        host: str,
        fence: int,
        delay_s: float,
        queue: str,
        envelope: Mapping[str, Any],
        tally: lifecycle.Tally,
        attempts: tuple[Mapping[str, Any], ...],
    ) -> None:
        """Give a job back to its queue, to be tried again after `delay_s`. Raises `Fenced` if it is not this host's."""
        touched = [keys.job(job_id), keys.host_jobs(host), keys.DELAYED]
        args = [host, fence, job_id, delay_s, _dump(envelope), tally.exits, tally.host_faults, _dump(attempts), queue]
        args.append(len(attempts))
        self._owned(self.link.call("requeue", touched, args), job_id)

    def cancel(self, job_id: str, *, reason: str) -> str:
        """Say that a job is not wanted any more; return the state it was in, `unknown` if there is no record of it."""
        touched = [keys.job(job_id), keys.INDEX, keys.DELAYED, keys.CANCELLING]
        return str(self.link.call("cancel", touched, [job_id, reason]))

    def settle(self, job_id: str, *, host: str, retention_s: int) -> None:
        """Let go of a job whose result is stored and whose container is gone."""
        self.link.call("settle", [keys.job(job_id), keys.host_jobs(host)], [job_id, retention_s])

    def owned(self, host: str) -> dict[str, Mapping[str, Any] | None]:
        """Return the jobs that a host owns and their messages; None where Redis has lost it."""
        with self.link.translated():
            job_ids = sorted(self.link.client.smembers(keys.host_jobs(host)))
            with self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(keys.job(job_id), "message")
                texts = pipeline.execute()
        return {job_id: json.loads(text) if text else None for job_id, text in zip(job_ids, texts, strict=True)}

    def stance(self, job_ids: Sequence[str], *, host: str) -> list[container.Stance | None]:
        """Return what each job's record says about whose it is; None where there is no record."""
        with self.link.translated(), self.link.client.pipeline(transaction=True) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(keys.job(job_id), ("state", "owner", "receipt", "message"))
                pipeline.sismember(keys.host_jobs(host), job_id)
            answers = pipeline.execute()
        return [_stance(*row) for row in zip(answers[::2], answers[1::2], strict=True)]

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
    verdict, fence, attempt, exits, host_faults, submitted_at, attempts, receipt, cancel_reason, cancel_cause = row
    return Claim(
        verdict=Verdict(verdict),
        fence=int(fence or 0),
        attempt=int(attempt or 0),
        tally=lifecycle.Tally(exits=int(exits or 0), host_faults=int(host_faults or 0)),
        submitted_at=float(submitted_at) if submitted_at else None,
        attempts=tuple(json.loads(attempts)) if attempts else (),
        receipt=json.loads(receipt) if receipt else None,
        cancel_reason=cancel_reason or None,
        cancel_cause=lifecycle.Cause(cancel_cause or lifecycle.Cause.CANCELLED),
    )


def _stance(row: Sequence[str | None], in_hand: object) -> container.Stance | None:
    state, owner, receipt, text = row
    if state is None:
        return None
    return container.Stance(state, owner or "", bool(receipt), bool(in_hand), json.loads(text) if text else None)


def _or_blank(value: float | None) -> float | str:
    return "" if value is None else value


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
