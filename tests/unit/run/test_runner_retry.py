"""Failures, by whose fault they are, and the retries that follow."""

from __future__ import annotations

import errno
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker import errors
from celery_docker.core.container import LABEL_BOOT, Status
from celery_docker.core.lifecycle import State
from celery_docker.core.plan import ContainerPlan
from celery_docker.core.policy import Policy
from celery_docker.run.runner import Ended, LetGo
from tests.fakes.engine import Script
from tests.unit.run.workbench import (
    FAILING,
    HOST,
    JOB,
    LATE,
    OK,
    Background,
    Bench,
    container_status,
    make_bench,
)
from tests.waiting import eventually

# The host's faults


@pytest.mark.parametrize("fault", [errors.EngineAway("Docker is away"), errors.NoSpace("no space left on device")])
def test_a_fault_of_the_host_is_heard(bench: Bench, fault: errors.HostError) -> None:
    """Whoever watches the host's health decides whether it takes more jobs."""
    bench.engine.failures["create"] = [fault]
    assert isinstance(bench.run(), LetGo)
    assert bench.faults == [fault]


@pytest.mark.parametrize("kwargs", [{"image": "nobody/has:it"}, {"user": 3.5}, {}])
def test_other_ends_are_not_the_host_s_fault(bench: Bench, kwargs: dict[str, Any]) -> None:
    bench.run(**kwargs)
    assert bench.faults == []


def test_an_image_that_is_removed_between_its_pull_and_its_container_is_pulled_again(bench: Bench) -> None:
    """Somebody prunes images in that moment: it takes nothing from the job."""
    bench.engine.registry = {"tool:1": OK}
    bench.engine.failures["create"] = [errors.ImageMissing("pull it"), errors.ImageMissing("pull it")]
    end = bench.run(image="tool:1")
    assert end == LetGo("attempt 1: image 'tool:1' was removed as soon as it was pulled; again in 10 s")
    assert bench.nothing_is_left()
    bench.records.publish_due(LATE)
    assert bench.ended(image="tool:1").state is State.SUCCEEDED


# Failure and retry


