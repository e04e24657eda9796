"""The job records in Redis: the truth about every job.

One function per transition, each a Lua script, so that a transition happens whole or not at all and only by the owner.
Invariant: a job is in the set of exactly the host that owns it, from its claim until its result is stored and its
container is gone. Nothing here waits for a Redis that is away: a call raises `StoreAway` and can be repeated, because
every script may be sent twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from celery_docker import errors
from celery_docker.core import figures, incoming, jobrecord, lifecycle
from celery_docker.core.admission import NOTHING, Needs
from celery_docker.core.jobrecord import (
    ANY_TIME,
    Claim,
    Finished,
    Holding,
    JobToEnd,
    New,
    Ownership,
    Taken,
    Term,
    Verdict,
)
from celery_docker.core.receipt import Receipt
from celery_docker.core.recordfields import Fields
from celery_docker.store import keys, ownership, redislink

# How many new jobs go to Redis at once, how many of them in one call, during which it answers nobody else, and what a
# listing shows of a receipt.
_AT_ONCE = 500
_IN_ONE_CALL = 25
_LISTED = ("name", "image", "exit_code", "reason", "run_s")
_LISTED_CHARS = 300
# The live log of a job that has ended; its receipt has the end of the output for longer.
LOG_KEPT_S = 3600


@dataclass(frozen=True)
class Store:
    """The records. Every time in them is by Redis' own clock, in seconds since the epoch: those of hosts differ."""

    link: redislink.Link

    def check(self) -> None:
        """Check that Redis answers. Raises `StoreAway` or `StoreRefused`."""
        self.link.check()

    def submit(self, jobs: Sequence[New]) -> list[bool]:
        """Write the record of each new job and publish its message, in one step; False for an id that is known.

        What waits for others is not published yet. Raises `NoSuchJob` if one is to run after a job that is not known:
        that one is refused, others may be queued.
        """
        answers: list[Any] = []
        for first in range(0, len(jobs), _AT_ONCE):
            part = jobs[first : first + _AT_ONCE]
            for answered in self.link.call_many("submit", [_submission(alike) for alike in _in_calls(part)]):
                answers += answered
            for new, answer in zip(part, answers[first:], strict=True):
                if isinstance(answer, str):
                    raise errors.NoSuchJob(f"job {new.job_id} cannot run after {answer!r}: no job has this id")
        return [bool(answer) for answer in answers]

    def begin_batch(self, batch_id: str, values: Mapping[str, str | int]) -> None:
        """Write down a batch before its jobs; the value `limit` bounds how many of them are published at a time."""
        pairs = [part for pair in values.items() for part in pair]
        uid = str(values.get(jobrecord.UID, ""))
        touched = [keys.batch(batch_id), keys.BATCHES, keys.USERS, keys.user_batches(uid)]
        self.link.call("batch", touched, [batch_id, uid, *pairs])

    def claim(
        self,
        job_id: str,
        *,
        host: str,
        queue: str,
        envelope: Mapping[str, Any],
        taken: Taken | None = None,
        term: Term = ANY_TIME,
        needs: Needs = NOTHING,
        fits: bool = True,
    ) -> Claim:
        """Decide in Redis whose job this is, and take it if it is free; what was taken already is to be adopted.

        In the same step its message leaves the host's list of `taken` ones. `term` is what the message itself says, as
        are its `needs`. A job that does not fit the host's room is parked instead of taken.
        """
        call = _claim_call(job_id, host, queue, envelope, taken, term, None if fits else needs)
        return _claim(job_id, self.link.call("claim", *call))

    def claim_many(self, jobs: Sequence[JobToEnd], *, host: str) -> list[Claim]:
        """Claim queued jobs that are to end, in one round trip."""
        calls = [_claim_call(job.job_id, host, job.queue, job.envelope or {}) for job in jobs]
        rows = zip(jobs, self.link.call_many("claim", calls), strict=True)
        return [_claim(job.job_id, row) for job, row in rows]

    def update(self, holding: Holding, values: Mapping[str, str | int | float]) -> None:
        """Add to the record of a job that this host owns. Raises `Fenced` if it does not."""
        pairs = [part for pair in values.items() for part in pair]
        touched = [keys.job(holding.job_id), keys.INDEX, keys.host_jobs(holding.host)]
        args = [*_owner(holding), holding.queue, _dump(holding.envelope), *pairs]
        _check_owned(self.link.call("update", touched, args), holding)

    def finish(self, holding: Holding, state: lifecycle.State, receipt: Mapping[str, Any], *, notices: int = 0) -> None:
        """Write how a job ended, publish what waited for that, and list so many notices of it to be sent.

        Those of a batch's job are sent once, with the end of the last. Raises `Fenced` if it is not this host's.
        """
        _check_owned(self.link.call("finish", *_finish_call(Finished(holding, state, receipt, notices))), holding)

    def finish_many(self, ends: Sequence[Finished]) -> list[bool]:
        """Write how each job ended, in one round trip; False for one that is not this host's."""
        return [bool(answer) for answer in self.link.call_many("finish", [_finish_call(end) for end in ends])]

    def requeue(
        self, holding: Holding, *, delay_s: float, tally: lifecycle.Tally, attempts: Sequence[Mapping[str, Any]]
    ) -> None:
        """Give a job back to its queue, to be tried again after `delay_s`. Raises `Fenced` if it is not this host's.

        Its next message is the envelope of `holding`.
        """
        touched = [keys.job(holding.job_id), keys.host_jobs(holding.host), keys.DELAYED, keys.INDEX]
        touched += [keys.WAITING, keys.SHARES, keys.WINDOWS, keys.COUNTS]
        args = [*_owner(holding), delay_s, _dump(holding.envelope), tally.exits, tally.host_faults, _dump(attempts)]
        args += [holding.queue, len(attempts), keys.JOB, keys.SHARE]
        _check_owned(self.link.call("requeue", touched, args), holding)

    def cancel(self, job_id: str, *, reason: str) -> str:
        """Write the end request of a job; return the state it was in, `unknown` if there is no record of it."""
        return self.cancel_many([job_id], reason=reason)[0]

    def cancel_many(self, job_ids: Sequence[str], *, reason: str) -> list[str]:
        """Write the end requests of many jobs, in this order; return the state that each was in."""
        shared = [keys.INDEX, keys.DELAYED, keys.CANCELLING]
        calls = [([keys.job(job_id), *shared], [job_id, reason]) for job_id in job_ids]
        parts = [calls[first : first + _AT_ONCE] for first in range(0, len(calls), _AT_ONCE)]
        return [str(state) for part in parts for state in self.link.call_many("cancel", part)]

    def settle(self, job_id: str, *, host: str, retention_s: int) -> None:
        """Let go of a job whose result is stored and whose container is gone."""
        self.settle_many([job_id], host=host, retention_s=retention_s)

    def settle_many(self, job_ids: Sequence[str], *, host: str, retention_s: int) -> None:
        """Let go of many jobs, in one round trip."""
        shared = [retention_s, LOG_KEPT_S, keys.BATCH]
        calls = [([keys.job(job_id), keys.host_jobs(host), keys.log(job_id)], [job_id, *shared]) for job_id in job_ids]
        self.link.call_many("settle", calls)

    def drain(self, host: str, reason: str) -> None:
        """Keep a host from taking jobs; `reason` names who drains it, and why."""
        with self.link.translated():
            self.link.client.hset(keys.DRAINED, host, reason)

    def resume(self, host: str) -> bool:
        """Let a host take jobs again; False if nobody kept it from that."""
        with self.link.translated():
            return bool(self.link.client.hdel(keys.DRAINED, host))

    def image_pin(self, job_id: str) -> str:
        """Return which image the attempts of a job run, as `core.imagepin` reads it; empty where it is not known."""
        with self.link.translated():
            value: str | None = self.link.client.hget(keys.job(job_id), "image_pin")
        return value or ""

    def owned(self, host: str) -> dict[str, Mapping[str, Any] | None]:
        """Return the jobs that a host owns and their messages; None where Redis has lost it."""
        with self.link.translated():
            job_ids = sorted(self.link.call("owned", [keys.host_jobs(host)], []))
            with self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(keys.job(job_id), "message")
                texts = redislink.answers(pipeline)
        return {job_id: incoming.of_record(job_id, text) for job_id, text in zip(job_ids, texts, strict=True)}

    def ownerships(self, job_ids: Sequence[str], *, host: str) -> dict[str, Ownership | None]:
        """Return the ownership of each job as `host` sees it; None where there is no record."""
        return ownership.read(self.link, job_ids, host=host)

    def record(self, job_id: str) -> dict[str, str]:
        """Return the raw record of a job; empty if there is none."""
        with self.link.translated():
            record: dict[str, str] = self.link.client.hgetall(keys.job(job_id))
        return record

    def close(self) -> None:
        """Close every connection."""
        self.link.close()


