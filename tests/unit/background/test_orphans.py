"""Containers that no slot looks after: what is done about each, with Docker and Redis in memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background import orphans
from celery_docker.background.orphans import Orphans
from celery_docker.core import container, message
from celery_docker.core.container import LABEL_ATTEMPT, LABEL_HOST, LABEL_JOB
from celery_docker.core.jobrecord import Holding, Ownership
from celery_docker.core.lifecycle import State, Tally
from celery_docker.core.plan import ContainerPlan
from tests.fakes.engine import FakeEngine, Script, says
from tests.fakes.records import FakeRecords
from tests.waiting import eventually

HOST, OTHER, JOB, NAME = "node1", "node2", "j1", "run-j1"


@dataclass
class House:
    """A host whose containers outlived their slots; `slots` are the jobs that have one."""

    engine: FakeEngine = field(
        default_factory=lambda: FakeEngine({"long": Script(until_released=True), "short": says(exit_code=3)})
    )
    records: FakeRecords = field(default_factory=FakeRecords)
    slots: set[str] = field(default_factory=set)
    delivered: list[Mapping[str, Any]] = field(default_factory=list)
    serving: list[bool] = field(default_factory=list)

    def orphans(self) -> Orphans:
        return Orphans(
            self.engine,
            self.records,
            HOST,
            find=lambda job_id: job_id if job_id in self.slots else None,
            deliver=self.delivered.append,
            is_serving=self.serving.pop,
            interval_s=0.001,
        )

    def sweep(self, after_s: float = 120) -> None:
        self.orphans().sweep(datetime.now(UTC) + timedelta(seconds=after_s))

    def container(
        self,
        image: str = "long",
        name: str = NAME,
        *,
        started: bool = True,
        changed: Mapping[str, str | None] | None = None,
    ) -> str:
        """Make a container with a job's labels, of which some are changed, or left out (None)."""
        values = {LABEL_JOB: JOB, LABEL_HOST: HOST, LABEL_ATTEMPT: "1", **(changed or {})}
        labels = {key: value for key, value in values.items() if value is not None}
        container_id = self.engine.create(ContainerPlan(name, {"Image": image, "Labels": labels}))
        if started:
            self.engine.start(container_id)
        return container_id

    def claimed(self, host: str = HOST, **kwargs: Any) -> int:
        """Let a host own the job; return the fence."""
        envelope = message.task_message(JOB, {"image": "x", **kwargs}, queue="celery", tag="t1", origin="")
        return self.records.claim(JOB, host=host, queue="celery", envelope=envelope).fence

    def finished(self, host: str = HOST) -> None:
        fence = self.claimed(host)
        self.records.finish(Holding(JOB, host, fence), State.SUCCEEDED, {"id": JOB})

    def queued(self) -> None:
        fence, envelope = self.claimed(), message.task_message(JOB, {}, queue="celery", tag="t2", origin="")
        self.records.requeue(Holding(JOB, HOST, fence, "celery", envelope), delay_s=0, tally=Tally(), attempts=())


@pytest.fixture
def house(caplog: pytest.LogCaptureFixture) -> House:
    caplog.set_level("INFO", logger=orphans.__name__)
    return House()


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what was logged about the job."""
    return [(record.levelname, record.getMessage()) for record in caplog.records if record.__dict__.get("job") == JOB]


def test_a_job_that_its_slot_lost_is_delivered_again(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """With its own arguments and a new tag; the container is not touched."""
    house.container()
    house.claimed()
    house.sweep()
    assert [message.arguments(envelope)[1] for envelope in house.delivered] == [{"image": "x"}]
    assert house.delivered[0]["headers"]["id"] == JOB
    assert house.delivered[0]["properties"]["delivery_tag"] != "t1"
    assert house.engine.names() == [NAME]
    assert lines(caplog) == [("WARNING", f"container {NAME} is in no slot: its job is taken over again")]


def test_a_job_whose_message_is_lost_is_delivered_all_the_same(house: House) -> None:
    house.container()
    house.claimed()
    del house.records.jobs[JOB]["message"]
    house.sweep()
    assert [envelope["headers"]["id"] for envelope in house.delivered] == [JOB]


def test_a_result_that_was_not_told_is_delivered_too(house: House) -> None:
    """The slot tells it, and removes the container."""
    house.container("short")
    house.finished()
    house.sweep()
    assert len(house.delivered) == 1
    assert house.engine.names() == [NAME]


@pytest.mark.parametrize("image", ["long", "short"])
def test_what_an_ended_job_left_is_removed(house: House, caplog: pytest.LogCaptureFixture, image: str) -> None:
    house.container(image)
    house.finished()
    house.records.settle(JOB, host=HOST, retention_s=60)
    house.sweep()
    assert house.engine.names() == []
    assert house.delivered == []
    assert lines(caplog) == [("INFO", f"container {NAME} is removed: its job has ended (succeeded)")]


def test_what_a_queued_job_left_is_removed(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Its next attempt has a container of its own, here or elsewhere."""
    house.container()
    house.queued()
    house.sweep()
    assert house.engine.names() == []
    assert lines(caplog) == [("INFO", f"container {NAME} is removed: its job waits in the queue again")]


