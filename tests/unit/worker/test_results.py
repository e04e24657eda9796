"""Celery's results where Redis does not take them at once."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery, states
from celery.app.task import Context
from celery.backends.redis import RedisBackend
from pytest_mock import MockerFixture
from redis.exceptions import ConnectionError, InvalidResponse, ResponseError

from celery_docker.worker.results import Results

PASSING = (ConnectionError("refused"), ResponseError("MISCONF"), InvalidResponse("Protocol Error: b'H'"))


@pytest.fixture
def results(mocker: MockerFixture) -> Results:
    app = Celery(set_as_current=False)
    app.conf.update(result_backend_always_retry=True, result_backend_max_retries=5)
    backend = Results(app=app, url="redis://127.0.0.1:1/0")
    mocker.patch.object(backend, "_sleep")
    return backend


@pytest.mark.parametrize("fault", PASSING, ids=repr)
def test_a_result_is_stored_once_redis_takes_it(results: Results, mocker: MockerFixture, fault: Exception) -> None:
    """An answer that is none comes from a proxy or a port of somebody else's, while Redis is being moved."""
    stored: Any = mocker.patch.object(results, "_store_result", side_effect=[fault, None])
    results.store_result("j1", {}, states.STARTED)
    assert stored.call_count == 2


@pytest.mark.parametrize("fault", [PASSING[0], PASSING[2]], ids=repr)
def test_a_chord_hears_of_its_part_once_redis_answers(
    results: Results, mocker: MockerFixture, fault: Exception
) -> None:
    """Otherwise Celery tells it that the part has failed, whatever the result says."""
    mocker.patch.object(results, "_store_result")
    told: Any = mocker.patch.object(RedisBackend, "on_chord_part_return", side_effect=[fault, None])
    results.mark_as_done("j1", {}, Context(id="j1", group="g1", chord={"task": "tasks.run_docker"}))
    assert told.call_count == 2


def test_a_chord_whose_key_holds_something_else_holds_up_nobody(results: Results, mocker: MockerFixture) -> None:
    mocker.patch.object(results, "_store_result")
    broken = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
    mocker.patch.object(RedisBackend, "on_chord_part_return", side_effect=broken)
    with pytest.raises(ResponseError):
        results.mark_as_done("j1", {}, Context(id="j1", group="g1", chord={"task": "tasks.run_docker"}))
