"""A large batch is counted once in a while, a small one whenever somebody asks."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker import errors
from celery_docker.gateway import shared
from celery_docker.gateway.shared import LARGE, Shared


class Asked:
    """Counts how often it is asked."""

    def __init__(self, failed: int = 0) -> None:
        self.count = 0
        self.failed = ["j"] * failed

    def __call__(self) -> dict[str, Any]:
        self.count += 1
        return {"number": self.count, "failed": self.failed}


def test_a_small_batch_is_counted_each_time() -> None:
    kept, ask = Shared(), Asked()
    assert [kept.answer("b", LARGE - 1, ask)["number"] for _ in range(3)] == [1, 2, 3]


def test_a_large_one_holds_for_a_while() -> None:
    now_s = 10.0
    kept, ask = Shared(lambda: now_s), Asked()
    assert [kept.answer("b", 100_000, ask)["number"] for _ in range(3)] == [1, 1, 1]
    now_s += 2.9
    assert kept.answer("b", 100_000, ask)["number"] == 1
    assert kept.answer("c", 100_000, ask)["number"] == 2
    now_s += 0.2
    assert kept.answer("b", 100_000, ask)["number"] == 3


def test_one_too_many_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST", 1)
    kept = Shared()

    def ask() -> dict[str, Any]:
        with pytest.raises(errors.Busy, match="many ask about large batches; try again in a moment"):
            kept.answer("c", LARGE, Asked())
        assert kept.answer("d", 1, Asked())["number"] == 1
        return {"failed": []}

    assert kept.answer("b", LARGE, ask) == {"failed": []}


def test_a_large_one_is_looked_at_in_turn_and_counted_anew_once_it_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "_MOST", 1)
    kept, ask = Shared(lambda: 10.0), Asked()
    assert [kept.answer("b", LARGE, ask)["number"] for _ in range(2)] == [1, 1]
    with kept.turn(LARGE), pytest.raises(errors.Busy), kept.turn(LARGE):
        pytest.fail("two at a time")
    with kept.turn(LARGE), kept.turn(LARGE - 1):
        assert kept.answer("b", LARGE, ask)["number"] == 1
    kept.forget("b")
    kept.forget("unknown")
    assert kept.answer("b", LARGE, ask)["number"] == 2


def test_what_was_counted_before_a_change_is_not_kept_after_it() -> None:
    """Somebody has the failed jobs run again while others are told how many these are."""
    kept, ask = Shared(lambda: 10.0), Asked()

    def ask_and_change() -> dict[str, Any]:
        kept.forget("b")
        return ask()

    assert kept.answer("b", LARGE, ask_and_change)["number"] == 1
    assert [kept.answer("b", LARGE, ask)["number"] for _ in range(2)] == [2, 2]


def test_what_is_kept_has_a_bound() -> None:
    kept = Shared(lambda: 0.0)
    for number in range(10):
        kept.answer(f"b{number}", LARGE, Asked(60_000))
    assert list(kept._kept) == ["b7", "b8", "b9"]
