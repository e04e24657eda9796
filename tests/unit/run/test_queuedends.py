"""The end of queued jobs on request, with Redis in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import jobrecord, journal, message
from celery_docker.run import jobevents
from celery_docker.run.queuedends import QueuedEnd, QueuedEnds
from celery_docker.run.retrying import Retrying
from celery_docker.run.slottable import SlotTable
from tests.fakes.records import FakeRecords
from tests.unit.run.workbench import HOST, OTHER


@dataclass
class Desk:
    """A host that ends queued jobs; `reports` are the ends that Celery got, which it cannot get of the `mute` ones."""

    records: FakeRecords = field(default_factory=FakeRecords)
    slot_table: SlotTable = field(default_factory=SlotTable)
    reports: list[tuple[str, str]] = field(default_factory=list)
    mute: tuple[str, ...] = ()
    envelopes: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        def tell(ends: Sequence[QueuedEnd]) -> list[str]:
            reported = [end for end in ends if end.job.job_id not in self.mute]
            self.envelopes += [end.job.envelope for end in ends]
            self.reports += [(end.job.job_id, end.state.value) for end in reported]
            return [end.job.job_id for end in reported]

        retrying = Retrying(sleep=lambda _: None)
        self.ends = QueuedEnds(self.records, self.slot_table, retrying, HOST, 60, tell)

    def cancelled(self, count: int) -> list[jobrecord.JobToEnd]:
        job_ids = [f"j{number}" for number in range(count)]
        self.records.submit([jobrecord.New(job_id, "celery", envelope(job_id), {}) for job_id in job_ids])
        self.records.cancel_many(job_ids, reason="a wrong input")
        return self.records.end_requests(HOST)


def envelope(job_id: str) -> dict[str, object]:
    return message.task_message(job_id, {"image": "busybox"}, queue="celery", tag="t", origin="1@here")


def test_a_cancelled_batch_is_one_line_of_the_journal(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    jobs = desk.cancelled(40)
    with caplog.at_level("INFO", logger=jobevents.__name__):
        assert desk.ends.end(jobs[:25], more=True) == 25
        assert desk.ends.end(jobs[25:], more=False) == 15
    assert caplog.messages == [f"40 queued jobs ended: cancelled: a wrong input (host {HOST})"]
    assert sorted(desk.reports) == sorted((job.job_id, "cancelled") for job in jobs)
    assert {desk.records.record(job.job_id)["state"] for job in jobs} == {"cancelled"}
    assert desk.records.in_hand == {HOST: set()}
    assert set(desk.records.expiry.values()) == {60}
    assert desk.records.end_requests(HOST) == []
    assert desk.slot_table.job_ids() == set()


def test_a_line_names_as_many_jobs_as_an_entry_of_the_journal_has_room_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each job is in the fields of one line, which is how its end is found."""
    monkeypatch.setattr(journal, "MOST_JOBS", 10)
    desk = Desk()
    jobs = desk.cancelled(33)
    with caplog.at_level("INFO", logger=jobevents.__name__):
        for begin in (0, 5, 25):
            desk.ends.end(jobs[begin : {0: 5, 5: 25, 25: 33}[begin]], more=begin < 25)
    named = [record.__dict__["jobs"] for record in caplog.records]
    assert [len(job_ids) for job_ids in named] == [10, 10, 10, 3]
    assert sorted(job_id for job_ids in named for job_id in job_ids) == sorted(job.job_id for job in jobs)
    assert caplog.messages[0] == f"10 queued jobs ended: cancelled: a wrong input (host {HOST})"
    assert desk.ends.end([], more=False) == 0
    assert len(caplog.records) == 4


def test_the_line_of_a_single_job_bears_its_id(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    with caplog.at_level("INFO", logger=jobevents.__name__):
        desk.ends.end(desk.cancelled(1), more=False)
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["job"]) == (f"cancelled: a wrong input (host {HOST})", "j0")


def test_a_job_that_was_claimed_meanwhile_is_left_to_its_owner(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    jobs = desk.cancelled(3)
    desk.records.claim("j0", host=OTHER, queue="celery", envelope={})
    desk.slot_table.reserve("j1")
    assert desk.ends.end(jobs, more=False) == 1
    assert desk.reports == [("j2", "cancelled")]
    assert desk.records.record("j0")["owner"] == OTHER
    assert desk.records.record("j1")["state"] == "queued"
    assert desk.slot_table.job_ids() == {"j1"}


def test_a_redis_that_was_away_for_a_moment_loses_no_end() -> None:
    desk = Desk()
    jobs = desk.cancelled(2)
    away = errors.StoreAway("refused")
    desk.records.failures = {"claim_many": [away], "finish_many": [away], "settle_many": [away]}
    assert desk.ends.end(jobs, more=False) == 2
    assert desk.reports == [("j0", "cancelled"), ("j1", "cancelled")]
    assert desk.records.in_hand == {HOST: set()}


def test_a_job_that_celery_could_not_be_told_about_stays_in_hand() -> None:
    """Its record says how it ended; its result is stored when the host looks at it again."""
    desk = Desk(mute=("j0",))
    assert desk.ends.end(desk.cancelled(2), more=False) == 2
    assert desk.reports == [("j1", "cancelled")]
    assert desk.records.in_hand == {HOST: {"j0"}}
    assert desk.records.record("j0")["state"] == "cancelled"


def test_a_message_that_comes_while_its_job_is_ended_is_told() -> None:
    """A plain client's job: what is to follow it stands only in its message."""
    desk = Desk()
    desk.records.cancel("j0", reason="a wrong input")
    jobs = desk.records.end_requests(HOST)
    taken = jobrecord.Taken("celery", b"{}")
    finish_many = desk.records.finish_many

    def after_a_message(ends: Sequence[jobrecord.Finished]) -> list[bool]:
        desk.records.claim("j0", host=OTHER, queue="celery", envelope=envelope("j0"), taken=taken)
        return finish_many(ends)

    desk.records.finish_many = after_a_message  # type: ignore[method-assign]
    assert desk.ends.end(jobs, more=False) == 1
    assert desk.envelopes == [envelope("j0")]


def test_a_message_here_waits_until_its_job_is_ended() -> None:
    """Then the record says that it is to be reported."""
    table = SlotTable()
    table.reserve("j0", leaving=True)
    claim = Thread(target=table.reserve, args=("j0",))
    claim.start()
    claim.join(0.05)
    assert claim.is_alive()
    table.free("j0")
    claim.join(10)
    assert table.job_ids() == {"j0"}


@pytest.mark.parametrize(
    ("notify", "notices"),
    [(["a@b.c", "lab-chat"], {"j0 1", "j0 2"}), (None, set()), ("a@b.c", set()), ([7], set())],
)
def test_a_job_that_ends_in_its_queue_tells_of_it(notify: Any, notices: set[str]) -> None:
    """Whatever its message says there, which nobody has read as a job yet."""
    desk = Desk()
    told = message.task_message("j0", {"image": "b", "notify": notify}, queue="celery", tag="t", origin="1@here")
    desk.records.submit([jobrecord.New("j0", "celery", told, {})])
    desk.records.cancel_many(["j0"], reason="a wrong input")
    assert desk.ends.end(desk.records.end_requests(HOST), more=False) == 1
    assert desk.records.notices == notices
