"""All questions to one Redis, for those who ask about jobs, batches and hosts. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.core import ids
from celery_docker.store import idlookup, keys, redislink
from celery_docker.store.batchqueries import BatchQueries
from celery_docker.store.heads import Heads
from celery_docker.store.hostqueries import HostQueries, LatestHosts
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import Match
from celery_docker.store.waitqueries import WaitQueries


@dataclass(frozen=True)
class Queries:
    """Questions to one Redis. Each raises `StoreAway` or `StoreRefused`.

    `heads` and `latest` have the heads of queues, and the hosts, for a process that answers many; without them each is
    read when it is asked for.
    """

    link: redislink.Link
    heads: Heads | None = None
    latest: LatestHosts | None = None

    @property
    def jobs(self) -> JobQueries:
        """Questions about jobs and queues."""
        return JobQueries(self.link)

    @property
    def batches(self) -> BatchQueries:
        """Questions about batches."""
        return BatchQueries(self.link)

    @property
    def hosts(self) -> HostQueries:
        """Questions about hosts."""
        return HostQueries(self.link)

    @property
    def waits(self) -> WaitQueries:
        """Questions about the reasons for which jobs wait."""
        return WaitQueries(self.link, self.heads or Heads(self.link), self.latest or LatestHosts(self.link))

    def now(self) -> float:
        """Return the time by Redis' clock."""
        with self.link.translated():
            seconds, microseconds = self.link.client.time()
        return float(seconds + microseconds / 1e6)

    def match(self, text: str) -> Match:
        """Return the job or batch named by an id or its beginning. Raises `NoSuchJob` or `AmbiguousId`."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.exists(keys.job(text)).exists(keys.batch(text))
            is_job, is_batch = pipeline.execute()
        if text and (is_job or is_batch):
            return Match(text, is_batch=not is_job)
        jobs = idlookup.beginning_with(self.link, text, keys.INDEX)
        batches = idlookup.beginning_with(self.link, text, keys.BATCHES)
        name = ids.resolve_prefix(text, [*jobs, *batches])
        return Match(name, is_batch=name not in jobs)
