"""The readers that a job waits for, and the time it waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from celery_docker.core.readers import OUTAGE_S, SILENCE_S, Readers


def heard(*signs: dict[str, str], every_s: float = 0.5) -> tuple[Readers, float]:
    """Return the readers after these answers of Redis, and the time of the last."""
    readers, now_s = Readers(), 100.0
    for sign in signs:
        now_s += every_s
        readers.hear(sign, now_s)
    return readers, now_s


SILENT = {"a": "0-0 1"}
LIVELY = [{"a": f"0-0 {number}"} for number in range(100)]
FULL_SILENCE = [SILENT] * (int(SILENCE_S / 0.5) + 1)


@pytest.mark.parametrize(
    ("answers", "waits", "gone"),
    [
        ([], True, []),
        ([{}], False, []),
        ([SILENT], True, []),
        (FULL_SILENCE[:-1], True, []),
        (FULL_SILENCE, False, ["a"]),
        (LIVELY, True, []),
        ([*FULL_SILENCE, {"a": "0-0 2"}], True, []),
        ([*FULL_SILENCE, {}], False, []),
        ([{**SILENT, "b": f"0-0 {number}"} for number in range(100)], True, ["a"]),
    ],
    ids=[
        *("nothing known", "nobody", "a new one", "silent, not for long", "silent for too long", "lively"),
        *("back again", "forgotten", "one of two is gone"),
    ],
)
def test_the_readers_that_are_waited_for(answers: list[dict[str, str]], waits: bool, gone: list[str]) -> None:
    readers, now_s = heard(*answers)
    assert (readers.are_waited_for(now_s), readers.gone) == (waits, gone)


def test_time_in_which_redis_did_not_answer_is_no_silence() -> None:
    """A reader cannot give a sign of life while Redis hangs."""
    readers, now_s = heard(SILENT)
    readers.hear(SILENT, now_s + 30)
    assert readers.are_waited_for(now_s + 30)


def test_a_redis_that_is_away_is_waited_for_as_well_but_not_for_ever() -> None:
    readers, now_s = heard(SILENT)
    readers.miss(now_s)
    readers.miss(now_s + OUTAGE_S - 1)
    assert readers.are_waited_for(now_s + OUTAGE_S - 1)
    assert not readers.are_waited_for(now_s + OUTAGE_S)
    readers.hear(SILENT, now_s + OUTAGE_S + 1)
    assert readers.are_waited_for(now_s + OUTAGE_S + 1)


class Torn(dict[str, float]):
    """The silence of readers of whom another thread hears as soon as it has been looked at."""

    def __init__(self, silent_s: dict[str, float], meanwhile: Callable[[], object]) -> None:
        super().__init__(silent_s)
        self._meanwhile = meanwhile

    def items(self) -> Any:
        rows = list(super().items())
        self._meanwhile()
        return rows

    def values(self) -> Any:
        return [silent_s for _, silent_s in self.items()]


def test_a_reader_is_waited_for_while_another_one_is_given_up() -> None:
    """The slot asks, and the loop hears from Redis that the one who is gone is forgotten."""
    readers, now_s = heard(*({**SILENT, "b": f"0-0 {number}"} for number in range(100)))
    readers._silent_s = Torn(readers._silent_s, lambda: readers.hear({"b": "0-0 100"}, now_s))
    assert readers.are_waited_for(now_s)
