"""Finding jobs, batches, queues and workers in Redis, for those who ask about them. Reads only.

Invariant: what a listing shows comes from fields of the records; no receipt is parsed for it. A question about many
jobs takes a few round trips, and never keeps Redis busy for longer than some milliseconds at a time.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker import errors, keys, lifecycle, message, redislink, tables

_ROWS_AT_ONCE = 1000
_RECEIPTS_AT_ONCE = 100
_IDS_AT_ONCE = 20_000
_MATCHES = 100
_FIELDS = (
    "state",
    "name",
    "image",
    "owner",
    "batch",
    "batch_index",
    "submitted_at",
    "claimed_at",
    "finished_at",
    "exit_code",
    "attempt",
    "reason",
    "run_s",
    "submitted_by",
    "labels",
    "retry_of",
    "pending",
    "held",
    "cancel_reason",
)
_SECTIONS = ("server", "clients", "memory", "persistence", "replication")


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as a listing shows it. Times are seconds since the epoch by Redis' clock; None is unknown or not yet.

    `waits_for` how many other jobs have to succeed first; `held` says that the limit of its batch keeps it back.
    `claimed_at` is of the latest attempt. A job that is being cancelled has a `cancel_reason` and no final state yet.
    """

    job_id: str
    state: lifecycle.State
    name: str | None
    image: str | None
    host: str | None
    batch_id: str | None
    batch_index: int | None
    submitted_at: float | None
    claimed_at: float | None
    finished_at: float | None
    exit_code: int | None
    attempt: int
    reason: str | None
    run_s: float | None
    submitted_by: str | None
    labels: Mapping[str, str]
    retry_of: str | None
    waits_for: int
    held: bool
    cancel_reason: str | None


@dataclass(frozen=True)
class BatchRow:
    """A batch: `counts` has the number of its jobs in each state, `size` how many it was to have."""

    batch_id: str
    name: str | None
    created_at: float
    size: int
    limit: int | None
    submitted_by: str | None
    counts: Mapping[str, int]


@dataclass(frozen=True)
class WorkerRow:
    """A host that takes jobs; `heard_s` seconds ago it gave a sign of life. `drained`: who keeps it from taking any."""

    host: str
    heard_s: float
    jobs: int
    about: Mapping[str, Any]
    drained: str | None


