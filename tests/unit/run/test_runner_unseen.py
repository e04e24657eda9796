"""Docker is killed in the instant in which it starts a container, which runs all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core.container import Container
from celery_docker.core.lifecycle import Cause, EndRequest, State
from celery_docker.run.runner import Ended, LetGo
from tests.unit.run.workbench import HOST, JOB, LONG, NAME, Background, Bench, make_bench
from tests.waiting import eventually

UNSEEN = "Docker was killed as it started the container, which ran all the same; nobody knows how it ended"


@pytest.fixture
def killed(tmp_path: Path) -> Bench:
    """A host whose Docker is killed as it starts the first container; the next one says that it was never started."""
    bench = make_bench(tmp_path.resolve(), LONG)
    start = bench.engine.start

    def killed_start(container_id: str) -> None:
        bench.engine.start_unseen(container_id)
        bench.engine.lives += 1
        bench.engine.start = start  # type: ignore[method-assign]
        raise errors.EngineAway

    bench.engine.start = killed_start  # type: ignore[method-assign]
    return bench


def waiting(bench: Bench) -> Background:
    job = bench.claimed(retries=3)
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: bench.engine.calls.count("processes") > 3 or not running.is_alive())
    return running


def test_nothing_runs_beside_it_and_it_is_not_run_again(killed: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """The worker says what to do, since Docker can neither stop nor kill it."""
    running = waiting(killed)
    assert running.is_alive()
    killed.engine.end_unseen(NAME)
    end = running.answer()
    assert (end.state, end.receipt["reason"]) == (State.ERROR, UNSEEN)
    assert killed.engine.calls.count("create") == 1
    assert "to end it: kill 1" in caplog.text
    job = killed.runner.find(JOB)
    assert job is not None
    killed.runner.done(job, settled=True)
    assert killed.nothing_is_left()


def test_one_that_ends_before_docker_is_back_is_not_run_again(killed: Bench) -> None:
    """Its processes were seen while Docker was away."""
    killed.engine.failures["inspect"] = [errors.EngineAway()]
    attempts = killed.runner.attempts
    sleep = attempts.retrying.sleep

    def sleeping(seconds: float) -> None:
        killed.engine.end_unseen(NAME)
        sleep(seconds)

    object.__setattr__(attempts.retrying, "sleep", sleeping)
    end = killed.run()
    assert isinstance(end, Ended)
    assert (end.state, end.receipt["reason"]) == (State.ERROR, UNSEEN)
    assert killed.engine.calls.count("create") == 1


def test_one_that_begins_and_ends_while_the_next_docker_comes_up_is_not_run_again(bench: Bench) -> None:
    """The question for it waits all that time behind the socket that systemd holds for Docker."""
    inspect = bench.engine.inspect

    def late_answer(name: str) -> Container | None:
        bench.engine.inspect = inspect  # type: ignore[method-assign]
        bench.engine.start_unseen(name)
        looks = bench.engine.calls.count("processes")
        eventually(lambda: bench.engine.calls.count("processes") > looks + 1)
        bench.engine.end_unseen(name)
        return inspect(name)

    def lost_answer(container_id: str) -> None:
        bench.engine.inspect = late_answer  # type: ignore[method-assign]
        raise errors.EngineAway

    bench.engine.start = lost_answer  # type: ignore[method-assign]
    end = bench.run(retries=3)
    assert isinstance(end, Ended)
    assert (end.state, end.receipt["reason"]) == (State.ERROR, UNSEEN)
    assert bench.engine.calls.count("create") == 1


def test_a_start_that_was_heard_is_followed_though_its_answer_was_lost(bench: Bench) -> None:
    start = bench.engine.start

    def unanswered_start(container_id: str) -> None:
        start(container_id)
        raise errors.EngineAway

    bench.engine.start = unanswered_start  # type: ignore[method-assign]
    assert bench.ended().state is State.SUCCEEDED
    assert bench.engine.calls.count("create") == 1


def test_a_start_that_nobody_heard_is_tried_again(bench: Bench) -> None:
    """No process was seen: Docker was away before it could start anything."""
    bench.engine.failures["start"] = [errors.EngineAway()]
    end = bench.run(retries=0)
    assert isinstance(end, LetGo)
    assert bench.nothing_is_left()


def test_the_next_worker_waits_for_it(before: Bench) -> None:
    container_id = before.container(started=False)
    before.engine.start_unseen(container_id)
    running = waiting(before)
    before.engine.end_unseen(container_id)
    end = running.answer()
    assert (end.state, end.receipt["reason"]) == (State.ERROR, UNSEEN)
    assert before.engine.names() == [NAME], "no other was made"


def test_the_next_attempt_waits_for_that_of_an_earlier_one(bench: Bench) -> None:
    """Then it takes its place."""
    old_id = bench.container(attempt="7", started=False)
    bench.engine.start_unseen(old_id)
    running = waiting(bench)
    bench.engine.end_unseen(old_id)
    end = running.answer()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != old_id


@pytest.mark.parametrize(
    ("cause", "state"), [(Cause.CANCELLED, State.CANCELLED), (Cause.TIMEOUT, State.TIMED_OUT)], ids=str
)
def test_a_cancel_waits_for_its_end(killed: Bench, cause: Cause, state: State) -> None:
    """Cancelled means that nothing runs any more."""
    running = waiting(killed)
    job = killed.runner.find(JOB)
    assert job is not None
    killed.runner.end(job, EndRequest(cause, "by ann"))
    assert running.is_alive()
    killed.engine.end_unseen(NAME)
    end = running.answer()
    assert (end.state, end.receipt["reason"]) == (state, "by ann")


def test_a_worker_that_is_to_stop_does_not_wait_for_ever(killed: Bench) -> None:
    """Nor does another host run the job beside it."""
    running = waiting(killed)
    job = killed.runner.find(JOB)
    assert job is not None
    killed.runner.end(job, EndRequest(Cause.INTERRUPTED, "the worker was stopped"))
    end = running.answer()
    assert (end.state, end.receipt["reason"]) == (State.ERROR, f"{UNSEEN}: its processes still run")
    assert killed.records.in_hand[HOST] == {JOB}
