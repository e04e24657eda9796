"""The seam to Celery, as far as it can be seen without a broker."""

from __future__ import annotations

from concurrent.futures import wait

import pytest
from pytest_mock import MockerFixture

from celery_docker.worker.slots import Slots


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
    request.task.runner.forget.assert_called_once_with("j1")
    loop.call_soon.assert_called_once()
    assert "its slot broke: ValueError('a mistake')" in caplog.text