def connect(url: str, *, connections: int | None = None) -> Store:
    """Return a store for a Redis URL; nothing is sent yet. `connections` bounds the pool, None: no bound.

    Raises `StoreRefused` for an option in the URL that Redis clients do not know.
    """
    return Store(redislink.connect(url, connections=connections))


def _in_calls(jobs: Sequence[New]) -> Iterator[list[New]]:
    """Divide jobs, in their order, into those that can be submitted by one call."""
    for _, group in groupby(jobs, _in_common):
        alike = list(group)
        yield from (alike[first : first + _IN_ONE_CALL] for first in range(0, len(alike), _IN_ONE_CALL))


def _in_common(new: New) -> tuple[str, str, str, str, tuple[str, ...]]:
    """Return what the jobs of one call have in common: queue, batch, user, share, and the jobs after which they run."""
    uid, share = new.about.get(jobrecord.UID, ""), new.about.get(jobrecord.SHARE, "")
    return new.queue, new.batch_id or "", uid, share, tuple(dict.fromkeys(new.after))


def _submission(alike: Sequence[New]) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `lua/submit.lua`."""
    queue, batch_id, uid, share, after = _in_common(alike[0])
    touched = [keys.INDEX, keys.WAITING, keys.EXPIRING, keys.BLOCKED, keys.CANCELLING]
    touched += [keys.batch(batch_id), keys.batch_jobs(batch_id), keys.batch_held(batch_id)]
    touched += [keys.USERS, keys.user_jobs(uid), keys.DELAYED, keys.SHARES, keys.WINDOWS]
    touched += [keys.job(new.job_id) for new in alike] + [keys.job(after_id) for after_id in after]
    args: list[Any] = [queue, batch_id, uid, share, keys.JOB, keys.SHARE, len(alike)]
    for new in alike:
        fields = [part for pair in new.about.items() for part in pair]
        args += [new.job_id, _dump(new.envelope), _dump(new.spec), _or_blank(new.expires_s), new.batch_index]
        args += [len(fields), *fields]
    return touched, [*args, *after]


def _claim_call(
    job_id: str,
    host: str,
    queue: str,
    envelope: Mapping[str, Any],
    taken: Taken | None = None,
    term: Term = ANY_TIME,
    unmet: Needs | None = None,
) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `lua/claim.lua`; `unmet` are needs that do not fit the host's room."""
    source, text = taken or ("", "")
    touched = [keys.job(job_id), keys.INDEX, keys.host_jobs(host), keys.DELAYED, keys.WAITING, keys.EXPIRING]
    args = [job_id, host, queue, _dump(envelope), text, _or_blank(term.not_before), _or_blank(term.not_after)]
    args += [keys.PARKED_GROUP, str(unmet or NOTHING), int(unmet is None)]
    return [*touched, keys.taken(host, source), keys.PARKED, keys.COUNTS], args


