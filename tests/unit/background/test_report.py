"""The report of a host: the fields that other hosts and the command line read."""

from __future__ import annotations

import json

import pytest

from celery_docker.background import report
from celery_docker.background.duties import Duties
from celery_docker.background.intake import Intake
from celery_docker.background.report import HostReport
from celery_docker.core import hostreport, roomwords
from celery_docker.core.admission import Offer, Room
from celery_docker.core.hoststate import WorkerState
from celery_docker.run.slottable import SlotTable
from celery_docker.store.listing import WorkerRow, state_of
from tests.fakes.records import FakeRecords

OFFER = Offer(2500, 8 * 2**30, ("0", "1"))


class Host:
    """A worker without a job, as far as its report goes."""

    def __init__(self) -> None:
        self.intake, self.room = Intake(), OFFER.whole
        self.running: list[str] = []
        self.unknown: int | None = None
        runner, records = SlotTable(), FakeRecords()
        self.duties = Duties(
            runner,  # type: ignore[arg-type]  # as much of a runner as a report looks at
            records,
            self.intake,
            host="node1",
            slots=2,
            retention_s=60,
            environ={},
            end_queued=lambda jobs, more: 0,
            scarce=lambda: roomwords.scarce(self.room, OFFER),
        )
        self.report = HostReport(
            "m1",
            "celery-worker",
            2,
            "Docker 26.1",
            OFFER,
            free=lambda: self.room,
            running=lambda: self.running,
            queues=lambda: ["b", "a"],
            activity=self.duties,
            sick=lambda: ["docker"],
            unknown_containers=lambda: self.unknown,
            pulls=lambda: (3, 1),
        )

    def state(self) -> WorkerState:
        """Return the state of this host as its reader sees it, past Redis."""
        return state_of(WorkerRow("node1", 1.0, 0.0, 0, json.loads(json.dumps(self.report())), None, False))


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_host_that_serves(host: Host) -> None:
    host.duties.serving()
    current = host.report()
    assert (current["phase"], current["accepting"]) == ("serving", True)
    assert (current["slots"], current["running"], current["queues"], current["docker"]) == (
        2,
        0,
        ["a", "b"],
        "Docker 26.1",
    )
    assert host.state() is WorkerState.READY


@pytest.mark.parametrize(
    ("room", "free", "status"),
    [
        (OFFER.whole, {"cpus": 2.5, "memory": 2**33, "gpus": 2}, ""),
        (Room(1250, 2**30, 1), {"cpus": 1.25, "memory": 2**30, "gpus": 1}, ""),
        (
            Room(312, 2**30 - 1, 0),
            {"cpus": 0.312, "memory": 2**30 - 1, "gpus": 0},
            "; little room: 0.312 of 2.5 CPUs, 1 of 8 GiB, 0 of 2 GPUs",
        ),
        # Jobs that were adopted take more than an administrator offers now.
        (Room(-500, -(2**30), 1), {"cpus": 0.0, "memory": 0, "gpus": 1}, "; little room: 0 of 2.5 CPUs, 0 of 8 GiB"),
    ],
)
def test_a_host_reports_its_offer_and_what_is_free(host: Host, room: Room, free: dict[str, float], status: str) -> None:
    host.duties.serving()
    host.room = room
    current = hostreport.parse(json.dumps(host.report()))
    assert (current["offer"], current["free"]) == ({"cpus": 2.5, "memory": 2**33, "gpus": ["0", "1"]}, free)
    assert current["status"] == f"0 jobs running, 2 of 2 slots free{status}"
    assert hostreport.offer(current) == OFFER
    assert hostreport.room(current) == Room(max(room.millicpus, 0), max(room.memory_bytes, 0), room.gpus)


def test_a_host_that_takes_no_jobs_says_why(host: Host) -> None:
    host.duties.serving()
    host.intake.close("disk", "the disk of /logs is full")
    current = host.report()
    assert (current["phase"], current["accepting"]) == ("serving", False)
    assert current["status"] == "Takes no jobs: the disk of /logs is full; 0 jobs running"
    assert host.state() is WorkerState.SICK
    host.intake.open("disk")
    assert host.state() is WorkerState.READY


def test_a_host_reports_what_metrics_say_of_it(host: Host) -> None:
    host.running = ["a", "b\x06\x169", "b"]
    current = hostreport.parse(json.dumps(host.report()))
    assert (current["running"], current["running_by_queue"]) == (3, {"a": 1, "b": 2})
    assert (current["sick"], current["pulls"]) == (["docker"], {"done": 3, "failed": 1})
    assert "unknown_containers" not in current, "nobody has looked yet"
    host.unknown = 2
    assert hostreport.parse(json.dumps(host.report()))["unknown_containers"] == 2


@pytest.mark.parametrize("counts", [[], {"a": -1}, {"a": True}, {"a": "1"}, 3, {str(n): 1 for n in range(1001)}])
def test_counts_that_are_none_are_left_out(counts: object) -> None:
    assert hostreport.parse(json.dumps({"running_by_queue": counts, "pulls": counts, "pid": 1})) == {"pid": 1}


def test_a_host_from_its_start_to_its_end(host: Host) -> None:
    phases = [host.report()["phase"]]
    host.duties.serving()
    phases.append(host.report()["phase"])
    host.duties.stopping()
    assert [*phases, host.report()["phase"]] == ["starting", "serving", "stopping"]
    assert host.state() is WorkerState.STOPPING


def test_the_version_is_that_of_the_start(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upgrade replaces the package's files under a worker that runs on."""
    before = host.report()["version"]
    monkeypatch.setattr(report, "version", lambda: "9.9")
    assert host.report()["version"] == before
