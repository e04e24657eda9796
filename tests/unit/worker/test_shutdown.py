"""A worker that leaves: not before every message that it asked for is claimed, or back in its queue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.background.intake import Intake
from celery_docker.worker.shutdown import Departure, Shutdown
from celery_docker.worker.task import revoke_command


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


def leave(
    mocker: MockerFixture, task_consumer: Any, *broadcasts: Any, departure: Departure = Departure.HAND_OVER
) -> Intake:
    runner, intake = mocker.Mock(), Intake()
    runner.jobs.return_value = []
    runner.slot_table.is_claiming = False
    consumer = mocker.Mock(task_consumer=task_consumer)
    consumer.connection.transport.channels = broadcasts
    consumer.hub.call_soon = lambda look: look()
    shutdown = Shutdown(runner, mocker.Mock(), consumer, intake, lambda: 60, mocker.Mock())
    shutdown.begin(departure)
    return intake


def test_it_waits_for_a_message_on_its_way(mocker: MockerFixture, said: SimpleQueue[str]) -> None:
    intake = leave(mocker, SimpleNamespace(channel=Channel(said)))
    assert [said.get(timeout=20), said.get(timeout=20)] == ["the message is put back", "exit 0"]
    assert not intake.is_open


def test_it_waits_for_nothing_without_a_connection(mocker: MockerFixture, said: SimpleQueue[str]) -> None:
    """What a lost connection had on its way comes back with the next one."""
    leave(mocker, None)
    assert said.get(timeout=20) == "exit 0"


class Broadcasts:
    """A channel at which a revoke has come, which is read at the third look and then takes its time to be stored."""

    def __init__(self, said: SimpleQueue[str]) -> None:
        self._said = said
        self._looks = 0

    @property
    def has_heard_all(self) -> bool:
        self._looks += 1
        if self._looks == 3:
            revoke_command(self._cancel)(None, task_id="j1")
        return self._looks > 2

    def _cancel(self, job_ids: Sequence[str], _reason: str) -> None:
        Event().wait(0.3)
        self._said.put(f"{job_ids[0]} is cancelled")


@pytest.mark.parametrize("departure", Departure)
def test_a_revoke_that_has_come_is_stored_first(
    mocker: MockerFixture, said: SimpleQueue[str], departure: Departure
) -> None:
    channel = mocker.Mock(is_idle=True)
    leave(mocker, SimpleNamespace(channel=channel), Broadcasts(said), departure=departure)
    assert [said.get(timeout=20), said.get(timeout=20)] == ["j1 is cancelled", "exit 0"]
