"""A second process takes over the containers that an earlier one left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.container import Frame, Status, Stream
from celery_docker.core.joblogs import JobLogs
from celery_docker.core.jobrecord import Holding
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from celery_docker.core.policy import Policy
from celery_docker.host import resolver
from celery_docker.run.retrying import Retrying
from celery_docker.run.runner import Ended, LetGo
from tests.unit.run.workbench import (
    HOST,
    JOB,
    LATE,
    LONG,
    NAME,
    OK,
    Background,
    Bench,
    container_status,
    make_bench,
)
from tests.waiting import eventually

# A second process: what an earlier one left behind


def test_a_running_container_is_adopted(before: Bench) -> None:
    """It goes on, under the same attempt; its log has every byte once."""
    with before.keeper.open(JOB, 1, str(before.log), None) as files:
        files.write(Frame(Stream.STDOUT, b"hel"))
    container_id = before.container()
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas)
    before.engine.say(NAME, Frame(Stream.STDOUT, b"more\n"))
    before.engine.release(NAME)
    end = running.answer()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]
    assert end.receipt["output"] == "hello\nwarning\nmore\n"
    assert before.log.read_text() == "hello\nwarning\nmore\n"
    assert before.engine.calls.count("create") == 1
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


def test_an_image_does_not_say_where_a_log_goes(before: Bench) -> None:
    """Its labels are those of its containers: root would write the output of its job anywhere."""
    target = before.folder / "of the image"
    logs = JobLogs(str(target), str(target), resolver.identity("root", Policy()))
    script = before.engine.images["busybox:latest"]
    before.engine.images["busybox:latest"] = replace(script, labels=logs.labels)
    before.container()
    before.engine.release(NAME, exit_code=0)
    end = before.ended(logoutfile=None)
    assert end.state is State.SUCCEEDED
    assert end.receipt["output"] == "hello\nwarning\n"
    assert not target.exists()


def test_a_container_that_ended_meanwhile_is_harvested(before: Bench) -> None:
    """It is never run again: how it ended is its result."""
    container_id = before.container()
    before.engine.release(NAME, exit_code=0)
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert before.log.read_text() == "hello\nwarning\n"
    assert before.engine.calls.count("start") == 1
    assert before.nothing_is_left()


def test_a_container_that_failed_meanwhile_is_retried_like_any_other(before: Bench) -> None:
    before.container()
    before.engine.release(NAME, exit_code=3)
    assert before.run() == LetGo("attempt 1: exit code 3; again in 10 s")
    assert before.nothing_is_left()


@pytest.mark.parametrize("exit_code", [137, 143, 255])
@pytest.mark.parametrize("restarted", [None, "before its end", "after its end"])
def test_an_end_that_no_worker_saw_is_the_jobs_own_if_docker_saw_it_all(
    before: Bench, exit_code: int, restarted: str | None
) -> None:
    before.container()
    before.engine.lives += restarted == "before its end"
    before.engine.release(NAME, exit_code)
    before.engine.lives += restarted == "after its end"
    sentence = before.run(retries=1).sentence
    if restarted:
        assert sentence.startswith(f"attempt 1: Docker or the host went down under it (exit code {exit_code})")
    else:
        assert sentence.startswith(f"attempt 1: exit code {exit_code}")
    assert before.nothing_is_left()


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_a_stop_that_an_earlier_process_began_counts_as_none_of_the_jobs_retries(
    before: Bench, has_ended: bool, exit_code: int
) -> None:
    """That process was killed in the grace of its containers."""
    container_id = before.container()
    before.engine.tell(container_id)
    if has_ended:
        before.engine.release(NAME, exit_code)
    job = before.claimed(retries=0)
    running = Background(lambda: before.runner.run(job, before.announced))
    if not has_ended:
        eventually(lambda: before.announced.metas)
        before.engine.release(NAME, exit_code)
    end = running.answer()
    if exit_code == 0:
        assert end.state is State.SUCCEEDED
    else:
        assert end == LetGo("attempt 1: its container was stopped before this worker took it over; again in 0 s")


def test_a_container_that_never_started_is_made_again(before: Bench) -> None:
    before.engine.images["busybox:latest"] = OK
    old_id = before.container(started=False)
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != old_id
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]
    assert before.nothing_is_left()


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_start_that_docker_may_have_forgotten_is_an_attempt(before: Bench, is_cancelled: bool) -> None:
    """After a power cut Docker says of a container that it never ran; it was cut off in the instant of the start."""
    before.engine.images["busybox:latest"] = OK
    old_id = before.container(started=False)
    before.records.update(Holding(JOB, HOST, 1), {"state": State.RUNNING.value, "container_id": old_id})
    if is_cancelled:
        before.records.cancel(JOB, reason="no longer needed")
        assert before.ended().state is State.CANCELLED
    else:
        end = before.retried(retries=0)
        assert end.state is State.SUCCEEDED
        first, second = end.receipt["attempts"]
        assert first["reason"] == "Docker or the host went down as it was started"
        assert (first["container_id"], second["attempt"]) == (old_id, 2)
    assert before.nothing_is_left()


@pytest.mark.parametrize("status", [Status.DEAD, Status.REMOVING])
def test_a_container_that_somebody_is_removing_is_not_run_again(before: Bench, status: Status) -> None:
    old_id = before.container()
    before.records.update(Holding(JOB, HOST, 1), {"state": State.RUNNING.value, "container_id": old_id})
    before.engine.mark(NAME, status)
    end = before.ended()
    assert (end.state, end.receipt["reason"]) == (State.ERROR, str(errors.ContainerGone()))
    assert before.engine.calls.count("create") == 1
    assert before.nothing_is_left()


def test_a_job_whose_container_was_never_made_is_run(before: Bench) -> None:
    before.engine.images["busybox:latest"] = OK
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]


def test_a_container_of_an_earlier_attempt_is_replaced(bench: Bench) -> None:
    """It was reported; only Docker was away when it should have been removed."""
    old_id = bench.container(attempt="7")
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != old_id
    assert bench.nothing_is_left()


def test_a_container_whose_record_was_lost_is_adopted_by_its_name(tmp_path: Path) -> None:
    """Redis forgot the job, the message came again: Docker knows better."""
    bench = make_bench(tmp_path.resolve(), LONG)
    container_id = bench.container(attempt="1")
    bench.engine.release(NAME, exit_code=0)
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert bench.log.read_text() == "hello\nwarning\n"
    assert bench.engine.calls.count("start") == 1


def test_a_container_found_by_its_name_is_not_given_up_for_a_pull_that_fails(tmp_path: Path) -> None:
    """With pull=always too: the container is there, so nothing has to be pulled for it."""
    bench = make_bench(tmp_path.resolve(), LONG)
    container_id = bench.container(attempt="1")
    bench.engine.release(NAME, exit_code=0)
    end = bench.ended(pull="always")
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert "pull" not in bench.engine.calls


def test_a_job_whose_record_was_lost_while_it_ran_is_adopted_after_a_crash(tmp_path: Path) -> None:
    """Redis was emptied after the claim; what the runner said since then is enough for the next process."""
    bench = make_bench(tmp_path.resolve(), LONG)
    job = bench.claimed()
    for table in (bench.records.jobs, bench.records.index, bench.records.in_hand):
        table.clear()
    first = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING)
    adopted = bench.next_process().claim(bench.delivery())
    assert adopted is not None, "nobody looks after the container any more"
    assert adopted.attempt.number == 1, "under another number its running container would be replaced"
    bench.engine.release(NAME)
    assert first.answer().state is State.SUCCEEDED


def test_the_pins_of_a_job_that_an_earlier_process_has_ended_go(bench: Bench) -> None:
    """Nobody answered when it let go of them, and then it was killed."""
    paths = {"inputpath": f"{bench.folder}/in", "outputpath": f"{bench.folder}/out"}
    for path in paths.values():
        Path(path).mkdir()
    job = bench.claimed(**paths)
    assert isinstance(bench.runner.run(job, bench.announced), Ended)
    bench.runner.forget(JOB)
    bench.opener.pinned[JOB] = {"inputpath": "/pins/in"}
    runner = bench.next_process()
    again = runner.claim(bench.delivery(**paths))
    assert again is not None
    assert isinstance(runner.run(again, bench.announced), Ended)
    runner.done(again, settled=True)
    assert bench.nothing_is_left()


def test_the_pins_are_gone_before_anybody_hears_of_the_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody may want to unmount what is mounted below the input."""
    finish, left = bench.records.finish, list[bool]()

    def finished(*args: Any, **kwargs: Any) -> Any:
        left.append(bool(bench.opener.pinned))
        return finish(*args, **kwargs)

    monkeypatch.setattr(bench.records, "finish", finished)
    bench.run(inputpath=str(bench.folder))
    assert left == [False]


