"""A job that `run` is attached to, where Redis or its record goes away."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.cli import attached
from celery_docker.cli import main as cli
from celery_docker.cli.screen import Screen
from celery_docker.cli.waitlines import WaitLines
from celery_docker.client.client import Client
from celery_docker.client.outages import Outages

AWAY = errors.StoreAway("Redis does not answer")
RECEIPT = {"id": "j1", "state": "succeeded", "exit_code": 0}


class Redis:
    """The questions about one job; each is answered with the next of these."""

    def __init__(self, *answers: Mapping[str, Any] | Exception | None) -> None:
        self.answers = list(answers)
        self.events: list[str] = []

    @property
    def queries(self) -> Redis:
        return self

    jobs = waits = queries

    def receipt(self, _: str) -> Mapping[str, Any] | None:
        self.events.append("asked")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def attempts(self, _: object) -> dict[str, Any]:
        return {}

    def rows(self, _: object) -> list[Any]:
        return []

    def of(self, _: object) -> dict[str, Any]:
        return {}

    def row(self, _: str) -> object:
        raise errors.NoSuchJob("no job has the id 'j1'")


def of(redis: Redis) -> attached.Attached:
    """Return a job whose output is not to be shown."""
    screen = Screen(io.StringIO(), io.StringIO())
    cancellation = attached.Cancellation(screen)
    cancellation.job_id = "j1"
    lines: Any = WaitLines(redis, "j1", screen.note, "")  # type: ignore[arg-type]
    return attached.Attached(screen, redis, cancellation, None, lines, repeats=False)  # type: ignore[arg-type]


def test_a_redis_that_is_away_is_asked_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses at once, too: else each `run` would ask as often as a processor can."""
    redis = Redis(AWAY, AWAY, RECEIPT)
    monkeypatch.setattr("time.sleep", lambda _: redis.events.append("slept"))
    assert of(redis).follow(Outages(has_answered=True)) == RECEIPT
    assert redis.events == ["asked", "slept", "asked", "slept", "asked"]


def test_a_job_whose_record_is_gone_is_not_waited_for() -> None:
    with pytest.raises(errors.NoSuchJob):
        of(Redis(None)).follow(Outages(has_answered=True))


@pytest.mark.parametrize(
    ("end", "status", "says"),
    [
        (KeyboardInterrupt(), 130, "the job is not cancelled; cancel it with: celery-docker cancel j1"),
        (AWAY, 125, "the job may be queued all the same; cancel it with: celery-docker cancel j1"),
    ],
)
def test_a_job_that_may_be_queued_is_named_where_nothing_is_heard_of_that(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    end: BaseException,
    status: int,
    says: str,
) -> None:
    """Redis has the request, and its answer is lost, or takes too long for whoever waits."""

    def submit(_: Client, spec: object, *, before: Callable[[str], object], **_options: object) -> None:
        before("j1")
        raise end

    monkeypatch.setattr(Client, "submit", submit)
    environ = {"HOME": str(tmp_path), "CELERY_DOCKER_BROKER_URL": "redis://127.0.0.1:1/0"}
    assert cli.main(["run", "--json", "busybox", "true"], environ) == status
    assert says in capsys.readouterr().err.splitlines()
