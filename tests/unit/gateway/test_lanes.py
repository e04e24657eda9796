"""Users are served in turn, each in his order."""

from __future__ import annotations

import pytest

from celery_docker.gateway.lanes import Lanes


def lanes(words: list[str]) -> Lanes[str]:
    waiting: Lanes[str] = Lanes(lambda word: word[0])
    for word in words:
        waiting.append(word)
    return waiting


def test_nobody_waits_for_more_than_one_of_anothers() -> None:
    waiting = lanes([*(f"a{number}" for number in range(100)), "b0", "c0", "b1"])
    assert [waiting.popleft() for _ in range(7)] == ["a0", "b0", "c0", "a1", "b1", "a2", "a3"]
    waiting.append("c1")
    assert [waiting.popleft() for _ in range(3)] == ["a4", "c1", "a5"]
    assert len(waiting) == 94


def test_an_empty_one() -> None:
    waiting = lanes(["a"])
    assert waiting
    assert waiting.popleft() == "a"
    assert not waiting
    with pytest.raises(IndexError):
        waiting.popleft()