def test_at_the_start_the_pins_of_no_job_go(before: Bench) -> None:
    """Those of this host's jobs stay: their containers may be about to start."""
    for job_id in (JOB, "long-gone"):
        before.opener.pin(job_id, JobSpec("busybox", inputpath=str(before.folder)), Policy(), None)
    before.next_process().release_pins()
    assert list(before.opener.pinned) == [JOB]


def test_without_the_opener_a_job_with_paths_is_put_off(bench: Bench) -> None:
    bench.opener.failure = errors.HostError("nobody listens")
    end = bench.run(inputpath=str(bench.folder), retries=0)
    assert isinstance(end, LetGo)
    assert "nobody listens" in end.sentence
    bench.opener.failure = None
    assert bench.records.publish_due(LATE) == 1
    assert bench.ended(inputpath=str(bench.folder)).state is State.SUCCEEDED
    assert bench.nothing_is_left()


def test_somebody_elses_container_of_that_name_is_left_alone(bench: Bench) -> None:
    """A submitter chooses the id of a job; he must not choose which container of the host dies."""
    bench.engine.images["busybox:latest"] = LONG
    theirs = bench.container(attempt=None, job=None)
    bench.engine.images["busybox:latest"] = OK
    end = bench.ended()
    assert end.state is not State.SUCCEEDED
    assert NAME in end.sentence
    state = bench.engine.inspect(theirs)
    assert state is not None
    assert state.status is Status.RUNNING


