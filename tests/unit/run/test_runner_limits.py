"""A job under an outage of Redis, a timeout, a cancel, and other things that happen to a running container."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.container import Frame, Status, Stream
from celery_docker.core.found import OpenLog
from celery_docker.core.lifecycle import State
from celery_docker.core.output import Break, Gap
from celery_docker.run.runner import Ended, LetGo
from tests.fakes.engine import says
from tests.unit.run.workbench import (
    FAILING,
    JOB,
    LONG,
    NAME,
    Background,
    Bench,
    container_status,
    make_bench,
)
from tests.waiting import eventually

# Redis away


@pytest.mark.parametrize("call", ["claim", "update", "finish", "settle"])
@pytest.mark.parametrize("failure", [errors.StoreAway, errors.StoreRefused])
def test_while_redis_is_away_a_job_waits_and_nothing_is_lost(
    bench: Bench, call: str, failure: type[errors.CeleryDockerError]
) -> None:
    """However long; a password that was changed by mistake is corrected some time, too."""
    bench.records.failures[call] = [failure() for _ in range(8)]
    assert bench.ended().state is State.SUCCEEDED
    assert bench.sleeps == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert bench.records.record(JOB)["state"] == "succeeded"
    assert bench.engine.calls.count("create") == 1
    assert bench.nothing_is_left()


def test_a_retry_waits_for_redis_too(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.records.failures["requeue"] = [errors.StoreAway()]
    assert isinstance(bench.run(), LetGo)
    assert bench.records.record(JOB)["state"] == "queued"
    assert bench.sleeps == [0.1]


# What else can happen to a running container


def test_a_container_that_somebody_else_removed_is_an_error_and_not_run_again(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, LONG)
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: "start" in bench.engine.calls and bench.engine.names())
    eventually(lambda: container_status(bench) is Status.RUNNING)
    bench.engine.remove(NAME)
    end = running.answer()
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "its container was removed by somebody else, so its end is unknown"
    assert end.receipt["exit_code"] is None
    bench.runner.done(job, settled=True)
    assert bench.nothing_is_left()


@pytest.mark.parametrize("going_s", [0, 5], ids=["gone at once", "slow to go"])
@pytest.mark.parametrize("answers_on", [False, True], ids=["away", "behind a socket of systemd's"])
@pytest.mark.parametrize("stdout", [b"", b"hello\n"], ids=["silent", "in the middle"])
def test_a_stream_that_breaks_is_taken_up_again(
    tmp_path: Path, stdout: bytes, answers_on: bool, going_s: float
) -> None:
    """A restart of Docker cuts every stream; the container goes on, and so does its log, to the byte."""
    bench = make_bench(tmp_path, replace(says(stdout), until_released=True))
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING)
    eventually(lambda: bench.log.exists() and bench.log.read_bytes() == stdout)
    bench.engine.going_s = going_s
    bench.engine.break_streams(NAME, answers_on=answers_on)
    eventually(lambda: {"ended", "replay"} & set(bench.engine.calls))
    bench.engine.say(NAME, Frame(Stream.STDOUT, b"after the break\n"))
    bench.engine.release(NAME)
    end = running.answer()
    assert bench.log.read_bytes() == stdout + b"after the break\n"
    assert end.receipt["output"] == (stdout + b"after the break\n").decode()
    assert end.receipt["stdout_bytes"] == len(stdout) + 16


class FullDisk:
    """Log files that take nothing."""

    def __init__(self) -> None:
        self.gaps: list[Gap] = []
        self.broken: Break | None = None

    def skip(self, gap: Gap) -> None: ...

    def add_gap(self, gap: Gap) -> None: ...

    def note_break(self, broken: Break | None) -> None: ...

    def write(self, frame: Frame) -> None:
        raise errors.LogFull("cannot write the log: No space left on device")

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exc: Any) -> None: ...


class FullDiskKeeper:
    """Opens them."""

    def open(self, job_id: str, attempt: int, out: str | None, err: str | None, opened: OpenLog) -> FullDisk:
        return FullDisk()

    resume = open

    def forget(self, job_id: str) -> None: ...


def test_a_job_whose_log_cannot_be_written_is_stopped(tmp_path: Path) -> None:
    """A disk that is full ends the job with that reason, not with a hole in its log."""
    bench = make_bench(tmp_path, LONG)
    bench.runner.attempts.logs = FullDiskKeeper()
    job = bench.claimed()
    end = bench.runner.run(job, bench.announced)
    assert isinstance(end, Ended)
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "cannot write the log: No space left on device"
    assert [type(fault) for fault in bench.faults] == [errors.NoSpace], "the host takes no more jobs for now"
    assert container_status(bench) is Status.EXITED
    assert bench.records.delayed == {}
    bench.runner.done(job, settled=True)
    assert bench.nothing_is_left()


def test_what_is_known_of_a_job_whose_log_broke_is_told(tmp_path: Path) -> None:
    """It did run: since when, until when and what it printed last are no secret."""
    bench = make_bench(tmp_path, LONG)
    bench.runner.attempts.logs = FullDiskKeeper()
    receipt = bench.ended().receipt
    assert receipt["started_at"] is not None
    assert receipt["finished_at"] is not None
    assert receipt["stdout_bytes"] == 6
