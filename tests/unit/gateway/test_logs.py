"""Readers of output: those that wait hold a part of the threads only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

import pytest

from celery_docker import errors
from celery_docker.core.access import Identity, Right, Rights
from celery_docker.core.container import Stream
from celery_docker.core.output import Piece
from celery_docker.gateway.logs import Attached, Logs
from celery_docker.gateway.routing import Refusal, Request

ALICE = Identity("alice", 1000, 1000, ())


class Log:
    """A job that goes on, with one piece of output; remembers how long it was waited for."""

    def __init__(self) -> None:
        self.waits_s: list[float] = []

    def receipt(self, job_id: str) -> None:
        return None

    def entries(self, job_id: str, last_id: str, wait_s: float, most: int) -> tuple[str, list[Piece]]:
        self.waits_s.append(wait_s)
        return "1-0", [Piece(Stream.STDOUT, 1, 0, b"\xff")]


class Queries:
    """Says that every job is alice's."""

    @property
    def jobs(self) -> Queries:
        return self

    def fields(self, job_ids: Sequence[str], *names: str) -> list[list[str]]:
        return [["running", "1000"] for _ in job_ids]


def logs(log: Log, waiting: int) -> Logs:
    return Logs(cast(Any, log), cast(Any, Queries()), threading.Semaphore(waiting))


def asked(**query: Any) -> Request:
    return Request(ALICE, Rights(frozenset({Right.READ})), {"id": "j1"}, query)


def test_a_user_attaches_to_so_many_jobs_at_a_time() -> None:
    now_s = 0.0
    attached = Attached(lambda: now_s, most=3)
    for _ in range(2):
        for number in range(3):
            attached.add(1000, f"j{number}", "r")
    with pytest.raises(Refusal, match="you read the output of 3 jobs at a time already; wait a minute") as caught:
        attached.add(1000, "j3", "r")
    assert caught.value.status == 429
    attached.add(1001, "j3", "r")
    now_s = 59.0
    attached.add(1000, "j0", "r")
    now_s = 61.0
    for number in (3, 4):
        attached.add(1000, f"j{number}", "r")
    with pytest.raises(Refusal):
        attached.add(1000, "j5", "r")


def test_one_reader_too_many_is_answered_at_once() -> None:
    log = Log()
    handlers = logs(log, 1)
    for _ in range(2):
        assert handlers.read(asked(wait=2.0)).body["last"] == "1-0"
    assert log.waits_s == [2.0, 2.0]
    with handlers.waiting:
        body = handlers.read(asked(wait=2.0)).body
    assert log.waits_s == [2.0, 2.0, 0]
    piece = {"stream": "stdout", "attempt": 1, "offset": 0, "base64": "/w=="}
    assert body == {"pieces": [piece], "last": "1-0", "has_ended": False}


def test_who_does_not_wait_takes_no_place() -> None:
    log = Log()
    logs(log, 0).read(asked())
    assert log.waits_s == [0]


def test_a_place_that_is_none_is_named() -> None:
    with pytest.raises(errors.SpecError, match=r"^after: 'x' must be the value of `last`"):
        logs(Log(), 1).read(asked(after="x"))
