"""When a batch counts as over that is smaller than it was to be."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import pytest

from celery_docker.cli import watching
from celery_docker.client.outages import Outages
from celery_docker.core.receipt import Receipt

SUCCEEDED = Receipt("j1", state="succeeded", exit_code=0)


@dataclass
class Row:
    """What Redis says of a batch of ten jobs, of which so many are there and have ended."""

    there: int
    size: int = 10

    @property
    def counts(self) -> dict[str, int]:
        return {"succeeded": self.there}


class Redis:
    """A batch that grows: at each question it has so many jobs, and so much time has gone by since the last."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *there: int, step_s: float) -> None:
        self.there, self.now_s, self.step_s = list(there), 100.0, step_s
        monkeypatch.setattr("time.monotonic", lambda: self.now_s)
        monkeypatch.setattr("time.sleep", lambda _: None)

    @property
    def batches(self) -> Redis:
        return self

    def row(self, _: str) -> Row:
        self.now_s += self.step_s
        return Row(self.there.pop(0))


def watched(redis: Any) -> int:
    return watching.until_end(redis, "b1", watching.ProgressDisplay(io.StringIO()), Outages(has_answered=True))


def test_a_batch_that_grows_is_not_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes to submit it: its jobs may end as fast as they come."""
    redis = Redis(monkeypatch, 1, 2, 4, 6, 8, 9, 10, step_s=4)
    assert (watched(redis), redis.there) == (10, [])


def test_a_batch_that_grows_no_more_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    redis = Redis(monkeypatch, 1, 2, 2, 2, 2, 2, 2, 2, step_s=4)
    assert watched(redis) == 10
    assert redis.there, "it was not asked for ever"


@pytest.mark.parametrize(("there", "size", "status"), [(2, 2, 0), (2, 0, 0), (2, 3, 125), (0, 0, 125), (0, 2, 125)])
def test_only_a_whole_batch_has_succeeded(there: int, size: int, status: int) -> None:
    assert watching.batch_exit_status([SUCCEEDED] * there, size) == status