@pytest.mark.parametrize("call", ["inspect", "replay"])
def test_a_running_container_survives_that_docker_is_away_while_it_is_adopted(before: Bench, call: str) -> None:
    """A running container never dies because the worker did, nor because Docker was slow to answer it."""
    container_id = before.container()
    before.engine.failures[call] = [errors.EngineAway()]
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas or not running.is_alive())
    state = before.engine.inspect(container_id)
    assert state is not None, "it was removed"
    assert state.status is Status.RUNNING
    assert before.records.delayed == {}, "its next attempt would replace it"
    before.engine.release(NAME)
    assert running.answer().receipt["container_id"] == container_id


def test_an_adopted_job_whose_log_cannot_be_opened_any_more_leaves_no_container(before: Bench) -> None:
    """Its log file was replaced by a folder; the job ends, and nothing of it runs on unseen."""
    before.container()
    before.log.mkdir()
    job = before.claimed()
    end = before.runner.run(job, before.announced)
    assert isinstance(end, Ended)
    assert end.state is not State.SUCCEEDED
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


def test_a_job_that_ended_before_the_crash_is_only_reported(before: Bench) -> None:
    """The record has the receipt; Celery's result and the container were still to come."""
    container_id = before.container()
    before.engine.release(NAME)
    receipt = {"state": "succeeded", "reason": None, "run_s": 1.5, "host": HOST, "attempts": [1], "output": ""}
    receipt["container_id"] = container_id
    before.records.finish(Holding(JOB, HOST, 1), State.SUCCEEDED, receipt)
    job = before.claimed()
    end = before.runner.run(job, before.announced)
    assert isinstance(end, Ended)
    assert (end.state, end.receipt) == (State.SUCCEEDED, receipt)
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


def test_a_log_that_cannot_be_gone_on_with_ends_the_job_as_one_that_breaks_does(before: Bench) -> None:
    """Somebody has put a folder in its place while no worker ran: the container did run, and is stopped first."""
    container_id = before.container()
    before.log.mkdir()
    end = before.ended()
    assert end.state is State.ERROR
    assert end.receipt["reason"].startswith(f"cannot write the log file '{before.log}': ")
    assert (end.receipt["container_id"], end.receipt["exit_code"]) == (container_id, 143)
    assert before.engine.calls.index("stop") < before.engine.calls.index("remove")
    assert before.nothing_is_left()


def test_a_container_of_an_earlier_attempt_that_is_being_removed_is_waited_for(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Docker keeps its name for as long as its disk takes, and says of each removal that another is under way."""
    old_id = bench.container(attempt="7")
    bench.engine.mark(NAME, Status.REMOVING)
    remove, looks = bench.engine.remove, [0.2] * 600
    monkeypatch.setattr(bench.engine, "remove", lambda _container_id: bench.engine._called("remove"))

    def sleep(_s: float) -> None:
        looks.pop()
        if not looks:
            monkeypatch.setattr(bench.engine, "remove", remove)
            remove(old_id)

    monkeypatch.setattr(bench.runner.attempts, "retrying", Retrying(sleep))
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != old_id
    assert bench.engine.calls.count("create") == 3
