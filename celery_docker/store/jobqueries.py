"""Questions about jobs and queues: rows of listings, fields, receipts, places in queues. Reads only.

Invariant: what a listing shows comes from fields of the records; no receipt is parsed for it. A question about many
jobs takes a few round trips and never keeps Redis busy for longer than some milliseconds at a time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from celery_docker import errors
from celery_docker.core import message
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt
from celery_docker.store import idlookup, jobfilter, keys, listing, pages, redislink
from celery_docker.store.jobfilter import ALL, Conditions, JobFilter
from celery_docker.store.jobpages import JobPages
from celery_docker.store.listing import JobRow, Load
from celery_docker.store.parking import ParkedGroup, Parking

T = TypeVar("T")
_ROWS_AT_ONCE = 1000
_RECEIPTS_AT_ONCE = 100
_MESSAGES_AT_ONCE = 500


@dataclass(frozen=True)
class JobQueries:
    """Questions about jobs and queues. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def rows(self, job_ids: Sequence[str], wanted: JobFilter = ALL) -> list[JobRow]:
        """Return the rows of those of these jobs that are wanted, in this order; without a record there is none."""
        conditions = wanted.conditions()
        rows = [
            listing.job(job_id, values)
            for part in _parts(job_ids, _ROWS_AT_ONCE)
            for job_id, values in zip(part, self._answer(part, listing.ROW_FIELDS, conditions), strict=True)
            if values and values[0]
        ]
        return [row for row in rows if wanted.has(row)]

    def row(self, job_id: str) -> JobRow:
        """Return the row of a job; raises `NoSuchJob`."""
        for row in self.rows([job_id]):
            return row
        raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")

    def fields(self, job_ids: Sequence[str], *names: str) -> list[list[str | None]]:
        """Return these fields of the record of each job, None for what is not there."""
        return [values for part in _parts(job_ids, _ROWS_AT_ONCE) for values in self._answer(part, names, {})]

    def _answer(
        self, job_ids: Sequence[str], names: Sequence[str], conditions: Conditions
    ) -> Iterator[list[str | None]]:
        """Yield these fields of each of some jobs; nothing of one that is not wanted."""
        args = [keys.JOB, *jobfilter.wishes(names, conditions), *job_ids]
        for values in json.loads(self.link.call("rows", [], args)):
            yield [None if value is False else value for value in values or []]

    def page(
        self,
        wanted: JobFilter,
        before: pages.Mark,
        most: int,
        batch_id: str | None = None,
        *,
        newest_first: bool = True,
    ) -> tuple[list[JobRow], pages.Mark | None]:
        """Return a page of the jobs that are wanted, and where the next begins; see `JobPages`."""
        return JobPages(self.link, wanted, batch_id, newest_first).page(before, most)

    def each_live(self, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield the jobs that have not ended: those that run first, then by what they wait for.

        Redis is asked for them part by part, as they are consumed.
        """
        return (row for row in self._each(self._live_ids(wanted), wanted) if not row.state.is_final)

    def each_recent(self, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield all jobs that have a record, the newest first."""
        return iter(JobPages(self.link, wanted))

    def each_of_batch(self, batch_id: str, wanted: JobFilter = ALL) -> Iterator[JobRow]:
        """Yield the jobs of a batch in its order."""
        return iter(JobPages(self.link, wanted, batch_id, newest_first=False))

    def _each(self, job_ids: Iterable[str], wanted: JobFilter) -> Iterator[JobRow]:
        """Yield the rows of these jobs, each once, a thousand in one question."""
        # A job may move on while others are looked at, and come up again.
        yielded: set[str] = set()
        remaining = iter(job_ids)
        while part := list(islice(remaining, _ROWS_AT_ONCE)):
            new = [job_id for job_id in dict.fromkeys(part) if job_id not in yielded]
            yielded.update(new)
            yield from self.rows(new, wanted)

    def load(self) -> Load:
        """Count the jobs that have not ended, by what they wait for."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for place in (keys.WAITING, keys.DELAYED, keys.BLOCKED):
                pipeline.zcard(place)
            for host in self.link.client.zrange(keys.HOSTS, 0, -1):
                pipeline.scard(keys.host_jobs(host))
            queued, delayed, blocked, *in_hand = redislink.answers(pipeline, 0)
        # They are among the delayed ones too, with the time at which they are looked at again.
        over_share = sum(self._over_share().values())
        return Load(sum(in_hand), queued, max(0, delayed - over_share), blocked + over_share)

    def _over_share(self) -> Counter[str]:
        """Count the jobs that the shares of their submitters hold back, by queue list."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.SHARES)
            (lists,) = redislink.answers(pipeline, {})
            for share in lists:
                pipeline.zcard(keys.share_held(share))
            counts = redislink.answers(pipeline, 0) if lists else []
        total: Counter[str] = Counter()
        for queue_list, count in zip(lists.values(), counts, strict=True):
            total[queue_list] += count
        return total

    def share_places(self, jobs: Iterable[tuple[str, str]]) -> list[tuple[int, int | None]]:
        """Return for each job and its share how many of the share are published, and how many are held before it."""
        places: list[tuple[int, int | None]] = []
        for part in _parts(list(jobs), _ROWS_AT_ONCE):
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                for job_id, share in part:
                    pipeline.zcard(keys.share_published(share)).zrank(keys.share_held(share), job_id)
                numbers = redislink.answers(pipeline)
            places += [(count or 0, rank) for count, rank in zip(numbers[::2], numbers[1::2], strict=True)]
        return places

    def record(self, job_id: str) -> dict[str, str]:
        """Return the raw record of a job; raises `NoSuchJob`."""
        record: dict[str, str]
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.job(job_id))
            (record,) = redislink.answers(pipeline, {})
        if not record.get("state"):
            raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")
        return record

    def whole(self, job_id: str) -> tuple[JobRow, dict[str, str]]:
        """Return the row of a job and the record that it is made of; raises `NoSuchJob`."""
        record = self.record(job_id)
        return listing.of_record(job_id, record), record

    def receipt(self, job_id: str) -> dict[str, Any] | None:
        """Return the receipt of a job, None if it has not ended or has no record."""
        return self.receipts([job_id])[0]

    def is_settled(self, job_id: str, host: str) -> bool:
        """Return whether a host has nothing left of a job that has ended: its container is gone."""
        with self.link.translated():
            return job_id not in self.link.client.smembers(keys.host_jobs(host))

    def receipt_texts(self, job_ids: Sequence[str]) -> Iterator[str]:
        """Yield the receipts of those jobs that have ended each a JSON text in one line."""
        for part in _parts(job_ids, _RECEIPTS_AT_ONCE):
            texts = self.link.call("receipts", [], [keys.JOB, *part])
            rows = zip(part, texts, strict=True)
            yield from (json.dumps(Receipt.of_text(job_id, text)) for job_id, text in rows if text)

    def receipts(self, job_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the receipt of each job, None for one that has not ended or has no record."""
        receipts: list[dict[str, Any] | None] = []
        for part in _parts(job_ids, _RECEIPTS_AT_ONCE):
            texts = self.link.call("receipts", [], [keys.JOB, *part])
            rows = zip(part, texts, strict=True)
            receipts += [Receipt.of_text(job_id, text) if text else None for job_id, text in rows]
        return receipts

    def resolve(self, text: str) -> str:
        """Return the id of the job named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        return idlookup.resolve(self.link, text, keys.INDEX, keys.job)

    def queue_lengths(self, queues: Iterable[str]) -> dict[str, int]:
        """Return the number of jobs that wait in each queue, in its lists, parked or held back by shares."""
        names = list(queues)
        lists = [(name, key) for name in names for key in message.queue_keys(name)]
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for _, key in lists:
                pipeline.llen(key)
            lengths = redislink.answers(pipeline, 0)
        total = dict.fromkeys(names, 0)
        held = self._over_share()
        for (name, key), length in zip(lists, lengths, strict=True):
            total[name] += length + held[key]
        for group in self.parked():
            if group.queue in total:
                total[group.queue] += group.jobs
        return total

    def parked(self) -> list[ParkedGroup]:
        """Return the groups of parked jobs."""
        return Parking(self.link).groups()

    def in_queue(self, queue: str) -> list[str]:
        """Return the jobs of a queue that no host has taken: in its lists, parked, delayed, or held back."""
        lists = message.queue_keys(queue)
        waiting = [job_id for place in (keys.WAITING, keys.DELAYED, keys.BLOCKED) for job_id in self._each_in(place)]
        # Of a plain client's job there is nothing but the message.
        listed = [job_id for key in lists for job_id in self._messages(key)]
        rows = zip(waiting, self.fields(waiting, "queue"), strict=True)
        return list(dict.fromkeys([*listed, *(job_id for job_id, (name,) in rows if name in lists)]))

    def waiting_queues(self) -> set[str]:
        """Return the queues of those jobs that have waited longest in one, some hundreds."""
        with self.link.translated():
            job_ids = self.link.client.zrange(keys.WAITING, 0, _ROWS_AT_ONCE - 1)
        return {message.queue_name(name) for (name,) in self.fields(job_ids, "queue") if name}

    def _messages(self, name: str) -> list[str]:
        """Return the ids of the messages in a list, the next to be served first; others are passed over."""
        texts: list[str] = []
        # They are taken from the other end, so that none is passed over.
        while True:
            with self.link.translated():
                part = redislink.in_list(self.link.client, name, len(texts), len(texts) + _MESSAGES_AT_ONCE - 1)
            texts += part
            if len(part) < _MESSAGES_AT_ONCE:
                return [job_id for text in reversed(texts) if (job_id := message.job_id(text))]

    def _live_ids(self, wanted: JobFilter) -> Iterator[str]:
        yield from self._in_hand()
        if wanted.states and State.QUEUED not in wanted.states:
            return
        for place in (keys.DELAYED, keys.WAITING, keys.BLOCKED):
            yield from self._each_in(place)
        # What a host has taken since is in none of these any more.
        yield from self._in_hand()

    def _in_hand(self) -> list[str]:
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for host in self.link.client.zrange(keys.HOSTS, 0, -1):
                pipeline.smembers(keys.host_jobs(host))
            return [job_id for job_ids in redislink.answers(pipeline, ()) for job_id in sorted(job_ids)]

    def _each_in(self, place: str) -> Iterator[str]:
        return pages.each_name(self.link, place, _ROWS_AT_ONCE)


def _parts(entries: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for first in range(0, len(entries), size):
        yield entries[first : first + size]
