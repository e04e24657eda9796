"""Questions about the hosts: which take jobs, which are silent, drained or lost. Reads only."""

from __future__ import annotations

from dataclasses import dataclass

from celery_docker.core import hostreport
from celery_docker.store import keys, listing, redislink
from celery_docker.store.listing import WorkerRow


@dataclass(frozen=True)
class HostQueries:
    """Questions about the hosts. Each raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def rows(self) -> list[WorkerRow]:
        """Return the hosts that take jobs, and those that were lost in the last 16 days, by name."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.time()
            pipeline.zrange(keys.HOSTS, 0, -1, withscores=True)
            pipeline.zrange(keys.LOST_HOSTS, 0, -1, withscores=True)
            pipeline.hgetall(keys.DRAINED)
            (seconds, microseconds), present, lost, drained = pipeline.execute()
            # A host that was recalled is in both.
            last_heard = dict(lost) | dict(present)
            for host in last_heard:
                pipeline.hget(keys.host_about(host), "about")
                pipeline.scard(keys.host_jobs(host))
            answers = redislink.answers(pipeline)
        now, names = seconds + microseconds / 1e6, {host for host, _ in present}
        rows = []
        for (host, heard_at), text, jobs in zip(last_heard.items(), answers[::2], answers[1::2], strict=True):
            report = hostreport.parse(text)
            ahead_s = listing.ahead_s(report.get("clock"), heard_at)
            rows.append(
                WorkerRow(host, now - heard_at, ahead_s, jobs or 0, report, drained.get(host), host not in names)
            )
        return sorted(rows, key=lambda row: row.host)
