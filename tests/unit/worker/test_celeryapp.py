"""Our changes to the worker of Celery."""

from __future__ import annotations

import logging
from unittest.mock import Mock

import pytest
from pytest_mock import MockerFixture

from celery_docker.worker import celeryapp


def test_an_unrecoverable_error_ends_the_process_at_once_and_not_well(
    mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """Celery would wait for the running jobs, deaf for new ones, and then end with status 0."""
    leave = mocker.patch("os._exit", side_effect=SystemExit)
    with caplog.at_level(logging.CRITICAL), pytest.raises(SystemExit):
        celeryapp.Controller.stop(Mock(spec=celeryapp.Controller), exitcode=1)
    leave.assert_called_once_with(1)
    assert "the next process takes them over" in caplog.text
