"""The report of a host: the fields that other hosts and the command line read."""

from __future__ import annotations

import json

import pytest

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
            slots=2,
            retention_s=60,
            environ={},
            end_queued=lambda jobs, more: 0,
        )
        self.report = HostReport(
            "m1", 2, "Docker 26.1", running=lambda: 0, queues=lambda: ["b", "a"], activity=self.duties
        )

    def state(self) -> WorkerState:
        """Return the state of this host as its reader sees it, past Redis."""
        return state_of(WorkerRow("node1", 1.0, 0.0, 0, json.loads(json.dumps(self.report())), None, False))


@pytest.fixture
def host() -> Host:
    return Host()


def test_a_host_that_serves(host: Host) -> None:
    host.duties.serving()
    report = host.report()
    assert (report["phase"], report["accepting"]) == ("serving", True)
    assert (report["slots"], report["running"], report["queues"], report["docker"]) == (2, 0, ["a", "b"], "Docker 26.1")
    assert host.state() is WorkerState.READY


def test_a_host_that_takes_no_jobs_says_why(host: Host) -> None:
    host.duties.serving()
    host.intake.close("disk", "the disk of /logs is full")
    report = host.report()
    assert (report["phase"], report["accepting"]) == ("serving", False)
    assert report["status"] == "Takes no jobs: the disk of /logs is full; 0 jobs running"
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
