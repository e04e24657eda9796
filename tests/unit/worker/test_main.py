"""The moment from which a worker hears by itself what it is told, instead of Celery."""

from __future__ import annotations

from typing import Any

import pytest
from celery.worker import state
from pytest_mock import MockerFixture

from celery_docker.core import settings
from celery_docker.worker import main, options, shutdown


@pytest.mark.parametrize("came_before", [True, False])
def test_a_stop_that_comes_before_the_worker_is_ready_is_a_stop_like_any_other(
    mocker: MockerFixture, came_before: bool
) -> None:
    """Celery would wait without limit for the jobs that this process has just taken over, and hear nothing more."""
    mocker.patch("signal.signal")
    signals = mocker.patch.object(main, "signals")
    leaving = mocker.patch.object(shutdown, "Shutdown").return_value
    mocker.patch.object(state, "should_stop", None)

    def consume(*_: Any) -> int:
        if came_before:
            state.should_stop = 0  # Celery's own handler
        signals.worker_ready.connect.call_args[0][0](mocker.MagicMock())
        assert state.should_stop is None
        return 0

    mocker.patch.object(options, "run", side_effect=consume)
    assert main._consume(mocker.MagicMock(), settings.parse({}), slots=1) == 0
    begun = [call.args for call in leaving.begin.call_args_list]
    assert begun == ([(shutdown.Departure.STOP,)] if came_before else [])
