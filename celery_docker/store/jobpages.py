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


@dataclass(frozen=True)
class JobPages:
    """Pages of the jobs that `wanted` has: of a batch, of a user, or of all. Raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link
    wanted: JobFilter
    batch_id: str | None = None
    newest_first: bool = True

    def page(self, before: Mark, most: int) -> tuple[list[JobRow], Mark | None]:
        """Return up to `most` rows behind a place, and where the next page begins; None: there are no more.

        A page may be short, or empty, and have a next one, where few jobs are wanted.
        """
        rows: list[JobRow] = []
        looks = 0
        while len(rows) < most and looks < MOST_ENTRIES:
            part, following = self._part(before, min(most - len(rows), _ROWS_AT_ONCE))
            rows += part
            if following is None:
                return rows, None
            before, looks = following, looks + _LOOKS_AT_ONCE
        return rows, before

    def __iter__(self) -> Iterator[JobRow]:
        """Yield all of the jobs. Redis is asked for them part by part, as they are consumed."""
        place: Mark | None = NEWEST
        while place is not None:
            rows, place = self._part(place, _ROWS_AT_ONCE)
            yield from rows

    def cells(self, *names: str) -> Iterator[tuple[str, list[str | None]]]:
        """Yield all of the jobs with these fields of their records, None for what is not there, whatever they hold."""
        place: Mark | None = NEWEST
        while place is not None:
            jobs, place = self._select(place, _LOOKS_AT_ONCE, names)
            yield from jobs

    def _part(self, before: Mark, most: int) -> tuple[list[JobRow], Mark | None]:
        jobs, following = self._select(before, most, listing.ROW_FIELDS)
        rows = [listing.job(job_id, values) for job_id, values in jobs if values[0]]
        # A record that cannot be read is in no state that anybody asks for.
        return [row for row in rows if self.wanted.has(row)], following

    def _select(
        self, before: Mark, most: int, names: Sequence[str]
    ) -> tuple[list[tuple[str, list[str | None]]], Mark | None]:
        first, _, last = keys.HOST
        place = ["", ""] if before.name == "" else [repr(before.score), before.name]
        args = [keys.JOB, first, last, int(self.newest_first), *place, most, _LOOKS_AT_ONCE]
        # A batch has its jobs by their number, an index by the time at which they were submitted or first seen.
        has_end = self.wanted.since_at is not None and self.batch_id is None
        args.append(repr(self.wanted.since_at) if has_end else "")
        args += jobfilter.wishes(names, self.wanted.conditions())
        has_more, score, name, text = self.link.call("select", self._touched(), args)
        jobs = [(job_id, [value or None for value in values]) for job_id, *values in json.loads(text)]
        return jobs, Mark(float(score), name) if has_more else None

    def _touched(self) -> list[str]:
        uid = self.wanted.uid
        index = keys.INDEX if uid is None else keys.user_jobs(str(uid))
        return [index if self.batch_id is None else keys.batch_jobs(self.batch_id), index, keys.LISTS, keys.HOSTS]
