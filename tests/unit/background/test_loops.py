"""The loops of a worker go on after an exception of any kind: a host whose loop has ended would do its work no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import current_thread
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background.duties import Duties
from celery_docker.background.health import Health
from celery_docker.background.heartbeat import Heartbeat
from celery_docker.background.intake import Intake
from celery_docker.background.orphans import Orphans
from celery_docker.core.jobrecord import Claim, Verdict
from celery_docker.core.receipt import Attempt
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.job import Delivery, Job
from tests.waiting import eventually

SOON_S = 0.001
FAILURES = [errors.StoreAway("gone"), errors.EngineAway("gone"), RuntimeError("a bug"), KeyError("a bug"), OSError(5)]


class Failing:
    """Stands for Redis, Docker and the runner: each call of any kind is counted by its thread, and raises."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure
        self.calls = Counter[str]()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*_args: Any, **_arguments: Any) -> Any:
            self.calls[current_thread().name] += 1
            raise self.failure

        return call


@contextmanager
def duties(world: Any) -> Iterator[None]:
    loop = Duties(
        world,
        world,
        Intake(),
        host="node1",
        slots=1,
        retention_s=60,
        environ={},
        end_queued=lambda jobs, more: 0,
    )
    loop.start()
    yield
    loop.stop()


@contextmanager
def health(world: Any) -> Iterator[None]:
    loop = Health(Intake(), world, [], lambda: 0, interval_s=SOON_S, sick_interval_s=SOON_S)
    loop.start()
    yield
    loop.stop()


@contextmanager
def heartbeat(world: Any) -> Iterator[None]:
    loop = Heartbeat(
        world,
        world,
        host="node1",
        machine="m1",
        lost_after_s=60,
        about=dict,
        deliver=lambda _: None,
        quit_=lambda: None,
        interval_s=SOON_S,
    )
    loop.start()
    yield
    loop._loop.stop(wait_s=10)


@contextmanager
def orphans(world: Any) -> Iterator[None]:
    loop = Orphans(
        world,
        world,
        "node1",
        find=lambda _: None,
        deliver=lambda _: None,
        is_serving=lambda: True,
        interval_s=SOON_S,
    )
    loop.start()
    yield
    loop.stop()


@contextmanager
def broadcast(world: Any) -> Iterator[None]:
    def jobs() -> list[Job]:
        job = Job(Delivery("j1", (), {}, "celery", {}), Claim(Verdict.RUN), Attempt(1, "node1", datetime.now(UTC)))
        world.jobs()
        return [job]

    loop = Broadcast(world, "node1", interval_s=SOON_S)
    loop.start(jobs)
    yield
    loop.stop()


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
@pytest.mark.parametrize("running", [duties, health, heartbeat, orphans, broadcast])
def test_no_exception_ends_a_loop(running: Any, failure: Exception) -> None:
    world = Failing(failure)
    with running(world):
        # Each loop has a thread, and its turn ends with the first call: another one is of a second turn.
        eventually(lambda: max(world.calls.values(), default=0) > 1)
