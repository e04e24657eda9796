"""A worker that leaves: not before every message that it asked for is claimed, or back in its queue."""

from __future__ import annotations

import os
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.background.intake import Intake
from celery_docker.worker.shutdown import Departure, Shutdown


class Channel:
    """A channel whose message arrives when it has been asked for it three times."""

    def __init__(self, said: SimpleQueue[str]) -> None:
        self._said = said
        self._asked = 0

    @property
    def is_idle(self) -> bool:
        self._asked += 1
        if self._asked < 3:
            return False
        self._said.put("the message is put back")
        return True


@pytest.fixture
def said(mocker: MockerFixture) -> SimpleQueue[str]:
    """What happens, in its order."""
    happened: SimpleQueue[str] = SimpleQueue()
    mocker.patch.object(os, "_exit", side_effect=lambda status: happened.put(f"exit {status}"))
    mocker.patch("time.sleep")
    return happened


def leave(mocker: MockerFixture, task_consumer: Any) -> Intake:
    runner, intake = mocker.Mock(), Intake()
    runner.jobs.return_value = []
    runner.slot_table.is_claiming = False
    consumer = mocker.Mock(task_consumer=task_consumer)
    shutdown = Shutdown(runner, mocker.Mock(), consumer, intake, lambda: 60, mocker.Mock())
    shutdown.begin(Departure.HAND_OVER)
    return intake


def test_it_waits_for_a_message_on_its_way(mocker: MockerFixture, said: SimpleQueue[str]) -> None:
    intake = leave(mocker, SimpleNamespace(channel=Channel(said)))
    assert [said.get(timeout=20), said.get(timeout=20)] == ["the message is put back", "exit 0"]
    assert not intake.is_open


def test_it_waits_for_nothing_without_a_connection(mocker: MockerFixture, said: SimpleQueue[str]) -> None:
    """What a lost connection had on its way comes back with the next one."""
    leave(mocker, None)
    assert said.get(timeout=20) == "exit 0"
