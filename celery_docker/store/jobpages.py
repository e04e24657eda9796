"""Pages of jobs: those of an index or a batch that a listing wants, in order. Reads only.

Invariant: Redis looks at `_LOOKS_AT_ONCE` jobs in one question, which takes less than 20 ms. Of jobs in some
states it looks at these alone, while `listkeeping` vouches for the lists by state; in a batch too, if they are few.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from celery_docker.store import jobfilter, keys, listing, redislink
from celery_docker.store.jobfilter import JobFilter
from celery_docker.store.listing import JobRow
from celery_docker.store.pages import MOST_ENTRIES, NEWEST, Mark

_ROWS_AT_ONCE = 500
_LOOKS_AT_ONCE = 1000
# Many pages may be in memory at a time, each some ten times as large there; `select.lua` returns little more.
_MOST_SIZE = 2**20
# A job, and some fields of its record.
Cells = tuple[str, list[str | None]]


@dataclass(frozen=True)
class _Part:
    """Jobs that are wanted, of so many that were looked at; and the place behind these, None behind the last.

    `size` is that of all their fields.
    """

    jobs: Sequence[Cells]
    looks: int
    size: int
    following: Mark | None


@dataclass(frozen=True)
class JobPages:
    """Pages of the jobs that `wanted` has: of a batch, of a user, or of all. Raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link
    wanted: JobFilter
    batch_id: str | None = None
    newest_first: bool = True

    def page(self, before: Mark, most: int) -> tuple[list[JobRow], Mark | None]:
        """Return up to `most` rows behind a place, and where the next page begins; None: there are no more.

        A page that is short, or empty, and has a next one went through `MOST_ENTRIES` jobs, or has large ones.
        """
        rows: list[JobRow] = []
        looks = size = 0
        while len(rows) < most and looks < MOST_ENTRIES and size < _MOST_SIZE:
            part = self._select(before, min(most - len(rows), _ROWS_AT_ONCE), listing.ROW_FIELDS)
            rows += self._rows(part.jobs)
            if part.following is None:
                return rows, None
            before, looks, size = part.following, looks + part.looks, size + part.size
        return rows, before

    def __iter__(self) -> Iterator[JobRow]:
        """Yield all of the jobs. Redis is asked for them part by part, as they are consumed."""
        place: Mark | None = NEWEST
        while place is not None:
            part = self._select(place, _ROWS_AT_ONCE, listing.ROW_FIELDS)
            yield from self._rows(part.jobs)
            place = part.following

    def cells(self, *names: str) -> Iterator[Cells]:
        """Yield all of the jobs with these fields of their records, None for what is not there, whatever they hold."""
        place: Mark | None = NEWEST
        while place is not None:
            part = self._select(place, _LOOKS_AT_ONCE, names)
            yield from part.jobs
            place = part.following

    def _rows(self, jobs: Sequence[Cells]) -> list[JobRow]:
        rows = [listing.job(job_id, values) for job_id, values in jobs if values[0]]
        # A record that cannot be read is in no state that anybody asks for.
        return [row for row in rows if self.wanted.has(row)]

    def _select(self, before: Mark, most: int, names: Sequence[str]) -> _Part:
        place = ["", ""] if before.name == "" else [repr(before.score), before.name]
        args = [keys.JOB, *keys.HOST, int(self.newest_first), *place, most, _LOOKS_AT_ONCE]
        args.append("" if self.wanted.since_at is None else repr(self.wanted.since_at))
        args += jobfilter.wishes(names, self.wanted.conditions())
        has_more, score, name, looks, text = self.link.call("select", self._touched(), args)
        jobs = [(job_id, [value or None for value in values]) for job_id, *values in json.loads(text)]
        return _Part(jobs, looks, len(text), Mark(float(score), name) if has_more else None)

    def _touched(self) -> list[str]:
        uid = self.wanted.uid
        index = keys.INDEX if uid is None else keys.user_jobs(str(uid))
        return [index if self.batch_id is None else keys.batch_jobs(self.batch_id), index, keys.LISTS, keys.HOSTS]
