"""The lists in Redis that messages wait in: one for each priority of a queue. Reads them only; they are Celery's."""

from __future__ import annotations

import json
from dataclasses import dataclass

from celery_docker import message, redislink

_PRIORITIES = range(10)


@dataclass(frozen=True)
class QueueLists:
    """The lists of all queues in one Redis. Raises `StoreAway` or `StoreRefused`."""

    link: redislink.Link

    def length(self, queue: str) -> int:
        """Return how many messages wait in a queue."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for key in _lists(queue):
                pipeline.llen(key)
            return sum(pipeline.execute())

    def job_ids(self, queue: str) -> list[str]:
        """Return the jobs whose messages wait in a queue, the next one first."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            for key in _lists(queue):
                pipeline.lrange(key, 0, -1)
            rows = pipeline.execute()
        found = [_job_id(text) for row in rows for text in reversed(row)]
        return [job_id for job_id in found if job_id]


def _lists(queue: str) -> list[str]:
    return list(dict.fromkeys(message.queue_key(queue, priority) for priority in _PRIORITIES))


def _job_id(text: str) -> str:
    """Return the id in a message; empty where somebody has put something else there."""
    try:
        return str(json.loads(text)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