def test_the_container_of_a_job_that_another_host_has_now_is_removed(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.container()
    house.claimed(OTHER)
    house.sweep()
    assert house.engine.names() == []
    assert lines(caplog) == [("INFO", f"container {NAME} is removed: its job belongs to host {OTHER} now")]


@pytest.mark.parametrize(("options", "grace_s"), [({}, 10), ({"stop_grace": 77}, 77), ({"nonsense": 1}, 10)])
def test_it_is_stopped_with_the_grace_that_the_job_asked_for(
    house: House, monkeypatch: pytest.MonkeyPatch, options: dict[str, int], grace_s: int
) -> None:
    graces: list[int] = []
    monkeypatch.setattr(house.engine, "stop", lambda container_id, *, signal=None, grace_s: graces.append(grace_s))
    house.container()
    house.claimed(OTHER, **options)
    house.sweep()
    assert graces == [grace_s]
    assert house.engine.names() == []


def test_one_that_cannot_be_killed_holds_up_no_other(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It hangs in the kernel, say on a file server that is gone; it is waited for, and not ended a second time."""
    stuck = house.container()
    house.container(name="run-j2", changed={LABEL_JOB: "j2"})
    envelope = message.task_message("j2", {"image": "x"}, queue="celery", tag="t2", origin="")
    house.claimed(OTHER, stop_grace=0)
    house.records.claim("j2", host=OTHER, queue="celery", envelope=envelope)
    server_is_back, stops, really = threading.Event(), list[str](), house.engine.stop

    def stop(container_id: str, *, signal: str | None = None, grace_s: int) -> None:
        stops.append(container_id)
        assert container_id != stuck or server_is_back.wait(60)
        really(container_id, signal=signal, grace_s=grace_s)

    monkeypatch.setattr(house.engine, "stop", stop)
    watch = replace(house.orphans(), timeout_s=0)
    for _ in range(2):
        watch.sweep(datetime.now(UTC) + timedelta(minutes=2))
    eventually(lambda: house.engine.names() == [NAME])
    assert stops.count(stuck) == len(lines(caplog)) == 1
    server_is_back.set()
    eventually(lambda: house.engine.names() == [])


def test_a_running_container_of_an_unknown_job_is_left_alone_and_named_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    container_id = house.container()
    watch = house.orphans()
    for _ in range(3):
        watch.sweep(datetime.now(UTC) + timedelta(days=30))
    stray = house.engine.inspect(container_id)
    assert stray is not None
    assert stray.status is container.Status.RUNNING
    advice = "it is left running; stop it with: docker stop run-j1"
    assert lines(caplog) == [("WARNING", f"container {NAME} belongs to no known job; {advice}")]


@pytest.mark.parametrize(
    ("started", "end"), [(True, "ended long ago with exit code 3"), (False, "never ran")], ids=["ended", "created"]
)
def test_one_that_does_not_run_is_removed_after_an_hour(
    house: House, caplog: pytest.LogCaptureFixture, started: bool, end: str
) -> None:
    house.container("short", started=started)
    house.sweep(after_s=3500)
    assert (house.engine.names(), lines(caplog)) == ([NAME], [])
    house.sweep(after_s=3700)
    assert house.engine.names() == []
    assert lines(caplog) == [("INFO", f"container {NAME} is removed: it belongs to no known job and {end}")]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        (NAME, {LABEL_HOST: OTHER}),
        (NAME, {LABEL_HOST: None}),
        (NAME, {LABEL_HOST: HOST + "0"}),
        (NAME, {LABEL_JOB: None}),
        (NAME, {LABEL_ATTEMPT: None}),
    ],
)
def test_what_is_not_ours_is_not_touched(house: House, name: str, labels: dict[str, str | None]) -> None:
    house.container(name=name, changed=labels)
    house.finished()
    house.records.settle(JOB, host=HOST, retention_s=60)
    house.sweep()
    assert house.engine.names() == [name]
    assert not {"inspect", "stop", "remove"} & set(house.engine.calls)


def test_what_was_made_of_an_image_of_a_jobs_container_is_not_touched(house: House) -> None:
    """Somebody has run `docker commit`: the image hands the labels on."""
    house.engine.images["copy"] = Script(until_released=True, labels={LABEL_JOB: JOB})
    house.container(image="copy", name="web")
    house.finished()
    house.records.settle(JOB, host=HOST, retention_s=60)
    house.sweep()
    assert house.engine.names() == ["web"]


def test_a_container_that_somebody_renamed_is_removed_too(house: House) -> None:
    house.container(name="x")
    house.finished()
    house.records.settle(JOB, host=HOST, retention_s=60)
    house.sweep()
    assert house.engine.names() == []


def test_a_young_one_is_not_touched(house: House) -> None:
    """Its slot may not have it yet."""
    house.container()
    house.claimed(OTHER)
    house.sweep(after_s=50)
    assert house.engine.names() == [NAME]


def test_one_in_a_slot_is_not_touched(house: House) -> None:
    house.container()
    house.slots = {JOB}
    house.sweep()
    assert (house.engine.names(), house.delivered) == ([NAME], [])


@pytest.mark.parametrize(("before", "after"), [(set[str](), {JOB}), ({JOB}, set[str]())], ids=["takes", "leaves"])
def test_one_that_a_slot_takes_or_leaves_while_its_record_is_read_is_not_touched(
    house: House, monkeypatch: pytest.MonkeyPatch, before: set[str], after: set[str]
) -> None:
    """The state in the record may be over already."""
    house.container()
    house.slots = before
    house.claimed()
    read = house.records.ownerships

    def ownerships(job_ids: list[str], *, host: str) -> dict[str, Ownership | None]:
        house.slots = after
        return read(job_ids, host=host)

    monkeypatch.setattr(house.records, "ownerships", ownerships)
    house.sweep()
    assert (house.engine.names(), house.delivered) == ([NAME], [])


def test_one_that_is_gone_by_now_is_nobody_s_business(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its slot was just done with it."""
    house.container()
    house.finished()
    house.records.settle(JOB, host=HOST, retention_s=60)
    monkeypatch.setattr(house.engine, "inspect", lambda name: None)
    house.sweep()
    assert lines(caplog) == []


@pytest.mark.parametrize(
    ("method", "failure"),
    [("containers", errors.EngineAway()), ("ownerships", errors.StoreAway()), ("inspect", errors.EngineAway())],
)
def test_nothing_is_done_while_redis_or_docker_is_away(house: House, method: str, failure: Exception) -> None:
    house.container()
    house.claimed(OTHER)
    for world in (house.engine, house.records):
        world.failures = {method: [failure]}
    with pytest.raises(type(failure)):
        house.sweep()
    assert house.engine.names() == [NAME]


def test_it_counts_the_running_containers_of_unknown_jobs(house: House) -> None:
    orphans_here, later = house.orphans(), datetime.now(UTC) + timedelta(seconds=120)
    before_the_first: int | None = orphans_here.unknown
    assert before_the_first is None, "nobody has looked yet"
    house.container("long", NAME)
    house.container("short", "run-j2", changed={LABEL_JOB: "j2"})
    for _ in range(2):
        orphans_here.sweep(later)
        assert orphans_here.unknown == 1
    house.engine.failures["containers"] = [errors.EngineAway("gone")]
    with pytest.raises(errors.EngineAway):
        orphans_here.sweep(later)
    assert orphans_here.unknown == 1
    house.slots.add(JOB)
    orphans_here.sweep(later)
    assert orphans_here.unknown == 0


def test_it_looks_again_and_again_and_ends_when_the_worker_leaves(house: House) -> None:
    """Whatever happened at an earlier look."""
    house.engine.failures = {"containers": [errors.EngineAway(), RuntimeError("a bug")]}
    house.serving = [False, True, True, True]
    before = threading.active_count()
    house.orphans().start()
    eventually(lambda: threading.active_count() == before)
    assert house.engine.calls == [*["containers"] * 3, "prune_volumes"]
    assert house.serving == []


def test_a_replaced_container_is_another_one(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """The warning is once for each, not once for each name."""
    watch, later = house.orphans(), datetime.now(UTC) + timedelta(minutes=5)
    for _ in range(2):
        container_id = house.container()
        watch.sweep(later)
        house.engine.remove(container_id)
    assert len(lines(caplog)) == 2
