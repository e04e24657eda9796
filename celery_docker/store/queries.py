"""Finding jobs, batches, queues and workers in Redis, for those who ask about them. Reads only.

Invariant: what a listing shows comes from fields of the records; no receipt is parsed for it. A question about many
jobs takes a few round trips and never keeps Redis busy for longer than some milliseconds at a time; only the counts of
a batch are one question, of about 3 ms for each thousand jobs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery_docker import errors
from celery_docker.core import ids, message
from celery_docker.store import keys, listing, redislink
from celery_docker.store.listing import BatchRow, JobRow, Load, Meant, WorkerRow

_ROWS_AT_ONCE = 1000
_RECEIPTS_AT_ONCE = 100
_MESSAGES_AT_ONCE = 500
_IDS_AT_ONCE = 20_000
_MATCHES = 100


@dataclass(frozen=True)
class Catalog:
    """Questions to one Redis. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def jobs(self, job_ids: Sequence[str]) -> list[JobRow]:
        """Return what is known of these jobs, in this order; those without a record are left out."""
        rows = zip(job_ids, self.fields(job_ids, *listing.FIELDS), strict=True)
        return [listing.job(job_id, values) for job_id, values in rows if values[0]]

    def job(self, job_id: str) -> JobRow:
        """Return what is known of a job; raises `NoSuchJob`."""
        for row in self.jobs([job_id]):
            return row
        raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")

    def fields(self, job_ids: Sequence[str], *names: str) -> list[list[str | None]]:
        """Return these fields of the record of each job, None for what is not there."""
        rows: list[list[str | None]] = []
        for part in _parts(job_ids, _ROWS_AT_ONCE):
            answer = json.loads(self.link.call("rows", [], [keys.JOB, len(names), *names, *part]))
            rows += [[None if value is False else value for value in values] for values in answer]
        return rows

    def each_live(self) -> Iterator[JobRow]:
        """Yield the jobs that have not ended: those that run first, then by what they wait for.

        They are asked for as they are taken.
        """
        return (row for row in self.each(self._live_ids()) if not row.state.is_final)

    def each_recent(self) -> Iterator[JobRow]:
        """Yield all jobs, the newest first, likewise."""
        return self.each(self._ranked(keys.INDEX, newest_first=True))

    def each_of_batch(self, batch_id: str) -> Iterator[JobRow]:
        """Yield the jobs of a batch in its order, likewise."""
        return self.each(self._ranked(keys.batch_jobs(batch_id)))

    def each(self, job_ids: Iterable[str]) -> Iterator[JobRow]:
        """Yield what is known of these jobs, each once, likewise."""
        # A job may move on while others are looked at, and come up again.
        seen: set[str] = set()
        left = iter(job_ids)
        while part := list(islice(left, _ROWS_AT_ONCE)):
            new = [job_id for job_id in dict.fromkeys(part) if job_id not in seen]
            seen.update(new)
            yield from self.jobs(new)

    def _live_ids(self) -> Iterator[str]:
        yield from self._in_hand()
        for place in (keys.DELAYED, keys.WAITING, keys.BLOCKED):
            yield from self._ranked(place)
        # What a host has taken since is in none of these any more.
        yield from self._in_hand()

    def _in_hand(self) -> list[str]:
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for host in self.link.client.zrange(keys.HOSTS, 0, -1):
                pipeline.smembers(keys.host_jobs(host))
            return [job_id for job_ids in pipeline.execute() for job_id in sorted(job_ids)]

    def _ranked(self, place: str, *, newest_first: bool = False) -> Iterator[str]:
        first = 0
        while True:
            with self.link.translated():
                part = self.link.client.zrange(place, first, first + _ROWS_AT_ONCE - 1, desc=newest_first)
            yield from part
            first += len(part)
            if len(part) < _ROWS_AT_ONCE:
                return

    def load(self) -> Load:
        """Return how many jobs have not ended, by what they wait for."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for place in (keys.WAITING, keys.DELAYED, keys.BLOCKED):
                pipeline.zcard(place)
            for host in self.link.client.zrange(keys.HOSTS, 0, -1):
                pipeline.scard(keys.host_jobs(host))
            queued, delayed, blocked, *in_hand = pipeline.execute()
        return Load(sum(in_hand), queued, delayed, blocked)

    def now(self) -> float:
        """Return the time by Redis' clock."""
        with self.link.translated():
            seconds, microseconds = self.link.client.time()
        return float(seconds + microseconds / 1e6)

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

    def receipt_texts(self, job_ids: Sequence[str]) -> Iterator[str]:
        """Yield the receipts of those jobs that have ended as they were stored, each a JSON text in one line."""
        for part in _parts(job_ids, _RECEIPTS_AT_ONCE):
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in part:
                    pipeline.hget(keys.job(job_id), "receipt")
                texts = pipeline.execute()
            yield from (text for text in texts if text is not None)

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
        try:
            return self._resolve(text, keys.BATCHES, keys.batch)
        except errors.NoSuchJob as exc:
            raise errors.NoSuchJob(f"no batch has an id that begins with {text!r}") from exc

    def meant(self, text: str) -> Meant:
        """Return the job or batch that is meant by an id or the beginning of one.

        Raises `NoSuchJob` or `AmbiguousId`.
        """
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.exists(keys.job(text)).exists(keys.batch(text))
            is_job, is_batch = pipeline.execute()
        if text and (is_job or is_batch):
            return Meant(text, is_batch=not is_job)
        jobs, batches = self._beginning_with(text, keys.INDEX), self._beginning_with(text, keys.BATCHES)
        found = ids.resolve_prefix(text, [*jobs, *batches])
        return Meant(found, is_batch=found not in jobs)

    def batch(self, batch_id: str) -> BatchRow:
        """Return a batch with the number of its jobs in each state. Raises `NoSuchJob`."""
        with self.link.translated():
            known = self.link.client.hgetall(keys.batch(batch_id))
        if not known:
            raise errors.NoSuchJob(f"no batch has the id {batch_id!r}")
        return listing.batch(batch_id, known, self.link.call("counts", [keys.batch_jobs(batch_id)], [keys.JOB]))

    def ends(self, batch_id: str, failures: Iterable[str]) -> tuple[float | None, list[str]]:
        """Return when the last job of a batch ended so far, and those whose end was one of these, in its order."""
        last, *failed = self.link.call("ends", [keys.batch_jobs(batch_id)], [keys.JOB, *failures])
        return (float(last) if last else None), failed

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

    def batch_jobs(self, batch_id: str) -> list[str]:
        """Return the jobs of a batch in its order; where one was tried again, the latest."""
        with self.link.translated():
            job_ids: list[str] = self.link.client.zrange(keys.batch_jobs(batch_id), 0, -1)
        return job_ids

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

    def jobs_of_queue(self, queue: str) -> list[str]:
        """Return the jobs of a queue that no host has taken: those in its lists, delayed ones, and those held back."""
        lists = message.queue_keys(queue)
        waiting = [job_id for place in (keys.WAITING, keys.DELAYED, keys.BLOCKED) for job_id in self._ranked(place)]
        # Of a plain client's job there is nothing but the message.
        found = [job_id for one in lists for job_id in self._messages(one)]
        rows = zip(waiting, self.fields(waiting, "queue"), strict=True)
        return list(dict.fromkeys([*found, *(job_id for job_id, (name,) in rows if name in lists)]))

    def _messages(self, name: str) -> list[str]:
        """Return the ids of the messages in a list, the next one first; what is no message has none."""
        texts: list[str] = []
        # They are taken from the other end, so that none is passed over.
        while True:
            with self.link.translated():
                part = self.link.client.lrange(name, len(texts), len(texts) + _MESSAGES_AT_ONCE - 1)
            texts += part
            if len(part) < _MESSAGES_AT_ONCE:
                return [job_id for text in reversed(texts) if (job_id := message.job_id(text))]

    def workers(self) -> list[WorkerRow]:
        """Return the hosts that take jobs, and those that were lost in the last 16 days, by name."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(keys.HOSTS, 0, -1, withscores=True)
            pipeline.zrange(keys.LOST_HOSTS, 0, -1, withscores=True)
            pipeline.hgetall(keys.DRAINED)
            (seconds, microseconds), present, lost, drained = pipeline.execute()
            # One that was recalled is in both.
            heard = dict(lost) | dict(present)
            for host in heard:
                pipeline.hget(keys.host_about(host), "about")
                pipeline.scard(keys.host_jobs(host))
            answers = pipeline.execute()
        now, names = seconds + microseconds / 1e6, {host for host, _ in present}
        rows = []
        for (host, heard_at), about, jobs in zip(heard.items(), answers[::2], answers[1::2], strict=True):
            known = json.loads(about or "{}")
            ahead_s = listing.ahead_s(known.get("clock"), heard_at)
            rows.append(WorkerRow(host, now - heard_at, ahead_s, jobs, known, drained.get(host), host not in names))
        return sorted(rows, key=lambda row: row.host)

    def _resolve(self, text: str, index: str, key_of: Callable[[str], str]) -> str:
        with self.link.translated():
            if text and self.link.client.exists(key_of(text)):
                return text
        return ids.resolve_prefix(text, self._beginning_with(text, index))

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