def _finish_call(end: Finished) -> tuple[list[str], list[Any]]:
    """Return the keys and arguments of `lua/finish.lua`."""
    holding = end.holding
    touched = [keys.job(holding.job_id), keys.INDEX, keys.host_jobs(holding.host)]
    touched += [keys.CANCELLING, keys.WAITING, keys.BLOCKED, keys.DELAYED, keys.SHARES, keys.WINDOWS, keys.NOTICES]
    touched += [keys.COUNTS]
    args = [*_owner(holding), end.state.value, _dump(end.receipt), keys.JOB, keys.BATCH, keys.SHARE, end.notices]
    args += [figures.end_class(end.state, end.receipt), figures.run_s(end.receipt), holding.queue, keys.USER]
    for name in _LISTED:
        if end.receipt.get(name) is not None:
            args += [name, str(end.receipt[name])[:_LISTED_CHARS]]
    return touched, args


def _owner(holding: Holding) -> list[Any]:
    return [holding.host, holding.fence, holding.job_id]


def _check_owned(answer: Any, holding: Holding) -> None:
    if not answer:
        raise errors.Fenced(f"job {holding.job_id} belongs to another host now")


def _claim(job_id: str, row: list[str]) -> Claim:
    verdict, fence, attempt, exits, host_faults, submitted_at, attempts, receipt, *rest = row
    reason, cause, container_id, batch_id = rest
    counts = {"fence": fence, "attempt": attempt, "exits": exits, "host_faults": host_faults}
    cells = Fields({**counts, "submitted_at": submitted_at, "attempts": attempts})
    return Claim(
        verdict=Verdict(verdict),
        fence=cells.count("fence"),
        attempt=cells.count("attempt"),
        tally=lifecycle.Tally(exits=cells.count("exits"), host_faults=cells.count("host_faults")),
        submitted_at=cells.moment("submitted_at"),
        attempts=cells.entries("attempts"),
        receipt=Receipt.of_text(job_id, receipt) if receipt else None,
        end_request=_end_request(reason, cause),
        container_id=container_id or None,
        batch_id=batch_id,
    )


def _end_request(reason: str, cause: str) -> lifecycle.EndRequest | None:
    return lifecycle.EndRequest(lifecycle.cause_of(cause), reason) if reason else None


def _or_blank(value: float | None) -> float | str:
    return "" if value is None else value


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
