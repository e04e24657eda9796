"""Waiting for a Redis that goes away: told once, and only where it has answered before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from celery_docker import errors
from celery_docker.client import outages

AWAY = errors.StoreAway("Redis does not answer")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again without a pause."""
    monkeypatch.setattr(outages, "_PAUSE_S", 0)


class Redis:
    """Answers what it is told to, in this order."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)

    def ask(self) -> str:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_each_outage_is_told_once() -> None:
    notices: list[Exception] = []
    waiting = outages.Outages(notices.append)
    redis = Redis("one", AWAY, AWAY, "two", AWAY, "three")
    assert [waiting.answer(redis.ask) for _ in range(3)] == ["one", "two", "three"]
    assert notices == [AWAY, AWAY]


def test_a_redis_that_has_never_answered_is_told_at_once() -> None:
    with pytest.raises(errors.StoreAway):
        outages.Outages().answer(Redis(AWAY, "one").ask)
    assert outages.Outages(has_answered=True).answer(Redis(AWAY, "one").ask) == "one"


@pytest.mark.parametrize("mistake", [errors.StoreRefused("no"), errors.NoSuchJob("no"), KeyboardInterrupt()])
def test_nothing_else_is_waited_for(mistake: BaseException) -> None:
    def ask() -> None:
        raise mistake

    with pytest.raises(type(mistake)):
        outages.Outages(has_answered=True).answer(ask)


def test_what_comes_in_pieces_goes_on_where_it_was() -> None:
    replies: list[int | Exception] = [1, 2, AWAY, 3]

    def pieces() -> Iterator[int]:
        while replies:
            piece = replies.pop(0)
            if isinstance(piece, Exception):
                raise piece
            yield piece

    assert list(outages.Outages(has_answered=True).each(pieces)) == [1, 2, 3]
