"""Keeping the lists of jobs by state: filled once, mended where they differ from the index, and looked at hourly.

Invariant: the mark `keys.LISTS` stands while every job that has ended is in the list of its state. A worker of an older
version ends jobs without that: while there is one, the mark is away, and whoever asks reads the whole index. What it
leaves behind is among the jobs that have not ended, which are looked at each time, unless they are many. What else may
go wrong shows in the numbers: each job of an index is in one of its lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery_docker.core import hostreport
from celery_docker.core.recordfields import Fields
from celery_docker.store import keys, redislink

_AT_ONCE = 500
# So many jobs that have not ended are looked at each time.
_MOST_LIVE = 5000
# One worker of all does it, once in so many seconds.
_LOCK_S = 50
_WHOLE_EVERY_S = 3600
# Where all workers are stopped, or are of an older version then, the mark goes.
_KEPT_S = 300


@dataclass(frozen=True)
class ListKeeping:
    """The lists by state in one Redis. Each call raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def keep(self, now: float) -> None:
        """Mend the lists, unless another worker has just done it; all of them where that is due."""
        with self.link.translated():
            if not self.link.client.set(keys.LISTS_LOCK, "1", nx=True, ex=_LOCK_S):
                return
            if self._has_older_host():
                self.link.client.delete(keys.LISTS)
                return
        looked_at = self._looked_at()
        is_due = looked_at is None or not 0 <= now - looked_at < _WHOLE_EVERY_S
        for index in self._indexes():
            self._mend(index, is_due=is_due)
        with self.link.translated():
            if not self._has_older_host():
                self.link.client.set(keys.LISTS, now if is_due else looked_at, ex=_KEPT_S)

    def _looked_at(self) -> float | None:
        """Return the time of the latest look at everything; None where the lists may have gaps."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.get(keys.LISTS)
            (text,) = redislink.answers(pipeline)
        return Fields({"looked_at": text or ""}).moment("looked_at")

    def _has_older_host(self) -> bool:
        """Tell whether there is a host that lists no ends."""
        hosts = self.link.client.zrange(keys.HOSTS, 0, -1)
        with self.link.client.pipeline(transaction=False) as pipeline:
            for host in hosts:
                pipeline.hget(keys.host_about(host), "about")
            return not all(hostreport.lists_ends(hostreport.parse(text)) for text in redislink.answers(pipeline))

    def _indexes(self) -> Iterator[str]:
        yield keys.INDEX
        with self.link.translated():
            uids = self.link.client.zrange(keys.USERS, 0, -1)
        yield from map(keys.user_jobs, uids)

    def _mend(self, index: str, *, is_due: bool) -> None:
        """List the jobs of an index anew, until the numbers agree; all of them if that is due.

        Where they agree, a job that has ended may still be among those that have not.
        """
        if is_due or not self._agrees(index):
            for key in keys.lists(index):
                self._drop_strangers(index, key)
            place = ["", ""]
            while place and (is_due or not self._agrees(index)):
                place = self._relisted(index, index, place)
        elif (self._sizes(keys.live(index))[0] or 0) <= _MOST_LIVE:
            place = ["", ""]
            while place:
                place = self._relisted(index, keys.live(index), place)

    def _relisted(self, index: str, key: str, place: list[str]) -> list[str]:
        """List some jobs of a list anew; return the place behind them, nothing behind the last."""
        touched = [index, key, keys.WAITING, keys.DELAYED, keys.BLOCKED, keys.CANCELLING, keys.EXPIRING]
        args = [keys.JOB, *place, _AT_ONCE, keys.HOST[0], keys.HOST[2]]
        following: list[str] = self.link.call("relist", touched, args)
        with self.link.translated():
            self.link.client.expire(keys.LISTS_LOCK, _LOCK_S)
        return following

    def _agrees(self, index: str) -> bool:
        """Tell whether there are as many jobs in the lists as in the index."""
        count, *listed = self._sizes(index, *keys.lists(index))
        return None not in listed and count == sum(listed)

    def _sizes(self, *names: str) -> list[Any]:
        """Return the numbers of jobs in sorted sets, None for what is none."""
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            for key in names:
                pipeline.zcard(key)
            return redislink.answers(pipeline)

    def _drop_strangers(self, index: str, key: str) -> None:
        """Drop from a list what is not in the index, as a worker of an older version leaves it."""
        first = 0
        while True:
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                pipeline.zrange(key, first, first + _AT_ONCE - 1)
                (job_ids,) = redislink.answers(pipeline, [])
                if not job_ids:
                    return
                places = self.link.client.zmscore(index, job_ids)
                gone = [job_id for job_id, place in zip(job_ids, places, strict=True) if place is None]
                if gone:
                    self.link.client.zrem(key, *gone)
            first += len(job_ids) - len(gone)
