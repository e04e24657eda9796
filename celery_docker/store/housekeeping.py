"""Housekeeping of the job records: due jobs, expiry, lost messages, old index entries. Any worker does it.

Invariant: every step may be done by several workers at once, and twice; the second finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from celery_docker.core import hostreport, incoming, lifecycle, message, shares
from celery_docker.core.jobrecord import TO_END_AT_ONCE, JobToEnd
from celery_docker.core.lifecycle import EndRequest
from celery_docker.core.outlook import Outlook
from celery_docker.store import historykeeping, hosts, keys, listkeeping, redislink

_AT_ONCE = 1000
# How many jobs one script publishes, in a turn of so many; how many jobs of a share one looks at.
_DUE_AT_ONCE, _DUE_TURNS = 250, 4
_SHARE_AT_ONCE = 500
# One worker of all looks after the shares, for so many seconds.
_SHARES_LOCK_S = 4
# What workers have said of the windows counts for a day after the last of them.
_WINDOWS_KEPT_S = 86_400


@dataclass(frozen=True)
class Housekeeping:
    """Housekeeping in one Redis. Times are seconds since the epoch by Redis' clock."""

    link: redislink.Link

    def now(self) -> float:
        """Return the time by Redis' clock."""
        with self.link.translated():
            seconds, microseconds = self.link.client.time()
        return float(seconds + microseconds / 1e6)

    def look(self, host: str) -> Outlook:
        """Return what there is to do for a host, in one call."""
        touched = [keys.DELAYED, keys.EXPIRING, keys.DRAINED, keys.CANCELLING, keys.PULL_ORDERS, keys.PARKED]
        now, drained_by, *found = self.link.call("look", touched, [host])
        is_due, has_expired, has_end_requests, has_orders, has_parked = map(bool, found)
        return Outlook(float(now), is_due, has_expired, has_end_requests, has_orders, has_parked, drained_by)

    def end_requests(self, host: str) -> list[JobToEnd]:
        """Return jobs with an end request that have not ended: the host's, and `TO_END_AT_ONCE` of all at most."""
        touched = [keys.CANCELLING, keys.host_jobs(host)]
        job_ids = sorted(self.link.call("cancelling", touched, [keys.JOB, TO_END_AT_ONCE]))
        rows = self._fields(job_ids, "state", "cancel_reason", "queue", "message", "cancel_cause")
        return [
            JobToEnd(
                job_id,
                state or "",
                queue or "",
                incoming.of_record(job_id, text or None),
                EndRequest(lifecycle.cause_of(cause), reason or ""),
            )
            for job_id, (state, reason, queue, text, cause) in zip(job_ids, rows, strict=True)
        ]

    def publish_due(self, now: float) -> int:
        """Put the messages of delayed jobs that are due back into their queues; return how many."""
        touched, count = [keys.DELAYED, keys.WAITING, keys.SHARES, keys.WINDOWS], 0
        for _ in range(_DUE_TURNS):
            due, published = self.link.call("publish", touched, [now, _DUE_AT_ONCE, keys.JOB, keys.SHARE])
            count += int(published)
            if due < _DUE_AT_ONCE:
                break
        return count

    def release_held(self) -> int:
        """Say how large the windows are, and publish what the shares have room for; return how many jobs.

        Of several workers that do this at about the same time one does; the others return 0.
        """
        with self.link.translated():
            if not self.link.client.set(keys.SHARES_LOCK, "1", nx=True, ex=_SHARES_LOCK_S):
                return 0
            names = self._store_windows()
        touched = [keys.SHARES, keys.WINDOWS, keys.DELAYED, keys.WAITING]
        shared = [keys.JOB, keys.SHARE, _SHARE_AT_ONCE, _SHARE_AT_ONCE]
        return sum(int(self.link.call("refill", touched, [name, *shared])) for name in names)

    def _store_windows(self) -> list[str]:
        """Store the windows of the queues that hosts serve, those of other queues stay; return the names of shares."""
        with self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(keys.HOSTS, 0, -1)
            pipeline.hkeys(keys.SHARES)
            hosts, names = redislink.answers(pipeline, [])
            for host in hosts:
                pipeline.hget(keys.host_about(host), "about")
            windows = shares.windows([hostreport.parse(text) for text in redislink.answers(pipeline)])
            if windows:
                pipeline.hset(keys.WINDOWS, mapping=windows)
                pipeline.expire(keys.WINDOWS, _WINDOWS_KEPT_S)
                pipeline.execute()
        return list(names)

    def keep_lists(self, now: float) -> None:
        """Mend the lists of jobs by state; of several workers that do this at about the same time one does."""
        listkeeping.ListKeeping(self.link).keep(now)

    def keep_history(self, now: float) -> bool:
        """Take the sample of these five minutes; of several workers one does, and the others return False."""
        return historykeeping.HistoryKeeping(self.link).keep(now)

    def expire_due(self, now: float) -> int:
        """Mark the jobs that had to start by now and have not, so that they end; return how many."""
        shared = [keys.EXPIRING, keys.CANCELLING, keys.DELAYED]
        return sum(self._do("expire", job_id, shared) for job_id in self._up_to(keys.EXPIRING, now))

    def republish(self, before: float) -> int:
        """Publish again the jobs that have waited since `before` and are in no list, nor parked; return how many.

        The lists are only read where they hold fewer messages than jobs wait; what plain clients sent may hide a gap
        until it has been served.
        """
        parked, count = self._parked(), 0
        counted, read, listed = self._served(), set[str](), set[str]()
        for waiting in self._waiting(before, parked):
            sources = {source for (source,) in self._fields(waiting, "queue") if source}
            counted |= sources
            if self._is_complete(self._with_taken(counted), len(parked)):
                break
            for source in self._with_taken(sources - read):
                listed.update(self._listed(source))
            read |= sources
            missing = [job_id for job_id in waiting if job_id not in listed]
            count += sum(self._do("republish", job_id, [keys.WAITING]) for job_id in missing)
        return count

    def _served(self) -> set[str]:
        """Return the lists of the queues that hosts serve."""
        with self.link.translated():
            queues = hosts.served_queues(self.link.client)
        return {source for queue in queues for source in message.queue_keys(queue)}

    def repair(self) -> list[str]:
        """Put shared keys away that hold something else than they should; return their names."""
        names: list[str] = self.link.call("repair", list(keys.TYPES), list(keys.TYPES.values()))
        return names

    def forget_expired(self, before: float) -> int:
        """Drop index entries older than `before` whose records or batches have expired; return how many."""
        count = self._forget(keys.INDEX, keys.job, before) + self._forget(keys.BATCHES, keys.batch, before)
        with self.link.translated():
            uids = self.link.client.zrange(keys.USERS, 0, -1)
        for uid in uids:
            jobs, batches = keys.user_jobs(uid), keys.user_batches(uid)
            self._forget(jobs, keys.job, before)
            self._forget(batches, keys.batch, before)
            # A user of whom nothing is left. Who submits at just this moment is listed again with his next job.
            with self.link.translated():
                if not self.link.client.exists(jobs, batches):
                    self.link.client.zrem(keys.USERS, uid)
                    self.link.client.unlink(*keys.lists(jobs))
        return count

    def _forget(self, index: str, key_of: Callable[[str], str], before: float) -> int:
        """Drop the entries of one index, portion by portion; those that stay are passed over by their number."""
        count = kept = 0
        while names := self._up_to(index, before, first=kept):
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                for name in names:
                    pipeline.exists(key_of(name))
                gone = [name for name, exists in zip(names, pipeline.execute(), strict=True) if not exists]
            if gone:
                self._drop(index, gone)
            count, kept = count + len(gone), kept + len(names) - len(gone)
        return count

    def _drop(self, index: str, names: list[str]) -> None:
        """Drop entries of an index and, in the same step, those of its lists by state."""
        beside = [] if index.endswith(":batches") else keys.lists(index)
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            for key in [index, *beside]:
                pipeline.zrem(key, *names)
            redislink.answers(pipeline)

    def _with_taken(self, sources: Collection[str]) -> list[str]:
        with self.link.translated():
            names = self.link.client.zrange(keys.HOSTS, 0, -1)
        return [*sorted(sources), *(keys.taken(host, source) for host in names for source in sorted(sources))]

    def _waiting(self, before: float, parked: Collection[str]) -> Iterator[list[str]]:
        """Yield the jobs that have waited since `before` and are not parked, part by part, the oldest first."""
        first = 0
        while part := self._up_to(keys.WAITING, before, first=first):
            first += len(part)
            if waiting := [job_id for job_id in part if job_id not in parked]:
                yield waiting

    def _parked(self) -> set[str]:
        """Return the jobs that are parked; those that wait no more go, as a host of an older version leaves them."""
        with self.link.translated():
            names = self.link.client.smembers(keys.PARKED)
        parked: set[str] = set()
        for group in names:
            parked |= self._parked_in(keys.PARKED_GROUP + group)
        return parked

    def _parked_in(self, group: str) -> set[str]:
        waiting: set[str] = set()
        while job_ids := self._ids(group, first=len(waiting)):
            with self.link.translated():
                put_at = self.link.client.zmscore(keys.WAITING, job_ids)
                gone = [job_id for job_id, score in zip(job_ids, put_at, strict=True) if score is None]
                if gone:
                    self.link.client.zrem(group, *gone)
            waiting |= set(job_ids) - set(gone)
            if len(job_ids) < _AT_ONCE:
                break
        return waiting

    def _ids(self, group: str, *, first: int) -> list[str]:
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.zrange(group, first, first + _AT_ONCE - 1)
            job_ids: list[str]
            (job_ids,) = redislink.answers(pipeline, [])
        return job_ids

    def _is_complete(self, lists: list[str], parked: int) -> bool:
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            for source in lists:
                pipeline.llen(source)
            pipeline.zcard(keys.WAITING)
            *listed, waiting = redislink.answers(pipeline, 0)
        return bool(sum(listed) + parked >= waiting)

    def _up_to(self, index: str, moment: float, *, first: int = 0) -> list[str]:
        with self.link.translated():
            rows = self.link.client.zrange(index, first, first + _AT_ONCE - 1, withscores=True)
        return [name for name, score in rows if score <= moment]

    def _do(self, script: str, job_id: str, shared: list[str]) -> int:
        return int(self.link.call(script, [keys.job(job_id), *shared], [job_id]))

    def _fields(self, job_ids: list[str], *names: str) -> list[list[str | None]]:
        if not job_ids:
            return []
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for job_id in job_ids:
                pipeline.hmget(keys.job(job_id), names)
            rows: list[list[str | None]] = redislink.answers(pipeline, [None] * len(names))
        return rows

    def _listed(self, source: str) -> Iterator[str]:
        """Yield the ids of the messages in a queue's list; it is read in pieces, from the end that is served first."""
        for last in range(-1, -(10**7), -_AT_ONCE):
            with self.link.translated():
                texts = redislink.in_list(self.link.client, source, last - _AT_ONCE + 1, last)
            yield from (job_id for text in texts if (job_id := message.job_id(text)))
            if len(texts) < _AT_ONCE:
                return
