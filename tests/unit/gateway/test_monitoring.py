"""The answers for monitors, where Redis does not answer, and where many ask at once."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from celery_docker import errors
from celery_docker.core.access import Identity, Rights
from celery_docker.gateway import monitoring
from celery_docker.gateway.monitoring import Monitoring
from celery_docker.gateway.routing import Request
from celery_docker.store import redislink
from celery_docker.store.figurequeries import FigureQueries, Figures

REQUEST = Request(Identity("nobody", 65534, 65534, ()), Rights(frozenset()))
EMPTY = Figures(2e9, [], {}, 0, 0, {})


@dataclass
class Asked:
    """Redis, which counts how often it was asked; `failure` is what it does."""

    failure: Exception | None = None
    times: int = 0
    now_s: float = 1000.0
    released: threading.Event = field(default_factory=threading.Event)

    def read(self, _: FigureQueries) -> Figures:
        self.times += 1
        assert self.released.wait(20)
        if self.failure is not None:
            raise self.failure
        return EMPTY

    def monitoring(self) -> Monitoring:
        return Monitoring(cast(Any, None), clock=lambda: self.now_s)


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked = Asked()
    asked.released.set()
    monkeypatch.setattr(FigureQueries, "read", lambda queries: asked.read(queries))
    return asked


def test_metrics_are_text_and_need_nobody_s_name(redis: Asked) -> None:
    answer = redis.monitoring().metrics(REQUEST)
    assert (answer.status, answer.content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\ncelery_docker_redis_up 1.0\n" in answer.body


@pytest.mark.parametrize("failure", [errors.StoreAway("gone"), errors.StoreRefused("no password")])
def test_a_redis_that_does_not_answer_is_a_figure_too(redis: Asked, failure: Exception) -> None:
    redis.failure = failure
    lines = [line for line in redis.monitoring().metrics(REQUEST).body.splitlines() if not line.startswith(b"#")]
    assert lines == [b"celery_docker_redis_up 0.0"]


def test_who_asks_at_once_gets_one_answer_and_later_a_new_one(redis: Asked) -> None:
    monitor = redis.monitoring()
    redis.released.clear()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(monitor.metrics, REQUEST) for _ in range(8)]
        redis.released.set()
        assert len({id(answer.result(20)) for answer in answers}) == 1
    assert redis.times == 1
    redis.now_s += 1.01
    monitor.metrics(REQUEST)
    assert redis.times == 2


def test_a_mistake_of_ours_is_no_answer_for_the_next(redis: Asked) -> None:
    monitor = redis.monitoring()
    redis.failure = ValueError("a mistake")
    with pytest.raises(ValueError, match="a mistake"):
        monitor.metrics(REQUEST)
    redis.failure = None
    assert monitor.metrics(REQUEST).status == 200


def test_a_redis_that_hangs_is_away_once_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and says nothing, as one that is stopped does. It is asked once, and nothing else is."""
    monkeypatch.setattr(monitoring, "PATIENCE_S", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=8) as hung:
        link = redislink.connect(f"redis://127.0.0.1:{hung.getsockname()[1]}/0", timeout_s=monitoring.PATIENCE_S)
        with pytest.raises(errors.StoreAway, match="Timeout"):
            Monitoring(link).health(REQUEST)
        hung.setblocking(False)
        connections = [hung.accept()[0]]
        with pytest.raises(BlockingIOError):
            hung.accept()
        for connection in connections:
            connection.close()
        link.close()
