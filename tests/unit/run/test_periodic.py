"""An action that is repeated: the pauses, the end, and what no exception can do."""

from __future__ import annotations

import threading

import pytest

from celery_docker import errors
from celery_docker.run.periodic import Periodic
from tests.waiting import eventually

NEVER_S = 3600.0


class Turns:
    """Counts its turns; raises what `failures` has for the next ones."""

    def __init__(self, *failures: Exception) -> None:
        self.count = 0
        self.failures = list(failures)

    def __call__(self) -> None:
        self.count += 1
        if self.failures:
            raise self.failures.pop(0)


@pytest.mark.parametrize("failure", [errors.StoreAway("gone"), RuntimeError("a bug"), KeyError("x"), OSError(5, "I/O")])
def test_the_loop_goes_on_after_an_exception_of_any_kind(failure: Exception) -> None:
    turns = Turns(failure)
    loop = Periodic("test", 0.001, turns)
    loop.start()
    eventually(lambda: turns.count > 2)
    loop.stop(wait_s=10)


def test_an_exception_that_nobody_expects_is_in_the_log_and_an_outage_is_not(caplog: pytest.LogCaptureFixture) -> None:
    turns = Turns(errors.StoreAway("gone"), RuntimeError("a bug"))
    loop = Periodic("test", 0.001, turns)
    with caplog.at_level("INFO", logger="celery_docker"):
        loop.start()
        eventually(lambda: turns.count > 2)
        loop.stop(wait_s=10)
    assert caplog.messages == ["test: its turn failed and is repeated: RuntimeError('a bug')"]


def test_a_wake_ends_the_pause() -> None:
    turns = Turns()
    loop = Periodic("test", NEVER_S, turns)
    loop.start()
    eventually(lambda: turns.count == 1)
    loop.wake()
    eventually(lambda: turns.count == 2)
    loop.stop(wait_s=10)


def test_the_pause_may_be_another_each_time() -> None:
    turns, pauses = Turns(), [0.001, 0.001, NEVER_S]
    loop = Periodic("test", lambda: pauses.pop(0), turns)
    loop.start()
    eventually(lambda: turns.count == 3 and not pauses)
    loop.stop(wait_s=10)


def test_a_stop_in_the_first_pause_leaves_no_turn_and_no_thread() -> None:
    before, turns = threading.active_count(), Turns()
    loop = Periodic("test", NEVER_S, turns, first_s=NEVER_S)
    loop.start()
    loop.stop(wait_s=10)
    assert (turns.count, threading.active_count()) == (0, before)


def test_an_action_may_stop_its_own_loop() -> None:
    before = threading.active_count()
    loop = Periodic("test", 0.001, lambda: loop.stop())
    loop.start()
    eventually(lambda: threading.active_count() == before)


def test_a_loop_that_never_began_can_be_stopped() -> None:
    Periodic("test", NEVER_S, Turns()).stop(wait_s=10)
