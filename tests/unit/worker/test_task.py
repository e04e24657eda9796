"""The seam to Celery, as far as it can be seen without a broker."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from concurrent.futures import wait
from typing import Any

import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.worker import state
from pytest_mock import MockerFixture

from celery_docker import errors
from celery_docker.background.intake import Intake
from celery_docker.core import message
from celery_docker.worker import transport
from celery_docker.worker.slots import Slots
from celery_docker.worker.task import JobRequest, RunDocker, free_frames


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
    request.task.runner.abandon.assert_called_once_with("j1")
    loop.call_soon.assert_called_once()
    assert "its slot broke: ValueError('a mistake')" in caplog.text


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
