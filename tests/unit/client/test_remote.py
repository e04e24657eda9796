"""A batch in parts that a gateway takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker.client.httpsocket import HttpSocket
from celery_docker.client.remote import Remote
from celery_docker.core import strictjson
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row, Source
from celery_docker.gateway import bodies
from tests.unit.client.test_understood import JOB


@pytest.mark.parametrize(
    ("answer", "took_s", "slept_s"),
    [
        ({"last": "1-0", "has_ended": False}, 0.1, [0.4]),
        ({"last": "1-0", "has_ended": False}, 0.6, [0.0]),
        ({"last": "1-0", "has_ended": True}, 0.1, []),
        ({"last": "2-0", "has_ended": False}, 0.1, []),
    ],
)
def test_a_gateway_that_lets_nobody_wait_is_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], took_s: float, slept_s: list[float]
) -> None:
    now_s = 0.0
    slept: list[float] = []

    def get(_: HttpSocket, *_place: str, **_query: object) -> Any:
        nonlocal now_s
        now_s += took_s
        return {**answer, "pieces": []}

    monkeypatch.setattr(HttpSocket, "get", get)
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    monkeypatch.setattr("time.sleep", slept.append)
    Remote("http+unix:///none", "").log.entries("j1", "1-0", 0.5, 32)
    assert slept == pytest.approx(slept_s)


def test_a_job_that_moves_on_meanwhile_is_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a host takes between two questions, and one that is to run again."""
    moving = {"j1": iter(("queued", "running", "running")), "j2": iter(("running", "queued", "queued"))}

    def get(_: HttpSocket, *_place: str, state: str, **_query: object) -> Any:
        now = {job_id: next(states) for job_id, states in moving.items()}
        jobs = [{**JOB, "id": job_id, "state": is_in} for job_id, is_in in now.items() if is_in in state.split(",")]
        return {"jobs": jobs, "next": None}

    monkeypatch.setattr(HttpSocket, "get", get)
    rows = Remote("http+unix:///none", "").queries.jobs.each_live()
    assert sorted(row.job_id for row in rows) == ["j1", "j2"]


@pytest.mark.parametrize(
    ("kwargs", "count"),
    [({"command": ["a"] * 1_000}, 1_000), ({"command": ["b" * 100_000]}, 100), ({"command": ["c"] * 250_000}, 2)],
)
def test_each_part_is_one_that_a_request_may_have(
    monkeypatch: pytest.MonkeyPatch, kwargs: dict[str, Any], count: int
) -> None:
    parts: list[Any] = []
    monkeypatch.setattr(HttpSocket, "send", lambda _self, *_, body: parts.append(body))
    jobs = [Expanded(Row(number, Source.ARRAY, {}), {"image": "a", **kwargs}, {}) for number in range(count)]
    Remote("http+unix:///none", "").submit_batch(jobs, None, None, {})
    assert [index for part in parts for index in part["batch"]["indexes"]] == list(range(count))
    assert 1 < len(parts) <= count
    for part in parts:
        text = json.dumps(part)
        assert len(text) < 5 * 2**20
        strictjson.parse(text, most=bodies.MOST_VALUES)
