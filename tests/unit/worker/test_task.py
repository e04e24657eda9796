"""The seam to Celery, as far as it can be seen without a broker."""

from __future__ import annotations

import base64
import gc
import json
import weakref
from collections.abc import Iterator
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals, signature
from celery.app.trace import build_tracer
from celery.backends.cache import CacheBackend
from celery.worker import state
from pytest_mock import MockerFixture
from redis import ResponseError

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core import message
from celery_docker.worker import transport
from celery_docker.worker.slots import Slots
from celery_docker.worker.task import JobRequest, RunDocker, free_frames
from tests.unit.run.workbench import FAILING, make_bench


def test_a_slot_that_is_free_again_wakes_the_loop_also_after_a_reconnect(mocker: MockerFixture) -> None:
    """Each reconnect registers its loop anew; a slot that waits for the loop's next tick idles up to ten seconds."""
    slots = Slots(1)
    before, after = mocker.Mock(), mocker.Mock()
    slots.register_with_event_loop(before)
    slots.register_with_event_loop(after)
    result = slots.on_apply(lambda: None, (), {}, callback=lambda _: None)
    wait([result.f], 10)
    slots.executor.shutdown()
    after.call_soon.assert_called_once()
    before.call_soon.assert_not_called()


def test_a_slot_that_broke_is_free_again(mocker: MockerFixture, caplog: pytest.LogCaptureFixture) -> None:
    """Celery's thread pool would keep the exception to itself, and the request in its slot."""
    slots, loop = Slots(1), mocker.Mock()
    slots.register_with_event_loop(loop)
    request = mocker.Mock(id="j1")
    ready = mocker.patch("celery.worker.state.task_ready")

    def breaks() -> None:
        raise ValueError("a mistake")

    accepted = mocker.Mock(__self__=request)
    result = slots.on_apply(breaks, (), {}, callback=lambda _: None, accept_callback=accepted)
    wait([result.f], 10)
    slots.executor.shutdown()
    ready.assert_called_once_with(request)
    request.task.let_go.assert_called_once_with(request.request_dict)
    loop.call_soon.assert_called_once()
    assert "its slot broke: ValueError('a mistake')" in caplog.text


def taken(app: Celery, kwargs: dict[str, Any], **embedded: Any) -> JobRequest:
    """Return the request of a job's message as it comes from Redis."""
    envelope = message.task_message("j1", kwargs, queue="celery", tag="t1", origin="1@here")
    args, kwargs, embed = json.loads(base64.b64decode(envelope["body"]))
    body = json.dumps([args, kwargs, {**embed, **embedded}]).encode()
    channel = transport.Channel.__new__(transport.Channel)
    return JobRequest(transport.message_of(channel, {**envelope, "body": base64.b64encode(body).decode()}), app=app)


def bring_through_a_slot(request: JobRequest, mocker: MockerFixture) -> None:
    """Carry a request out as Celery does in its worker."""
    app, slots = request.app, Slots(1)
    request.task.__trace__ = build_tracer(request.task.name, request.task, app=app)
    mocker.patch.object(app, "use_fast_trace_task", new=True)
    mocker.patch("celery.app.trace._localized", new=[app.tasks, {"application/json"}, "here"])
    result = request.execute_using_pool(slots)
    wait([result.f], 10)
    slots.executor.shutdown()


@pytest.mark.filterwarnings("ignore:Exception raised outside body")
def test_a_job_whose_end_celery_broke_off_is_in_no_slot(tmp_path: Path, mocker: MockerFixture) -> None:
    """Redis is restarted as a chord hears of its part. Celery tries once more, and then leaves out what follows."""
    bench = make_bench(tmp_path.resolve(), FAILING)
    app = Celery(set_as_current=False, backend="cache+memory://")
    app.register_task(RunDocker(bench.runner, Intake()))
    told = mocker.patch.object(CacheBackend, "on_chord_part_return", side_effect=[ConnectionError("gone"), None])
    document = {"image": "busybox", "retries": 0}
    follows = signature("tasks.run_docker", app=app, immutable=True)
    bring_through_a_slot(taken(app, document, chord=follows), mocker)
    assert told.call_count == 2
    assert bench.records.record("j1")["state"] == "failed"
    assert bench.runner.jobs() == []
    assert [envelope["headers"]["id"] for envelope in bench.runner.left_behind()] == ["j1"]


def test_a_job_of_which_redis_could_not_be_told_stays_this_hosts(tmp_path: Path, mocker: MockerFixture) -> None:
    """Its container is the evidence of how it ended, and the record does not say that it has."""
    bench = make_bench(tmp_path.resolve(), FAILING)
    app = Celery(set_as_current=False, backend="cache+memory://")
    app.register_task(RunDocker(bench.runner, Intake()))
    mocker.patch.object(CacheBackend, "mark_as_retry", side_effect=TypeError("a mistake"))
    bring_through_a_slot(taken(app, {"image": "busybox"}), mocker)
    assert bench.records.record("j1")["state"] == "running"
    assert bench.runner.jobs() == []
    assert [envelope["headers"]["id"] for envelope in bench.runner.left_behind()] == ["j1"]
    assert bench.engine.names() == ["run-j1"]


def test_a_second_delivery_that_cannot_be_acknowledged_leaves_the_first_in_its_slot(
    tmp_path: Path, mocker: MockerFixture
) -> None:
    bench = make_bench(tmp_path.resolve())
    app = Celery(set_as_current=False, backend="cache+memory://")
    app.register_task(RunDocker(bench.runner, Intake()))
    first = bench.claimed()
    second = taken(app, {"image": "busybox"})
    mocker.patch.object(second, "_on_ack", side_effect=ResponseError("READONLY You can't write against a replica."))
    bring_through_a_slot(second, mocker)
    assert bench.runner.jobs() == [first]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only what nothing holds any more is freed."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_failed_job_leaves_no_call_stack_behind(mocker: MockerFixture) -> None:
    """Celery's frame and the exception hold each other, with the message and a copy of the stack: 200 KiB a job."""
    app = Celery(set_as_current=False, backend="cache+memory://")
    gone: list[weakref.ref[errors.JobFailed]] = []

    class Failing(RunDocker):
        def run(self, *_args: Any, **_kwargs: Any) -> dict[str, Any]:
            failure = errors.JobFailed("failed: exit code 3")
            gone.append(weakref.ref(failure))
            raise failure

    task = app.register_task(Failing(mocker.Mock(), Intake()))
    signals.task_postrun.connect(free_frames)
    try:
        build_tracer(task.name, task, app=app, eager=True)("j1", (), {}, {})
    finally:
        signals.task_postrun.disconnect(free_frames)
    assert [reference() for reference in gone] == [None]


@pytest.mark.usefixtures("no_collector")
def test_a_request_that_is_done_with_is_gone(mocker: MockerFixture) -> None:
    """It holds the message, which may be a mebibyte."""
    app = Celery(set_as_current=False)
    app.register_task(RunDocker(mocker.Mock(), Intake()))
    envelope = message.task_message("j1", {"image": "busybox"}, queue="celery", tag="t1", origin="1@here")
    channel = transport.Channel.__new__(transport.Channel)
    request = JobRequest(transport.message_of(channel, envelope), app=app)
    gone = weakref.ref(request)
    request.on_accepted(1, 0.0)
    request.request_dict["send_event"]("task-started")
    state.task_ready(request)
    del request
    assert gone() is None
