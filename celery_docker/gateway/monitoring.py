"""The answers for monitors: whether Redis answers, and the figures of all hosts and queues. Neither needs a token.

Invariant: who asks again and again costs Redis and this process no more than one question a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from celery_docker import errors
from celery_docker.client import metrics, views
from celery_docker.gateway.routing import Answer, Request
from celery_docker.store.figurequeries import FigureQueries
from celery_docker.store.queries import Queries
from celery_docker.store.redislink import Link

# Redis counts as away if it takes longer to answer.
PATIENCE_S = 2
_KEPT_S = 1.0


@dataclass
class Monitoring:
    """The handlers for monitors; `link` waits for Redis no longer than `PATIENCE_S`."""

    link: Link
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _kept: tuple[float, Answer] | None = None

    def health(self, request: Request) -> Answer:
        """Say that Redis answers. Raises `StoreAway` or `StoreRefused`."""
        return Answer({"status": "ok", "now": views.timestamp(Queries(self.link).now())})

    def metrics(self, request: Request) -> Answer:
        """Return all figures as Prometheus reads them; of a Redis that is away they say so."""
        with self._lock:
            if self._kept is None or self._kept[0] < self.clock():
                answer = self._read()
                self._kept = (self.clock() + _KEPT_S, answer)
            return self._kept[1]

    def _read(self) -> Answer:
        # It takes a tenth of a second, which most processes need not wait.
        from celery_docker.client import exposition

        try:
            read = FigureQueries(self.link).read()
        except (errors.StoreAway, errors.StoreRefused):
            read = None
        return Answer(exposition.text(metrics.of(read)), content_type=exposition.CONTENT_TYPE)
