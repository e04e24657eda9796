"""The policy and what began before it: a container that runs is left alone, and every new start is judged."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker.core.container import Status
from celery_docker.core.lifecycle import State
from celery_docker.core.policy import Policy
from celery_docker.run.runner import LetGo
from tests.unit.run.workbench import FAILING, LATE, NAME, OK, Background, Bench, container_status, make_bench
from tests.waiting import eventually

CLOSED = Policy(images=("other",))
REASON = "rejected: image: 'busybox' is not allowed on this host; rule images = ['other']"


def close(bench: Bench) -> None:
    """Read the policy anew, as a reload does; it allows the job no more."""
    bench.runner.attempts.policy = Policy(images=CLOSED.images, mounts=bench.runner.attempts.policy.mounts)


def test_a_running_container_is_adopted_whatever_the_policy_says_now(before: Bench) -> None:
    before.container()
    close(before)
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas)
    assert container_status(before) is Status.RUNNING
    before.engine.release(NAME)
    assert running.answer().state is State.SUCCEEDED
    assert "stop" not in before.engine.calls


def test_a_container_that_has_ended_is_reported(before: Bench) -> None:
    before.container()
    before.engine.release(NAME)
    close(before)
    assert before.ended().state is State.SUCCEEDED


@pytest.mark.parametrize("left", ["nothing", "a container that never started"])
def test_what_an_earlier_process_has_not_started_is_judged(before: Bench, left: str) -> None:
    if left != "nothing":
        before.container(started=False)
    close(before)
    end = before.ended()
    assert end.sentence.startswith(REASON)
    assert "start" not in before.engine.calls
    assert before.nothing_is_left()


def test_the_container_of_an_earlier_attempt_does_not_let_the_next_one_pass(before: Bench) -> None:
    before.container(attempt="0")
    before.engine.calls.clear()
    close(before)
    assert before.ended().sentence.startswith(REASON)
    assert "start" not in before.engine.calls


def test_a_retry_is_judged(tmp_path: Path) -> None:
    bench = make_bench(tmp_path.resolve(), FAILING)
    assert isinstance(bench.run(retries=1), LetGo)
    bench.engine.images["busybox:latest"] = OK
    assert bench.records.publish_due(LATE) == 1
    close(bench)
    assert bench.retried(retries=1).sentence.startswith(REASON)
    assert bench.engine.calls.count("start") == 1
