"""The duties of a worker besides running jobs: its status line, and the measuring of running containers."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background import duties
from celery_docker.background.intake import Intake
from celery_docker.core.hoststate import Phase
from celery_docker.core.jobrecord import TO_END_AT_ONCE, JobToEnd, New
from celery_docker.core.lifecycle import EndRequest
from celery_docker.core.outlook import Outlook
from celery_docker.core.receipt import Attempt
from celery_docker.host import systemd
from tests.fakes.records import FakeRecords
from tests.waiting import eventually


@dataclasses.dataclass
class Running:
    """As much of a job as the node looks at."""

    attempt: Attempt
    job_id: str
    is_followed: bool = True
    end_request: EndRequest | None = None


class Jobs:
    """As much of a runner as the node looks at."""

    def __init__(self, count: int) -> None:
        now = datetime.now(UTC)
        self.list = [
            Running(Attempt(1, "node1", now, container_id=f"c{number}"), f"{number:08x}-0d3f-4c6e-9a41-7f2b3c4d5e6f")
            for number in range(count)
        ]
        self.noted: list[str] = []

    def jobs(self) -> list[Running]:
        return self.list

    def note_image(self, job: Running) -> None:
        self.noted.append(job.job_id)
        if job is self.list[0]:
            raise errors.Fenced

    def find(self, job_id: str) -> None:
        """None of those with an end request is in a slot."""


@pytest.fixture
def notices(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str | int]]:
    """Return the list that gets each notice to systemd."""
    notifications: list[dict[str, str | int]] = []

    def notify(_environ: object, **variables: str | int) -> bool:
        notifications.append(variables)
        return True

    monkeypatch.setattr(systemd, "notify", notify)
    return notifications


def made(jobs: int = 0, slots: int = 4, **changed: Any) -> duties.Duties:
    parts = {"runner": Jobs(jobs), "records": FakeRecords(), "intake": Intake()}
    arguments: dict[str, Any] = {**parts, **changed}
    environ = arguments.pop("environ", {})
    end_queued = arguments.pop("end_queued", lambda jobs, more: 0)
    return duties.Duties(
        **arguments, host="node1", slots=slots, retention_s=3600, environ=environ, end_queued=end_queued
    )


@pytest.mark.parametrize(
    ("jobs", "slots", "status"),
    [
        (0, 4, "0 jobs running, 4 of 4 slots free"),
        (1, 4, "1 job running, 3 of 4 slots free"),
        (3, 4, "3 jobs running, 1 of 4 slots free"),
        # After a restart with fewer slots all jobs are supervised all the same.
        (5, 4, "5 jobs running, 0 of 4 slots free"),
    ],
)
def test_ready_comes_with_the_slots(notices: list[dict[str, str | int]], jobs: int, slots: int, status: str) -> None:
    made(jobs, slots).serving()
    assert notices == [{"READY": 1, "STATUS": status}]


@pytest.mark.parametrize(
    ("jobs", "waits_for"),
    [
        (0, "0 running jobs"),
        (1, "1 running job (00000000)"),
        (3, "3 running jobs (00000000, 00000001, 00000002)"),
        (4, "4 running jobs (00000000, 00000001, 00000002, ...)"),
    ],
)
def test_a_stop_says_what_it_waits_for(notices: list[dict[str, str | int]], jobs: int, waits_for: str) -> None:
    made(jobs).stopping()
    assert notices == [{"STOPPING": 1, "STATUS": f"Stopping: waiting for {waits_for}, taking no more"}]


def test_the_status_says_why_no_jobs_are_taken(notices: list[dict[str, str | int]]) -> None:
    intake = Intake()
    worker = made(2, intake=intake)
    worker.serving()
    intake.close("docker", "Docker is away")
    worker._report()
    intake.open("docker")
    worker._report()
    ready = "2 jobs running, 2 of 4 slots free"
    assert [pairs["STATUS"] for pairs in notices] == [ready, "Takes no jobs: Docker is away; 2 jobs running", ready]


def test_the_status_and_two_lines_of_the_log_say_that_redis_is_away(
    notices: list[dict[str, str | int]], caplog: pytest.LogCaptureFixture
) -> None:
    """Two lines however long it is away: it is asked every second."""
    away = errors.StoreAway("cannot reach Redis at redis://r/0: refused")
    worker = made(1, records=FakeRecords(failures={"look": [away] * 3}))
    worker.serving()
    with caplog.at_level("INFO", logger=duties.__name__):
        for _ in range(5):
            worker._look()
            worker._report()
    ready = "1 job running, 3 of 4 slots free"
    assert [pairs["STATUS"] for pairs in notices] == [ready, f"Takes no jobs: {away}; 1 job running", ready]
    assert caplog.messages == [f"takes no jobs: {away}; 1 job running", "Redis answers again"]


def test_it_serves_until_it_is_told_to_stop(notices: list[dict[str, str | int]]) -> None:
    worker = made()
    phases = [worker.is_serving]
    worker.serving()
    phases.append(worker.is_serving)
    worker.stopping()
    assert [*phases, worker.is_serving] == [False, True, False]


def test_systemd_is_told_what_has_changed_and_only_that(notices: list[dict[str, str | int]]) -> None:
    jobs = Jobs(1)
    worker = made(runner=jobs)
    worker._report()
    assert notices == [], "nothing before it serves"
    worker.serving()
    worker._report()
    jobs.list.clear()
    worker._report()
    assert [pairs["STATUS"] for pairs in notices] == [
        "1 job running, 3 of 4 slots free",
        "0 jobs running, 4 of 4 slots free",
    ]


def test_what_systemd_could_not_be_told_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """READY=1 must not get lost: without it systemd ends the worker."""
    notifications: list[dict[str, str | int]] = []

    def busy_once(_environ: object, **variables: str | int) -> bool:
        notifications.append(variables)
        return len(notifications) > 1

    monkeypatch.setattr(systemd, "notify", busy_once)
    worker = made()
    worker.serving()
    worker._report()
    worker._report()
    assert notifications == [{"READY": 1, "STATUS": "0 jobs running, 4 of 4 slots free"}] * 2


def test_start_runs_every_duty_and_stop_ends_them(notices: list[dict[str, str | int]]) -> None:
    records = FakeRecords()
    before = threading.active_count()
    worker = made(records=records, environ={"WATCHDOG_USEC": "30000"})
    worker.start()
    worker.serving()
    eventually(lambda: {"look", "forget_expired"} <= set(records.calls))
    eventually(lambda: any("WATCHDOG" in pairs for pairs in notices))
    worker.stop()
    eventually(lambda: threading.active_count() == before)


@dataclasses.dataclass
class Clock:
    """A clock that stands still but for those who sleep; `after` has what happens during the nth sleep."""

    now_s: float = 100.0
    sleeps: int = 0
    after: dict[int, Callable[[], object]] = dataclasses.field(default_factory=dict)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        self.sleeps += 1
        self.after.get(self.sleeps, lambda: None)()


def cancelled(count: int) -> FakeRecords:
    records = FakeRecords()
    job_ids = [f"j{number}" for number in range(count)]
    records.submit([New(job_id, "celery", {}, {}) for job_id in job_ids])
    records.cancel_many(job_ids, reason="a wrong input")
    return records


@dataclasses.dataclass
class Slot:
    """A slot that is busy in one of the ways before which the end of queued jobs takes a step back."""

    jobs: Jobs
    intake: Intake

    def is_busy(self, how: str, value: bool) -> None:
        if how == "a job starts or ends":
            self.jobs.list[0].is_followed = not value
        else:
            self.intake.is_dropping = value


@pytest.mark.parametrize("how", ["a job starts or ends", "cancelled messages are passed"])
@pytest.mark.parametrize("is_short", [True, False])
def test_a_busy_slot_goes_before_the_next_portion_of_queued_jobs_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, how: str, is_short: bool
) -> None:
    clock, slot = Clock(), Slot(Jobs(1), Intake())
    monkeypatch.setattr(duties, "time", clock)
    slot.is_busy(how, True)
    if is_short:
        clock.after[3] = lambda: slot.is_busy(how, False)
    records, portions = cancelled(TO_END_AT_ONCE + 1), []

    def end(jobs: Sequence[JobToEnd], more: bool) -> int:
        portions.append((clock.sleeps, more))
        records.marked.difference_update(job.job_id for job in jobs)
        return len(jobs)

    worker = made(runner=slot.jobs, intake=slot.intake, records=records, end_queued=end)
    worker._phase = Phase.SERVING
    worker._carry_out_end_requests()
    slept = clock.sleeps
    assert portions == [(0, True), (slept, False)]
    assert (slept == 3) is is_short
    assert slept >= 3


def test_what_a_look_finds_is_done_or_passed_on(notices: list[dict[str, str | int]]) -> None:
    records, heard = cancelled(1), list[Outlook]()
    ended: list[str] = []

    def end(jobs: Sequence[JobToEnd], more: bool) -> int:
        ended.extend(job.job_id for job in jobs)
        records.marked.clear()
        return len(jobs)

    records.delayed["j9"] = records.expiring["j8"] = 0
    worker = made(records=records, end_queued=end, heed=heard.append)
    worker.serving()
    worker.start()
    eventually(lambda: ended == ["j0"])
    worker.stop()
    assert heard[0].is_due
    assert heard[0].has_expired
    assert (records.calls.count("publish_due"), records.calls.count("expire_due")) == (1, 1)


def test_a_job_whose_image_cannot_be_noted_holds_up_no_other() -> None:
    """Another host has it meanwhile, for instance."""
    jobs = Jobs(3)
    made(runner=jobs)._note_images()
    assert jobs.noted == [job.job_id for job in jobs.list]


class Starting(Jobs):
    """A runner with one job that Docker takes its time to start: its end waits for that."""

    def __init__(self) -> None:
        super().__init__(0)
        self.job = Running(Attempt(1, "node1", datetime.now(UTC)), "j0")
        self.requests: list[EndRequest] = []
        self.is_started = threading.Event()

    def find(self, job_id: str) -> Any:
        return self.job

    def end(self, job: Running, request: EndRequest) -> None:
        self.requests.append(request)
        self.is_started.wait(20)


def test_the_end_of_a_job_that_docker_does_not_start_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for every second, for as long as Docker is away: a thread each would be thousands in an hour."""
    threads = list[threading.Thread]()

    def made_thread(**parts: Any) -> threading.Thread:
        threads.append(threading.Thread(**parts))
        return threads[-1]

    monkeypatch.setattr(duties, "Thread", made_thread)
    starting = Starting()
    worker = made(runner=starting, records=cancelled(1))
    for _ in range(3):
        worker._carry_out_end_requests()
    assert len(threads) == 1
    starting.is_started.set()
    threads[0].join(20)
    worker._carry_out_end_requests()
    assert len(threads) == 2, "asked for again: nothing says that it was heard"
    threads[1].join(20)
    assert len(starting.requests) == 2