@dataclass(frozen=True)
class Catalog:
    """Questions to one Redis. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def jobs(self, job_ids: Sequence[str]) -> list[JobRow]:
        """Return what is known of these jobs, in this order; those without a record are left out."""
        rows = zip(job_ids, self.fields(job_ids, *_FIELDS), strict=True)
        return [_row(job_id, values) for job_id, values in rows if values[0]]

    def fields(self, job_ids: Sequence[str], *names: str) -> list[list[str | None]]:
        """Return these fields of the record of each job, None for what is not there."""
        rows: list[list[str | None]] = []
        for part in _parts(job_ids, _ROWS_AT_ONCE):
            answer = json.loads(self.link.call("rows", [], [keys.JOB, len(names), *names, *part]))
            rows += [[None if value is False else value for value in values] for values in answer]
        return rows

    def live(self, limit: int = 1000) -> list[JobRow]:
        """Return jobs that have not ended: those that run first, then by what they wait for."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(keys.HOSTS, 0, -1)
            for place in (keys.DELAYED, keys.WAITING, keys.BLOCKED):
                pipeline.zrange(place, 0, limit - 1)
            hosts, *waiting = pipeline.execute()
            for host in hosts:
                pipeline.smembers(keys.host_jobs(host))
            running = [sorted(job_ids) for job_ids in pipeline.execute()]
        job_ids = list(dict.fromkeys(job_id for part in running + waiting for job_id in part))
        return [row for row in self.jobs(job_ids[:limit]) if not row.state.is_final]

    def recent(self, limit: int = 1000) -> list[JobRow]:
        """Return the jobs that were submitted last, the newest first."""
        with self.link.translated():
            job_ids = self.link.client.zrange(keys.INDEX, 0, limit - 1, desc=True)
        return self.jobs(job_ids)

    def record(self, job_id: str) -> dict[str, str]:
        """Return the raw record of a job; raises `NoSuchJob`."""
        with self.link.translated():
            record: dict[str, str] = self.link.client.hgetall(keys.job(job_id))
        if not record:
            raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")
        return record

    def receipt(self, job_id: str) -> dict[str, Any] | None:
        """Return the receipt of a job, None if it has not ended or is not known."""
        return self.receipts([job_id])[0]

    def receipts(self, job_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the receipt of each job, None for one that has not ended or is not known."""
        found: list[dict[str, Any] | None] = []
        for part in _parts(job_ids, _RECEIPTS_AT_ONCE):
            found += json.loads(self.link.call("receipts", [], [keys.JOB, *part]))
        return found

    def resolve(self, text: str) -> str:
        """Return the id that is meant by an id or the beginning of one. Raises `NoSuchJob` or `AmbiguousId`."""
        return self._resolve(text, keys.INDEX, keys.job)

    def resolve_batch(self, text: str) -> str:
        """Return the batch that is meant, likewise."""
        return self._resolve(text, keys.BATCHES, keys.batch)

    def batch(self, batch_id: str) -> BatchRow:
        """Return a batch with the number of its jobs in each state. Raises `NoSuchJob`."""
        with self.link.translated():
            known = self.link.client.hgetall(keys.batch(batch_id))
        if not known:
            raise errors.NoSuchJob(f"no batch has the id {batch_id!r}")
        return _batch(batch_id, known, self.link.call("counts", [keys.batch_jobs(batch_id)], [keys.JOB]))

    def batches(self, limit: int = 100) -> list[BatchRow]:
        """Return the batches that were begun last, the newest first."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            batch_ids = self.link.client.zrange(keys.BATCHES, 0, limit - 1, desc=True)
            for batch_id in batch_ids:
                pipeline.hgetall(keys.batch(batch_id))
            known = pipeline.execute()
        counts = self.link.call_many("counts", [([keys.batch_jobs(batch_id)], [keys.JOB]) for batch_id in batch_ids])
        rows = zip(batch_ids, known, counts, strict=True)
        return [_batch(batch_id, one, flat) for batch_id, one, flat in rows if one]

    def batches_like(self, template_id: str, limit: int = 1000) -> list[str]:
        """Return the batches that were made of this template, the newest first."""
        with self.link.translated():
            batch_ids: list[str] = self.link.client.zrange(keys.BATCHES, 0, limit - 1, desc=True)
            with self.link.client.pipeline(transaction=False) as pipeline:
                for batch_id in batch_ids:
                    pipeline.hget(keys.batch(batch_id), "template")
                found = pipeline.execute()
        return [batch_id for batch_id, one in zip(batch_ids, found, strict=True) if one == template_id]

    def batch_field(self, batch_id: str, name: str) -> str | None:
        """Return one field of what is known of a batch, None for what is not there."""
        with self.link.translated():
            value: str | None = self.link.client.hget(keys.batch(batch_id), name)
        return value

    def batch_jobs(self, batch_id: str) -> dict[int, str]:
        """Return the jobs of a batch by index, in its order; where one was tried again, the latest."""
        with self.link.translated():
            pairs = self.link.client.zrange(keys.batch_jobs(batch_id), 0, -1, withscores=True)
        return {int(index): job_id for job_id, index in pairs}

    def queue_lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Return how many messages lie in each queue, those of all priorities together."""
        names = list(queues)
        lists = [(name, one) for name in names for one in message.queue_keys(name)]
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for _, one in lists:
                pipeline.llen(one)
            lengths = pipeline.execute()
        total = dict.fromkeys(names, 0)
        for (name, _), length in zip(lists, lengths, strict=True):
            total[name] += length
        return total

    def workers(self) -> list[WorkerRow]:
        """Return the hosts that take jobs, by name."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(keys.HOSTS, 0, -1, withscores=True)
            pipeline.hgetall(keys.DRAINED)
            (seconds, microseconds), hosts, drained = pipeline.execute()
            for host, _ in hosts:
                pipeline.hget(keys.host_about(host), "about")
                pipeline.scard(keys.host_jobs(host))
            answers = pipeline.execute()
        now = seconds + microseconds / 1e6
        rows = zip(hosts, answers[::2], answers[1::2], strict=True)
        return sorted(
            (
                WorkerRow(host, now - heard_at, jobs, json.loads(about or "{}"), drained.get(host))
                for (host, heard_at), about, jobs in rows
            ),
            key=lambda row: row.host,
        )

    def server(self) -> dict[str, Any]:
        """Return what Redis says of itself (INFO), its `now`, and its `save` points, None where we may not ask."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            for section in _SECTIONS:
                pipeline.info(section)
            (seconds, microseconds), *sections = pipeline.execute()
        facts: dict[str, Any] = {"now": seconds + microseconds / 1e6, "save": self._save_points()}
        for section in sections:
            facts |= section
        return facts

    def _save_points(self) -> str | None:
        try:
            with self.link.translated():
                return str(self.link.client.config_get("save").get("save", ""))
        except (errors.StoreRefused, errors.StoreAway):
            # Submitters may not ask, and some servers have no such command.
            return None

    def _resolve(self, text: str, index: str, key_of: Callable[[str], str]) -> str:
        with self.link.translated():
            if text and self.link.client.exists(key_of(text)):
                return text
        return tables.resolve_prefix(text, self._beginning_with(text, index))

    def _beginning_with(self, text: str, index: str) -> list[str]:
        """Look through the whole index, the newest first: only then is an id known to be the only one."""
        found: list[str] = []
        first = 0
        while text and len(found) < _MATCHES:
            args = [text, first, first + _IDS_AT_ONCE - 1, _MATCHES]
            count, *matches = self.link.call("resolve", [index], args)
            found += matches
            first += _IDS_AT_ONCE
            if int(count) < _IDS_AT_ONCE:
                break
        return found


def _parts(job_ids: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(job_ids), size):
        yield job_ids[first : first + size]


def _row(job_id: str, values: Sequence[str | None]) -> JobRow:
    known = {name: value for name, value in zip(_FIELDS, values, strict=True) if value}
    return JobRow(
        job_id=job_id,
        state=lifecycle.State(known["state"]),
        name=known.get("name"),
        image=known.get("image"),
        host=known.get("owner"),
        batch_id=known.get("batch"),
        batch_index=_integer(known.get("batch_index")),
        submitted_at=_number(known.get("submitted_at")),
        claimed_at=_number(known.get("claimed_at")),
        finished_at=_number(known.get("finished_at")),
        exit_code=_integer(known.get("exit_code")),
        attempt=int(known.get("attempt", 0)),
        reason=known.get("reason"),
        run_s=_number(known.get("run_s")),
        submitted_by=known.get("submitted_by"),
        labels=json.loads(known.get("labels", "{}")),
        retry_of=known.get("retry_of"),
        waits_for=int(known.get("pending", 0)),
        held="held" in known,
        cancel_reason=known.get("cancel_reason"),
    )


def _batch(batch_id: str, known: Mapping[str, str], flat: Sequence[Any]) -> BatchRow:
    return BatchRow(
        batch_id=batch_id,
        name=known.get("name"),
        created_at=float(known.get("created_at", 0)),
        size=int(known.get("size", 0)),
        limit=_integer(known.get("limit")),
        submitted_by=known.get("submitted_by"),
        counts={str(state): int(count) for state, count in zip(flat[::2], flat[1::2], strict=True)},
    )


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)
