"""The report of a host: the fields that other hosts and the command line read."""

from __future__ import annotations

import json

import pytest

from celery_docker.background import report
from celery_docker.background.duties import Duties
from celery_docker.background.intake import Intake
from celery_docker.background.report import HostReport
from celery_docker.core.hoststate import WorkerState
from celery_docker.run.slottable import SlotTable
from celery_docker.store.listing import WorkerRow, state_of
from tests.fakes.engine import FakeEngine
from tests.fakes.records import FakeRecords


class Host:
    """A worker without a job, as far as its report goes."""

    def __init__(self) -> None:
        self.intake = Intake()
        runner, records, engine = SlotTable(), FakeRecords(), FakeEngine()
        self.duties = Duties(
            runner,  # type: ignore[arg-type]  # as much of a runner as a report looks at
            records,
            engine,
            self.intake,
            host="node1",
            slots=2,
            retention_s=60,
            environ={},
            end_queued=lambda jobs, more: 0,
        )
        self.report = HostReport(
            "m1", "celery-worker", 2, "Docker 26.1", running=lambda: 0, queues=lambda: ["b", "a"], activity=self.duties
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


def test_a_host_that_takes_no_jobs_says_why(host: Host) -> None:
    host.duties.serving()
    host.intake.close("disk", "the disk of /logs is full")
    current = host.report()
    assert (current["phase"], current["accepting"]) == ("serving", False)
    assert current["status"] == "Takes no jobs: the disk of /logs is full; 0 jobs running"
    assert host.state() is WorkerState.SICK
    host.intake.open("disk")
    assert host.state() is WorkerState.READY


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