def test_a_failure_is_tried_again_and_holds_no_slot_meanwhile(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    before = time.time()
    end = bench.run()
    assert end == LetGo("attempt 1: exit code 3; again in 10 s")
    assert bench.announced.reasons == ["attempt 1: exit code 3; again in 10 s"]
    assert bench.nothing_is_left()
    assert bench.records.record(JOB)["state"] == "queued"
    assert before + 10 <= bench.records.delayed[JOB] <= time.time() + 10
    assert bench.sleeps == []


def test_a_retry_and_an_end_count_although_the_note_of_the_log_cannot_go(
    tmp_path: Path, mocker: MockerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk has been made read-only after an error. The note is nobody's loss."""
    bench = make_bench(tmp_path, FAILING)
    mocker.patch.object(bench.keeper, "forget", side_effect=OSError(errno.EROFS, "Read-only file system"))
    assert bench.run(retries=1) == LetGo("attempt 1: exit code 3; again in 10 s")
    bench.records.publish_due(LATE)
    assert bench.ended(retries=1).state is State.FAILED
    assert not bench.records.in_hand.get(HOST)
    assert "Read-only file system" in caplog.text


def test_failure_then_success(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    assert isinstance(bench.run(), LetGo)
    bench.engine.images["busybox:latest"] = OK
    bench.records.publish_due(LATE)
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert [(entry["attempt"], entry["exit_code"]) for entry in end.receipt["attempts"]] == [(1, 3), (2, 0)]
    assert end.receipt["output"] == "hello\nwarning\n", "of the last attempt"
    assert bench.log.read_text() == "almost\nhello\nwarning\n", "of both"
    assert bench.nothing_is_left()


def test_the_message_goes_back_to_its_queue_under_a_new_tag(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.run()
    bench.records.publish_due(LATE)
    (published,) = bench.records.queues["celery"]
    assert '"delivery_tag": "t1"' not in published
    assert '"id": "j1"' in published


def test_with_the_default_settings_a_failing_job_runs_four_times(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    end = bench.retried()
    assert end.state is State.FAILED
    assert end.sentence == "failed: exit code 3 (host node1, attempt 4)"
    assert [entry["exit_code"] for entry in end.receipt["attempts"]] == [3, 3, 3, 3]
    assert bench.log.read_text() == "almost\n" * 4
    assert bench.nothing_is_left()


@pytest.mark.parametrize(
    ("environ", "kwargs", "runs"),
    [
        ({"max_retries": "1"}, {}, 2),
        ({"max_retries": "0"}, {}, 1),
        ({"max_retries": "1"}, {"retries": 2}, 3),
        ({}, {"retries": 0}, 1),
        ({}, {"retry_on": [75]}, 1),
        ({}, {"retry_on": [3]}, 4),
    ],
    ids=str,
)
def test_how_often(tmp_path: Path, environ: dict[str, str], kwargs: dict[str, Any], runs: int) -> None:
    """The worker's setting, unless the job says otherwise."""
    assert len(make_bench(tmp_path, FAILING, **environ).retried(**kwargs).receipt["attempts"]) == runs


def test_the_record_is_given_back_before_the_container_goes(tmp_path: Path) -> None:
    """The other way round, whoever dies in between runs the attempt twice."""
    bench = make_bench(tmp_path, FAILING)
    states: list[str] = []
    original = bench.engine.remove

    def remove(container_id: str) -> None:
        states.append(bench.records.jobs[JOB]["state"])
        original(container_id)

    bench.engine.remove = remove  # type: ignore[method-assign]
    bench.run()
    assert states == ["queued"]


def test_a_retry_that_is_due_before_its_slot_is_free_is_not_lost(tmp_path: Path) -> None:
    """Docker takes long to remove the container, and the message of the next attempt comes back to this host."""
    bench = make_bench(tmp_path, FAILING, retry_delay="0")
    original = bench.engine.remove
    claims: list[Background] = []

    def slow_remove(container_id: str) -> None:
        if not claims:
            assert bench.records.publish_due(LATE) == 1
            claims.append(Background(lambda: bench.runner.claim(bench.delivery())))
            claims[0].join(0.2)
        original(container_id)

    bench.engine.remove = slow_remove  # type: ignore[method-assign]
    assert isinstance(bench.run(), LetGo)
    job = claims[0].answer()
    assert job is not None, "its message was dropped as a second delivery; nobody will ever run it"
    assert job.attempt.number == 2


# The host's fault


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        ("create", errors.EngineAway()),
        ("create", errors.HostError("no space left on device")),
        ("create", errors.EngineDenied()),
        ("attach", errors.EngineAway()),
        ("start", errors.HostError("cgroups: cannot make one")),
        ("start", errors.EngineAway()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_fault_of_the_host_leaves_the_jobs_budget_alone(bench: Bench, call: str, failure: Exception) -> None:
    bench.engine.failures[call] = [failure]
    assert bench.run(retries=0) == LetGo(f"attempt 1: {failure}; again in 10 s")
    assert bench.nothing_is_left()
    record = bench.records.record(JOB)
    assert (record["exits"], record["host_faults"]) == ("0", "1")
    bench.records.publish_due(LATE)
    assert bench.ended(retries=0).state is State.SUCCEEDED


def test_a_registry_that_is_down_is_tried_again(bench: Bench) -> None:
    bench.engine.registry = {"tool:1": OK}
    bench.engine.failures["pull"] = [errors.HostError("image 'tool:1' cannot be pulled now: connection refused")]
    end = bench.retried(image="tool:1", retries=0)
    assert end.state is State.SUCCEEDED
    assert len(end.receipt["attempts"]) == 2


def test_a_host_that_stays_ill_gives_up(bench: Bench) -> None:
    bench.engine.failures["create"] = [errors.EngineAway() for _ in range(20)]
    end = bench.retried()
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "Docker does not answer"
    assert len(end.receipt["attempts"]) == 11


def test_a_start_whose_answer_was_lost_is_looked_up(bench: Bench) -> None:
    """Docker heard it all the same: the job runs once."""
    original = bench.engine.start

    def start(container_id: str) -> None:
        original(container_id)
        raise errors.EngineAway

    bench.engine.start = start  # type: ignore[method-assign]
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert len(end.receipt["attempts"]) == 1
    assert bench.engine.calls.count("create") == 1


def test_an_engine_that_is_away_after_the_end_is_asked_until_it_answers(bench: Bench) -> None:
    """The container ended; only how is not known yet."""
    bench.engine.failures["inspect"] = [errors.EngineAway() for _ in range(8)]
    bench.engine.failures["digest"] = [errors.EngineAway()]
    assert bench.ended().state is State.SUCCEEDED
    assert bench.sleeps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.1]
    assert len(bench.faults) == 9, "the host is looked at, and takes no more jobs for now"


@pytest.mark.parametrize("exit_code", [1, 130, 143])
def test_a_container_that_docker_takes_along_is_no_failure_of_the_job(tmp_path: Path, exit_code: int) -> None:
    """A Docker that goes down stops its containers, which may answer to that as they like, and tells to the last."""
    bench = make_bench(tmp_path, Script(exit_code=exit_code))
    bench.engine.going_down = True
    end = bench.run(retries=0)
    assert isinstance(end, LetGo)
    assert "went down under it" in end.sentence


def test_a_container_that_ended_well_while_docker_goes_down_is_done(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, OK)
    bench.engine.going_down = True
    assert bench.ended().state is State.SUCCEEDED


def test_a_container_that_failed_while_a_docker_with_live_restore_goes_down_is_retried(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, Script(exit_code=3))
    bench.engine.going_down = bench.engine.live_restore = True
    assert bench.run() == LetGo("attempt 1: exit code 3; again in 10 s")


def test_a_container_that_docker_took_along_before_it_was_started_again_is_no_failure_of_the_job(
    tmp_path: Path,
) -> None:
    """Where systemd holds Docker's socket, nobody is refused in between: the next Docker answers as if nothing was."""
    bench = make_bench(tmp_path, Script(exit_code=143, until_released=True))
    slot = Background(lambda: bench.run(retries=0))
    eventually(lambda: "start" in bench.engine.calls and container_status(bench) is Status.RUNNING)
    bench.engine.lives += 1
    bench.engine.release(f"run-{JOB}")
    end = slot.answer()
    assert isinstance(end, LetGo)
    assert "went down under it" in end.sentence


@pytest.mark.parametrize(
    ("live_restore", "made_in", "state"),
    [(True, "boot1", State.ERROR), (True, "boot0", None), (False, "boot1", None)],
    ids=["live-restore", "booted since", "Docker ends its containers"],
)
def test_a_container_that_ended_by_itself_while_docker_was_away_does_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live_restore: bool, made_in: str, state: State | None
) -> None:
    """Where nothing else can have ended it, it has run to its end, well or not."""
    bench = make_bench(tmp_path, Script(exit_code=255, until_released=True))
    bench.engine.live_restore = live_restore
    create = bench.engine.create

    def create_in_that_boot(plan: ContainerPlan) -> str:
        return create(replace(plan, body={**plan.body, "Labels": {**plan.body["Labels"], LABEL_BOOT: made_in}}))

    monkeypatch.setattr(bench.engine, "create", create_in_that_boot)
    slot = Background(lambda: bench.run(retries=0))
    eventually(lambda: "start" in bench.engine.calls and container_status(bench) is Status.RUNNING)
    bench.engine.lives += 1
    bench.engine.release(f"run-{JOB}")
    end = slot.answer()
    if state is None:
        assert isinstance(end, LetGo)
        assert "went down under it" in end.sentence
    else:
        assert isinstance(end, Ended)
        assert (end.state, end.receipt["exit_code"]) == (state, None)
        assert "was away, and nobody knows how" in end.sentence


def test_a_container_is_removed_even_if_docker_is_away_at_first(bench: Bench) -> None:
    """Nobody would ever look for it again: its job is over."""
    bench.engine.failures["remove"] = [errors.EngineAway()]
    bench.ended()
    assert bench.engine.names() == []


def test_a_mistake_of_ours_ends_the_job_and_not_only_its_slot(bench: Bench) -> None:
    """Whatever nobody thought of: the record must not say `running` for ever."""
    bench.engine.failures["create"] = [RuntimeError("a bug")]
    end = bench.ended()
    assert end.state is State.ERROR
    assert "a bug" in end.sentence
    assert bench.records.record(JOB)["state"] == "error"


# The request's fault


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"image": "BusyBox"}, "image: 'BusyBox' is not an image name"),
        ({"privileged": True}, "'privileged' is not an argument"),
        ({"command": "a\0b"}, r"command: 'a\x00b' must not contain a NUL byte"),
        ({"inputpath": "data"}, "inputpath: 'data' must be an absolute path"),
        ({"inputpath": "/no/such/path"}, "inputpath: '/no/such/path' is outside what this host allows"),
        ({"inputpath": "FOLDER/nothing"}, "inputpath: 'FOLDER/nothing' on host "),
        ({"user": "no-such-user"}, "user: 'no-such-user' is not known on host "),
        ({"inputpath": "/etc"}, "inputpath: '/etc' is outside what this host allows; rule mounts = ["),
        ({"logoutfile": "/etc/x.log"}, "logoutfile: '/etc/x.log' is outside what this host allows"),
        ({"image": "no/such-image"}, "image 'no/such-image:latest' cannot be pulled: not found"),
        ({"pull": "always"}, "image 'busybox:latest' cannot be pulled: not found"),
        (
            {"image": "tool", "pull": "never"},
            "image 'tool:latest' is not on host node1 and pull is 'never'; pull it there, or say pull='missing'",
        ),
        ({"network": "none"}, "network: 'none' is not allowed on this host; rule networks = ['bridge']"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_met_is_rejected_at_once(bench: Bench, kwargs: dict[str, Any], reason: str) -> None:
    """One line, nothing retried, nothing left behind."""
    folder = str(bench.folder)
    end = bench.ended(
        **{name: value.replace("FOLDER", folder) if name == "inputpath" else value for name, value in kwargs.items()}
    )
    assert end.state is State.REJECTED
    assert end.sentence.startswith(f"rejected: {reason.replace('FOLDER', folder)}")
    assert len(end.sentence.splitlines()) == 1
    assert bench.records.delayed == {}
    assert bench.nothing_is_left()


def test_policy_is_asked_before_the_pull(bench: Bench) -> None:
    bench.runner.attempts.policy = Policy(images=("busybox",))
    bench.engine.registry = {"evil:latest": OK}
    assert bench.ended(image="evil", logoutfile=None).state is State.REJECTED
    assert bench.engine.calls == []


@pytest.mark.parametrize("exit_code", [126, 127])
def test_a_command_that_cannot_be_started_is_rejected_with_its_exit_code(tmp_path: Path, exit_code: int) -> None:
    bench = make_bench(tmp_path, Script(cannot_start=exit_code))
    end = bench.ended(command="nope")
    assert end.state is State.REJECTED
    assert end.receipt["exit_code"] == exit_code
    assert "command 'nope' cannot be started" in end.sentence
    assert bench.nothing_is_left()


def test_a_log_that_cannot_be_written_is_rejected_before_anything_runs(bench: Bench) -> None:
    end = bench.ended(logoutfile=str(bench.folder))
    assert end.state is State.REJECTED
    assert "cannot write the log file" in end.sentence
    assert "start" not in bench.engine.calls
    assert bench.nothing_is_left()


@pytest.mark.parametrize("job_id", ["../x", "a b", "a" * 300, "a\0b"], ids=lambda job_id: repr(job_id[:8]))
def test_a_job_id_that_cannot_be_a_name_is_rejected_and_touches_nothing(bench: Bench, job_id: str) -> None:
    """Ids come from submitters; ours become names of containers and files."""
    bystander = bench.folder / "x.logs"
    bystander.write_text("not ours")
    bench.keeper.state_dir.mkdir()
    end = bench.ended(job_id=job_id)
    assert end.state is State.REJECTED
    assert end.sentence.startswith("rejected: id: ")
    assert bystander.exists()
    assert bench.records.expiry == {job_id: 384 * 3600}
    assert bench.nothing_is_left()
