"""The life of a job as the journal is told it: each event once, with the fields to find it by."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core import journal
from celery_docker.core.container import Status
from celery_docker.core.jobrecord import New
from celery_docker.core.journal import JournalEvent
from celery_docker.core.lifecycle import Cause, EndRequest, State
from celery_docker.core.signingkeys import Keys
from celery_docker.host import systemd
from celery_docker.host.keyfile import KeyFile
from celery_docker.run import jobevents
from celery_docker.run.job import timeout_request
from celery_docker.run.runner import LetGo
from tests.unit.run.test_authority import KEY, delivery
from tests.unit.run.workbench import FAILING, HOST, JOB, LONG, NAME, Background, Bench, container_status, make_bench
from tests.waiting import eventually

Entry = dict[str, str]
PLAIN = {"CELERY_DOCKER_JOB": JOB, "CELERY_DOCKER_HOST": HOST, "CELERY_DOCKER_QUEUE": "celery"}
FIRST = {**PLAIN, "CELERY_DOCKER_ATTEMPT": "1", "CELERY_DOCKER_IMAGE": "busybox"}


class Lines:
    """The entries of the journal, as it gets them."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def entries(self) -> list[Entry]:
        return [entry(record) for record in self._caplog.records]

    def events(self) -> list[str]:
        return [JournalEvent(one["MESSAGE_ID"]).name for one in self.entries if "MESSAGE_ID" in one]

    def about(self, event: JournalEvent) -> Entry:
        """Return what the only entry of an event says by the fields that are ours."""
        (one,) = [one for one in self.entries if one.get("MESSAGE_ID") == event]
        return {name: value for name, value in one.items() if name.startswith(journal.PREFIX)}


def entry(record: logging.LogRecord) -> Entry:
    lines = systemd.entry(record, record.getMessage()).decode().splitlines()
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Lines]:
    with caplog.at_level("INFO", logger="celery_docker"):
        yield Lines(caplog)


def test_a_success(bench: Bench, lines: Lines) -> None:
    bench.ended(command="echo hello", env={"PASSWORD": "s3cret"}, name="mine")
    assert lines.events() == ["JOB_STARTED", "JOB_SUCCEEDED"]
    assert lines.about(JournalEvent.JOB_STARTED) == {**FIRST, "CELERY_DOCKER_STATE": "running"}
    ended = {**FIRST, "CELERY_DOCKER_STATE": "succeeded", "CELERY_DOCKER_EXIT_CODE": "0"}
    assert lines.about(JournalEvent.JOB_SUCCEEDED) == ended
    assert "s3cret" not in str(lines.entries)
    assert [one["PRIORITY"] for one in lines.entries] == ["6", "6"]


def test_a_failure_after_a_retry(tmp_path: Path, lines: Lines) -> None:
    bench = make_bench(tmp_path, FAILING, MAX_RETRIES="1")
    bench.retried()
    assert lines.events() == ["JOB_STARTED", "JOB_RETRIED", "JOB_STARTED", "JOB_FAILED"]
    retried = {**FIRST, "CELERY_DOCKER_STATE": "queued", "CELERY_DOCKER_EXIT_CODE": "3"}
    assert lines.about(JournalEvent.JOB_RETRIED) == retried
    failed = {**FIRST, "CELERY_DOCKER_ATTEMPT": "2", "CELERY_DOCKER_STATE": "failed", "CELERY_DOCKER_EXIT_CODE": "3"}
    assert lines.about(JournalEvent.JOB_FAILED) == failed


def test_a_retry_for_the_hosts_fault_is_a_warning(bench: Bench, lines: Lines) -> None:
    """The journal counts warnings apart, where there are too many lines."""
    bench.engine.failures["create"] = [errors.EngineAway("Docker is away")]
    assert isinstance(bench.run(), LetGo)
    (one,) = lines.entries
    assert (one["MESSAGE_ID"], one["PRIORITY"]) == (JournalEvent.JOB_RETRIED, "4")
    assert lines.about(JournalEvent.JOB_RETRIED) == {**FIRST, "CELERY_DOCKER_STATE": "queued"}


def test_a_job_that_asks_for_what_cannot_be(bench: Bench, lines: Lines) -> None:
    bench.ended(user=3.5)
    assert lines.events() == ["JOB_REJECTED"]
    assert lines.about(JournalEvent.JOB_REJECTED) == {
        **PLAIN,
        "CELERY_DOCKER_ATTEMPT": "1",
        "CELERY_DOCKER_STATE": "rejected",
    }


