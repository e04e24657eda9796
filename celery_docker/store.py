"""The job records in Redis: the truth about every job.

The only importer of `redis`. One function per transition, each a Lua script, so that a transition happens whole or not
at all and only by the owner. Invariant: a job is in the set of exactly the host that owns it, from its claim until its
result is stored and its container is gone. Nothing here waits for a Redis that is away: a call raises `StoreAway` and
can be repeated, because every script may be said twice.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from celery_docker import errors, lifecycle, settings

PREFIX = "celery-docker:"
INDEX = PREFIX + "jobs"
DELAYED = PREFIX + "delayed"
CANCELLING = PREFIX + "cancelling"
# The longest a call may take before Redis counts as away; the default of the library is to wait for ever.
CALL_TIMEOUT_S = 15
CONNECT_TIMEOUT_S = 5
HEALTH_CHECK_S = 10


def job_key(job_id: str) -> str:
    """Return the key of a job's record, a hash."""
    return f"{PREFIX}job:{job_id}"


def host_key(host: str) -> str:
    """Return the key of the set of jobs that a host owns."""
    return f"{PREFIX}host:{host}:jobs"


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

    # Typed loosely: the library's annotations cannot tell a decoding client from one that answers in bytes.
    client: Any
    url: str
    _scripts: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def check(self) -> None:
        """Ask Redis for a sign of life. Raises `StoreAway` or `StoreRefused`."""
        with self._translated():
            self.client.ping()

    def submit(self, job_id: str, *, queue: str, envelope: Mapping[str, Any], spec: Mapping[str, Any]) -> bool:
        """Write a new job's record and publish its message, in one step; False if the id is known already."""
        keys = [job_key(job_id), INDEX]
        return bool(self._call("submit", keys, [job_id, time.time(), queue, _dump(envelope), _dump(spec)]))

    def claim(self, job_id: str, *, host: str, queue: str, envelope: Mapping[str, Any]) -> Claim:
        """Decide in Redis whose job this is, and take it if it is free; what was taken already is to be adopted."""
        keys = [job_key(job_id), INDEX, host_key(host), DELAYED]
        return _claim(self._call("claim", keys, [job_id, host, time.time(), queue, _dump(envelope)]))

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
        keys = [job_key(job_id), INDEX, host_key(host)]
        args = [host, fence, job_id, time.time(), queue, _dump(envelope), *pairs]
        self._owned(self._call("update", keys, args), job_id)

    def finish(self, job_id: str, *, host: str, fence: int, state: lifecycle.State, receipt: Mapping[str, Any]) -> None:
        """Write how a job ended. Raises `Fenced` if it is not this host's."""
        keys = [job_key(job_id), INDEX, host_key(host), CANCELLING]
        args = [host, fence, job_id, time.time(), state.value, _dump(receipt)]
        self._owned(self._call("finish", keys, args), job_id)

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
        keys = [job_key(job_id), host_key(host), DELAYED]
        args = [host, fence, job_id, due_at, _dump(envelope), tally.exits, tally.host_faults, _dump(attempts), queue]
        args.append(len(attempts))
        self._owned(self._call("requeue", keys, args), job_id)

    def cancel(self, job_id: str, *, reason: str) -> str:
        """Say that a job is not wanted any more; return the state it was in, `unknown` if there is no record of it."""
        keys = [job_key(job_id), INDEX, DELAYED, CANCELLING]
        return str(self._call("cancel", keys, [job_id, time.time(), reason]))

    def cancelling(self) -> list[Cancelled]:
        """Return the jobs that are to end and have not ended."""
        fields = ("state", "cancel_reason", "queue", "message")
        with self._translated():
            job_ids = sorted(self.client.smembers(CANCELLING))
            with self.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hmget(job_key(job_id), fields)
                rows = pipeline.execute() if job_ids else []
        return [
            Cancelled(job_id, state or "", reason or "", queue or "", json.loads(text) if text else None)
            for job_id, (state, reason, queue, text) in zip(job_ids, rows, strict=True)
        ]

    def settle(self, job_id: str, *, host: str, retention_s: int) -> None:
        """Let go of a job whose result is stored and whose container is gone."""
        self._call("settle", [job_key(job_id), host_key(host)], [job_id, retention_s])

    def publish_due(self, now: float, limit: int = 1000) -> int:
        """Put the messages of delayed jobs that are due back into their queues; return how many."""
        with self._translated():
            due = self.client.zrange(DELAYED, "-inf", now, byscore=True, offset=0, num=limit)
        return sum(int(self._call("publish", [job_key(job_id), DELAYED], [job_id])) for job_id in due)

    def forget_expired(self, before: float, limit: int = 1000) -> int:
        """Drop index entries older than `before` whose records have expired; return how many."""
        with self._translated():
            old = self.client.zrange(INDEX, "-inf", before, byscore=True, offset=0, num=limit)
            gone = [job_id for job_id in old if not self.client.exists(job_key(job_id))]
            if gone:
                self.client.zrem(INDEX, *gone)
        return len(gone)

    def owned(self, host: str) -> dict[str, Mapping[str, Any] | None]:
        """Return the jobs that a host owns and their messages; None where Redis has lost it."""
        with self._translated():
            job_ids = sorted(self.client.smembers(host_key(host)))
            with self.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids:
                    pipeline.hget(job_key(job_id), "message")
                texts = pipeline.execute()
        return {job_id: json.loads(text) if text else None for job_id, text in zip(job_ids, texts, strict=True)}

    def record(self, job_id: str) -> dict[str, str]:
        """Return the raw record of a job; empty if there is none."""
        with self._translated():
            record: dict[str, str] = self.client.hgetall(job_key(job_id))
        return record

    def close(self) -> None:
        """Close every connection."""
        self.client.close()

    def _call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        with self._translated():
            script = self._scripts.get(name)
            if script is None:
                script = self._scripts[name] = self.client.register_script(_source(name))
            return script(keys=keys, args=args)

    def _owned(self, answer: Any, job_id: str) -> None:
        if not answer:
            raise errors.Fenced(f"job {job_id} belongs to another host now")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        where = settings.masked(self.url)
        try:
            yield
        except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as exc:
            raise errors.StoreRefused(
                f"Redis at {where} refuses the login: {exc}; check the user and password in the URL"
            ) from exc
        except (redis.ConnectionError, redis.TimeoutError, OSError) as exc:
            why = str(exc).rstrip(".")
            raise errors.StoreAway(f"cannot reach Redis at {where}: {why}; start it there, or correct the URL") from exc
        except TypeError as exc:  # an option of the URL that the library does not know shows at the first connection
            raise errors.StoreRefused(f"cannot use {where}: {exc}; check the options in the URL") from exc
        except redis.RedisError as exc:
            raise _of_response(exc, where) from exc


def connect(url: str, *, connections: int | None = None) -> Store:
    """Return a store for a Redis URL; nothing is sent yet. `connections` bounds the pool, None: no bound.

    Raises `StoreRefused` for an option in the URL that Redis clients do not know.
    """
    try:
        client = redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=CALL_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=HEALTH_CHECK_S,
            # Whoever calls decides about another try.
            retry=Retry(NoBackoff(), 1),
            max_connections=connections,
        )
    except (TypeError, ValueError) as exc:
        raise errors.StoreRefused(f"cannot use {settings.masked(url)}: {exc}") from exc
    return Store(client, url)


def _of_response(exc: redis.RedisError, where: str) -> errors.CeleryDockerError:
    text = str(exc)
    if text.startswith(("NOAUTH", "WRONGPASS", "NOPERM")):
        return errors.StoreRefused(f"Redis at {where} refuses: {text}; check the user and password in the URL")
    return errors.StoreAway(f"Redis at {where} cannot do it now: {text}")


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


@cache
def _source(name: str) -> str:
    return (resources.files("celery_docker") / "lua" / f"{name}.lua").read_text()
