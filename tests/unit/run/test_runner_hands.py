"""An administrator's hand on the container of a job: restarted, renamed, removed, stopped, killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker.core.container import LABEL_JOB, Frame, Status, Stream
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import Cause, EndRequest, State
from celery_docker.run.job import Job
from celery_docker.run.runner import Ended, LetGo
from tests.fakes.engine import Script, says
from tests.unit.run.workbench import HOST, JOB, LONG, NAME, Background, Bench, container_status, make_bench
from tests.waiting import eventually

REMOVED = "its container was removed by somebody else, so its end is unknown"
AGAIN = "its container was started again by somebody else"


@pytest.fixture
def long(tmp_path: Path) -> Bench:
    """A host whose containers run until they are released."""
    return make_bench(tmp_path.resolve(), LONG)


def following(bench: Bench, **kwargs: Any) -> tuple[Job, Background]:
    """Run a job until its container runs and is followed."""
    job = bench.claimed(**kwargs)
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: "ended" in bench.engine.calls or "replay" in bench.engine.calls or container_status(bench))
    eventually(lambda: bench.log.exists() and bench.log.read_text() == "hello\nwarning\n")
    return job, running


def announced(before: Bench) -> str:
    """Make the container that an earlier worker had started and written into the record; return its id."""
    container_id = before.container()
    before.records.update(Holding(JOB, HOST, 1), {"state": "running", "container_id": container_id})
    return container_id


def finished(bench: Bench, job: Job, running: Background) -> Ended:
    end = running.answer()
    assert isinstance(end, Ended), end
    bench.runner.done(job, settled=True)
    assert bench.nothing_is_left()
    return end


# Restarted


@pytest.mark.parametrize(
    ("exit_code", "state", "reason"),
    [(0, State.SUCCEEDED, AGAIN), (3, State.FAILED, f"exit code 3; {AGAIN}")],
)
def test_a_restarted_container_is_followed_to_its_last_end(
    long: Bench, exit_code: int, state: State, reason: str
) -> None:
    """It is not run beside, its log has what each run has printed, and the receipt says who started it again."""
    job, running = following(long, retries=0)
    long.engine.restart(NAME)
    long.engine.say(NAME, Frame(Stream.STDOUT, b"once more\n"))
    long.engine.release(NAME, exit_code)
    end = finished(long, job, running)
    assert (end.state, end.receipt["reason"], end.receipt["exit_code"]) == (state, reason, exit_code)
    assert long.log.read_text() == "hello\nwarning\nonce more\n"
    assert long.engine.calls.count("create") == 1


def test_a_container_that_is_started_a_moment_after_its_stop_is_followed(long: Bench) -> None:
    """`docker restart` is a stop and a start, and a worker may look between them."""
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            long.engine.start_again(NAME)

    attempts = long.runner.attempts
    attempts.retrying = replace(attempts.retrying, sleep=sleep)
    job, running = following(long, retries=0)
    long.engine.tell(NAME)
    long.engine.release(NAME, 143)
    eventually(lambda: len(looks) == 3)
    long.engine.say(NAME, Frame(Stream.STDOUT, b"once more\n"))
    long.engine.release(NAME, 0)
    end = finished(long, job, running)
    assert (end.state, end.receipt["reason"]) == (State.SUCCEEDED, AGAIN)
    assert long.log.read_text() == "hello\nwarning\nonce more\n"


def test_a_container_that_docker_is_told_to_restart_ends_with_its_first_end(long: Bench) -> None:
    """`docker update --restart=always`: the job would run over and over."""
    job, running = following(long, retries=0)
    long.engine.set_restart_policy(NAME)
    long.engine.close_output(NAME)
    eventually(lambda: "ended" in long.engine.calls)
    long.engine.release(NAME, 3)
    end = finished(long, job, running)
    assert (end.state, end.receipt["reason"]) == (State.FAILED, f"exit code 3; {AGAIN}")


def test_a_restart_without_a_worker_is_no_order_to_end(before: Bench) -> None:
    """The end after it is the container's own."""
    container_id = before.container()
    before.engine.restart(container_id)
    job = before.claimed(retries=0)
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas)
    before.engine.release(NAME, 3)
    end = finished(before, job, running)
    assert (end.state, end.receipt["reason"]) == (State.FAILED, "exit code 3")


# Stopped, killed


@pytest.mark.parametrize("exit_code", [137, 143, 3])
def test_a_container_that_somebody_stopped_has_failed(long: Bench, exit_code: int) -> None:
    """Nobody starts it again: its end is a failure like any other, and the job has its retries."""
    _, running = following(long, retries=1)
    long.engine.tell(NAME)
    long.engine.release(NAME, exit_code)
    sentence = running.answer().sentence
    assert sentence.startswith(f"attempt 1: exit code {exit_code}")
    assert long.engine.names() == []


# Renamed


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_renamed_container_is_adopted_and_removed_at_the_end(before: Bench, ended: bool) -> None:
    """The record has its id: the job does not run twice."""
    container_id = announced(before)
    before.engine.rename(NAME, "x")
    if ended:
        before.engine.release("x")
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas)
    if not ended:
        before.engine.release("x")
    end = finished(before, job, running)
    assert (end.state, end.receipt["container_id"]) == (State.SUCCEEDED, container_id)