@pytest.mark.parametrize(
    ("request_", "event", "priority"),
    [
        (EndRequest(Cause.CANCELLED, "cancelled by alice"), "JOB_CANCELLED", "6"),
        (timeout_request(3), "JOB_TIMED_OUT", "6"),
        (EndRequest(Cause.INTERRUPTED, "the worker was stopped"), "JOB_RETRIED", "4"),
    ],
    ids=["cancelled", "timed out", "interrupted"],
)
def test_a_running_job_that_is_to_end(
    tmp_path: Path, lines: Lines, request_: EndRequest, event: str, priority: str
) -> None:
    bench = make_bench(tmp_path, LONG)
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING)
    bench.runner.end(job, request_)
    bench.runner.end(job, request_)
    running.answer()
    assert lines.events() == ["JOB_STARTED", "JOB_STOPPED", event]
    assert lines.about(JournalEvent.JOB_STOPPED) == {**FIRST, "CELERY_DOCKER_STATE": "running"}
    (stopped,) = [one for one in lines.entries if one["MESSAGE_ID"] == JournalEvent.JOB_STOPPED]
    assert stopped["MESSAGE"] == f"job {JOB}: its container is stopped: {request_.reason}"
    assert stopped["PRIORITY"] == priority


def test_a_container_that_is_taken_over(before: Bench, lines: Lines) -> None:
    before.container()
    before.engine.release(NAME, exit_code=0)
    before.ended()
    assert lines.events() == ["JOB_ADOPTED", "JOB_SUCCEEDED"]
    assert lines.about(JournalEvent.JOB_ADOPTED) == {**FIRST, "CELERY_DOCKER_STATE": "running"}


def test_an_end_that_the_process_before_could_not_tell(bench: Bench, lines: Lines) -> None:
    """It is told from the receipt, which says the image."""
    job = bench.claimed()
    bench.runner.run(job, bench.announced)
    again = bench.next_process()
    taken = bench.delivery()
    claimed = again.claim(taken)
    assert claimed is not None
    again.run(claimed, bench.announced)
    assert lines.events() == ["JOB_STARTED", "JOB_SUCCEEDED", "JOB_SUCCEEDED"]
    assert lines.entries[1] == lines.entries[2]


def test_a_job_that_is_anothers_by_now(bench: Bench, lines: Lines) -> None:
    bench.records.failures["finish"] = [errors.Fenced("job j1 belongs to another host now")]
    assert isinstance(bench.run(), LetGo)
    assert lines.events() == ["JOB_STARTED", "JOB_FENCED"]
    assert lines.about(JournalEvent.JOB_FENCED) == FIRST
    assert lines.entries[1]["MESSAGE"].count("belongs to another host now") == 1


def test_an_unclear_end_is_a_warning(tmp_path: Path, lines: Lines) -> None:
    bench = make_bench(tmp_path, LONG)
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING)
    bench.engine.remove(NAME)
    running.answer()
    assert lines.events() == ["JOB_STARTED", "JOB_ERROR"]
    assert lines.entries[1]["PRIORITY"] == "4"


def test_a_job_of_a_batch(bench: Bench, lines: Lines) -> None:
    bench.records.begin_batch("b1", {"size": 1})
    taken = bench.delivery()
    bench.records.submit([New(JOB, "celery", taken.envelope, {}, batch_id="b1", batch_index=1)])
    bench.ended()
    assert {one["CELERY_DOCKER_BATCH"] for one in lines.entries} == {"b1"}


# Who has signed a job


@pytest.mark.parametrize("is_adopted", [False, True])
def test_the_signer_is_the_user(bench: Bench, lines: Lines, is_adopted: bool) -> None:
    KeyFile(str(bench.folder / "key")).write(Keys(KEY))
    taken = delivery(bench)
    runner = bench.runner
    if is_adopted:
        bench.records.claim(JOB, host=HOST, queue=taken.queue, envelope=taken.envelope)
        bench.container()
        bench.engine.release(NAME, exit_code=0)
    job = runner.claim(taken)
    assert job is not None
    runner.run(job, bench.announced)
    assert len(lines.entries) == 2
    assert {one["CELERY_DOCKER_USER"] for one in lines.entries} == {"alice"}


def test_nobody_says_that_he_is_somebody_else(bench: Bench, lines: Lines) -> None:
    """The signature is false, and what a plain client calls itself counts for nothing."""
    KeyFile(str(bench.folder / "key")).write(Keys(KEY))
    job = bench.runner.claim(delivery(bench, forged={"image": "other"}))
    assert job is not None
    bench.runner.run(job, bench.announced)
    assert lines.events() == ["JOB_REJECTED"]
    assert "CELERY_DOCKER_USER" not in lines.entries[0]


# Jobs that end in their queue


def test_many_jobs_that_end_alike_are_in_the_fields_of_one_line(caplog: pytest.LogCaptureFixture) -> None:
    job_ids = [f"j{number}" for number in range(journal.MOST_JOBS)]
    with caplog.at_level("INFO", logger=jobevents.__name__):
        jobevents.ended_queued(State.CANCELLED, job_ids, "cancelled: a wrong input", HOST)
    (record,) = caplog.records
    written = systemd.entry(record, record.getMessage()).decode().splitlines()
    assert [line.partition("=")[2] for line in written if line.startswith("CELERY_DOCKER_JOB=")] == job_ids
    assert f"MESSAGE_ID={JournalEvent.JOB_CANCELLED}" in written
    assert "CELERY_DOCKER_STATE=cancelled" in written
    assert "MESSAGE=250 queued jobs ended: cancelled: a wrong input" in written
