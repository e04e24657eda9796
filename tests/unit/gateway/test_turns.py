"""Large requests one after the other, and small ones beside them."""

from __future__ import annotations

import contextlib

import pytest

from celery_docker import errors
from celery_docker.gateway import turns
from celery_docker.gateway.turns import LARGE_BYTES, Turns


def test_one_too_many_is_answered_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_MOST", 1)
    waiting = Turns()
    with waiting.turn(LARGE_BYTES + 1):
        with pytest.raises(errors.Busy, match="too many large requests are under way"), waiting.turn(2**23):
            raise AssertionError
        with waiting.turn(LARGE_BYTES), waiting.turn(0):
            pass


def test_one_that_fails_leaves_its_place() -> None:
    waiting = Turns()
    for _ in range(20):
        with contextlib.suppress(ZeroDivisionError), waiting.turn(LARGE_BYTES + 1):
            _ = 1 / 0
