"""The images of hosts in Redis: the report of each, the orders to pull, and the images that jobs want.

A report and an order expire by themselves: nothing has to clean up behind a host that is gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import hostimages, incoming, message, pullorder
from celery_docker.core.pullorder import PullReport
from celery_docker.store import hosts, keys, redislink

# A host reports each minute.
_REPORT_KEPT_S = 900
_ORDER, _HOST = "order", "host:"
_AT_ONCE = 500


@dataclass(frozen=True)
class ImageStore:
    """The images of hosts in one Redis. Each call raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def report(self, host: str, report: Mapping[str, Any]) -> None:
        """Write which images a host has."""
        text = json.dumps(report, separators=(",", ":"))
        with self.link.translated():
            self.link.client.set(keys.host_images(host), text, ex=_REPORT_KEPT_S)

    def reports(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return the reports of these hosts; one that has written none is left out."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for host in names:
                pipeline.get(keys.host_images(host))
            texts = redislink.answers(pipeline)
        return {host: hostimages.parse_report(text) for host, text in zip(names, texts, strict=True) if text}

    def order(self, order_id: str, text: str) -> None:
        """Give the hosts an order."""
        key = keys.pull_order(order_id)
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            now = int(self.link.client.time()[0])
            pipeline.hset(key, _ORDER, text)
            pipeline.expire(key, pullorder.LASTS_S)
            pipeline.zadd(keys.PULL_ORDERS, {order_id: now})
            pipeline.zremrangebyscore(keys.PULL_ORDERS, "-inf", now - pullorder.LASTS_S)
            pipeline.execute()

    def orders(self) -> list[str]:
        """Return the ids of the orders, the oldest first; one may have expired."""
        with self.link.translated():
            order_ids: list[str] = self.link.client.zrange(keys.PULL_ORDERS, 0, -1)
        return order_ids

    def read(self, order_id: str, host: str) -> tuple[str | None, PullReport | None]:
        """Return the text of an order, None for one that has expired, and what that host has reported about it."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.pull_order(order_id), (_ORDER, _HOST + host))
            ((text, report),) = redislink.answers(pipeline, (None, None))
        return text, pullorder.parse_report(report)

    def tell(self, order_id: str, host: str, report: PullReport) -> None:
        """Write how an order goes on a host."""
        with self.link.translated(), self.link.client.pipeline() as pipeline:
            pipeline.hset(keys.pull_order(order_id), _HOST + host, report.text())
            # It may have expired just now.
            pipeline.expire(keys.pull_order(order_id), pullorder.LASTS_S)
            redislink.answers(pipeline)

    def told(self, order_id: str) -> dict[str, PullReport]:
        """Return what each host has reported about an order."""
        with self.link.translated():
            table: dict[str, str] = self.link.client.hgetall(keys.pull_order(order_id))
        reports = {name: pullorder.parse_report(text) for name, text in table.items() if name.startswith(_HOST)}
        return {name.removeprefix(_HOST): report for name, report in reports.items() if report is not None}

    def wanted(self) -> set[str]:
        """Return the images of all jobs that have not ended, by the names that they want; also of plain clients.

        A job that moves from one place to another meanwhile is met at the second reading, if not at the first.
        """
        return self._wanted_now() | self._wanted_now()

    def _wanted_now(self) -> set[str]:
        with self.link.translated():
            names: list[str] = self.link.client.zrange(keys.HOSTS, 0, -1)
            job_ids = {job_id for key in (keys.WAITING, keys.DELAYED, keys.BLOCKED) for job_id in self._members(key)}
            for host in names:
                job_ids.update(self.link.call("owned", [keys.host_jobs(host)], []))
            queues = hosts.served_queues(self.link.client)
        wanted: set[str] = set()
        lists = {source for queue in queues for source in message.queue_keys(queue)}
        for image, pin, source in self._fields(sorted(job_ids), "image", "image_pin", "queue"):
            wanted |= {image} if image else set()
            wanted |= {f"{image}@{pin.partition(' ')[0]}"} if image and pin else set()
            lists |= {source} if source else set()
        # A plain client's message has no record before its claim.
        for source in lists:
            for key in (source, *(keys.taken(host, source) for host in names)):
                wanted.update(self._in_messages(key))
        return wanted

    def _members(self, key: str) -> Iterator[str]:
        yield from (job_id for job_id, _ in self.link.client.zscan_iter(key, count=_AT_ONCE))

    def _fields(self, job_ids: Sequence[str], *names: str) -> Iterator[Sequence[str | None]]:
        for first in range(0, len(job_ids), _AT_ONCE):
            with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
                for job_id in job_ids[first : first + _AT_ONCE]:
                    pipeline.hmget(keys.job(job_id), names)
                rows: list[Sequence[str | None]] = redislink.answers(pipeline, [None] * len(names))
            yield from rows

    def _in_messages(self, key: str) -> Iterator[str]:
        for first in range(0, 10**7, _AT_ONCE):
            with self.link.translated():
                texts = redislink.in_list(self.link.client, key, first, first + _AT_ONCE - 1)
            for text in texts:
                parsed = incoming.parse(text)
                if isinstance(parsed, incoming.Incoming):
                    image = parsed.kwargs.get("image", next(iter(parsed.args), None))
                    if isinstance(image, str):
                        yield image
            if len(texts) < _AT_ONCE:
                return