def test_two_containers_that_swapped_their_names(before: Bench) -> None:
    """The name says nothing: each is followed by its id."""
    mine = announced(before)
    before.engine.rename(NAME, "x")
    theirs = before.container(job="j2")
    before.engine.release("x")
    assert before.ended().receipt["container_id"] == mine
    assert [row.container_id for row in before.engine.containers({})] == [theirs]


def test_a_renamed_container_of_which_the_record_knows_nothing_is_found_by_its_labels(before: Bench) -> None:
    """The worker died between making it and writing its id."""
    container_id = before.container()
    before.engine.rename(NAME, "x")
    before.engine.release("x", 0)
    end = before.ended()
    assert (end.state, end.receipt["container_id"]) == (State.SUCCEEDED, container_id)
    assert before.nothing_is_left()


def test_a_container_of_an_image_of_the_jobs_container_is_not_the_jobs(before: Bench) -> None:
    """Somebody has run `docker commit`, and the image: it has the job's labels, and is left alone."""
    before.engine.images["busybox:latest"] = Script(until_released=True, labels={LABEL_JOB: JOB})
    before.container()
    before.engine.rename(NAME, "copy")
    before.engine.images["busybox:latest"] = says(b"hello\n")
    assert before.ended().state is State.SUCCEEDED
    assert before.engine.names() == ["copy"]


def test_what_an_earlier_attempt_left_under_another_name_does_not_run_beside_the_next(before: Bench) -> None:
    """Its host was declared lost and is back with a new worker: the job has come to it again."""
    announced(before)
    before.engine.rename(NAME, "x")
    before.records.jobs[JOB] |= {"state": "queued", "owner": ""}
    before.records.in_hand.clear()
    job = before.claimed()
    assert job.attempt.number == 2
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: container_status(before) is Status.RUNNING)
    assert before.engine.names() == [NAME]
    before.engine.release(NAME)
    assert finished(before, job, running).state is State.SUCCEEDED


# Removed


@pytest.mark.parametrize(
    ("exit_code", "state", "reason"),
    [
        (0, State.SUCCEEDED, "its container was removed by somebody else at its end"),
        (3, State.FAILED, "exit code 3; its container was removed by somebody else at its end"),
        (137, State.FAILED, "exit code 137, ended by SIGKILL; its container was removed by somebody else at its end"),
    ],
)
def test_a_container_that_is_pruned_at_its_end_keeps_the_end_that_was_told(
    long: Bench, exit_code: int, state: State, reason: str
) -> None:
    """`docker container prune` comes between the answer to the wait and the look at the container."""
    inspect = long.engine.inspect

    def pruned(name: str) -> Any:
        if container_status_of(inspect(name)) is Status.EXITED:
            long.engine.remove(name)
        return inspect(name)

    job, running = following(long, retries=0)
    long.engine.inspect = pruned  # type: ignore[method-assign]
    long.engine.release(NAME, exit_code)
    end = finished(long, job, running)
    assert (end.state, end.receipt["reason"], end.receipt["exit_code"]) == (state, reason, exit_code)


def container_status_of(existing: Any) -> Status | None:
    return existing.status if existing else None


def test_a_cancelled_job_whose_container_is_pruned_is_cancelled(long: Bench) -> None:
    """Somebody else removes what the worker has just stopped."""
    job, running = following(long)
    stop = long.engine.stop

    def stop_and_prune(container_id: str, **kwargs: Any) -> None:
        stop(container_id, **kwargs)
        long.engine.remove(container_id)

    long.engine.stop = stop_and_prune  # type: ignore[method-assign]
    long.runner.end(job, EndRequest(Cause.CANCELLED, "cancelled by ann"))
    end = finished(long, job, running)
    assert (end.state, end.receipt["reason"]) == (State.CANCELLED, "cancelled by ann")


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
def test_a_container_that_was_removed_without_a_worker_is_not_run_again(before: Bench, ended: bool) -> None:
    """It has run, or may have: the record says that it was started."""
    announced(before)
    if ended:
        before.engine.release(NAME, 0)
    before.engine.remove(NAME)
    end = before.ended()
    assert (end.state, end.receipt["reason"]) == (State.ERROR, REMOVED)
    assert before.nothing_is_left()


def test_a_container_that_is_pruned_before_its_start_is_made_again(bench: Bench) -> None:
    """`docker container prune` removes what has not started; it has not run, so the job waits for its next attempt."""
    create = bench.engine.create

    def pruned(plan: Any) -> str:
        container_id = create(plan)
        bench.engine.remove(container_id)
        bench.engine.create = create  # type: ignore[method-assign]
        return container_id

    bench.engine.create = pruned  # type: ignore[method-assign]
    end = bench.run(retries=0)
    assert isinstance(end, LetGo)
    assert end.sentence.startswith("attempt 1: somebody else removed its container before it was started; again in")
