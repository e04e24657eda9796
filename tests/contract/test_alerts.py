"""The shipped alerts, judged by promtool: series of a real Redis in each trouble fire the right one, and no other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_docker.client import exposition, metrics
from celery_docker.core.jobrecord import New
from celery_docker.core.lifecycle import State
from celery_docker.store import jobstore, keys
from celery_docker.store.figurequeries import FigureQueries
from celery_docker.store.hosts import HostStore
from celery_docker.store.jobstore import Store
from tests import servers
from tests.conftest import require
from tests.contract.records.worlds import RECEIPT, envelope, held

ALERTS = Path(__file__).parents[2] / "docs" / "prometheus" / "alerts.yml"
HOST, QUEUE = "node1", "celery"
REPORT: dict[str, Any] = {
    "phase": "serving",
    "accepting": True,
    "queues": [QUEUE],
    "slots": 2,
    "running": 0,
    "sick": [],
    "unknown_containers": 0,
    "pulls": {"done": 0, "failed": 0},
}


@dataclass
class House:
    """A Redis with a host, and what Prometheus would have scraped of it, once a minute."""

    store: Store
    minutes: int = 0
    series: dict[str, list[str]] = field(default_factory=dict)
    began: float = 0.0
    jobs: int = 0

    def beat(self, **report: Any) -> None:
        HostStore(self.store.link).beat(HOST, machine="m", about={**REPORT, **report})

    def submit(self, count: int, queue: str = QUEUE) -> list[str]:
        names = [f"j{number}" for number in range(self.jobs, self.jobs + count)]
        self.jobs += count
        self.store.submit([New(name, queue, envelope(job_id=name), {"image": "busybox"}) for name in names])
        return names

    def end(self, state: State, count: int = 1) -> None:
        for name in self.submit(count):
            claim = self.store.claim(name, host=HOST, queue=QUEUE, envelope=envelope(job_id=name))
            receipt = {**RECEIPT, "id": name, "state": state.value}
            self.store.finish(held(claim.fence, HOST, name), state, receipt)
            self.store.settle(name, host=HOST, retention_s=60)
        self.store.link.client.delete(QUEUE, keys.WAITING)

    def scrape(self, minutes: int = 1, *, is_away: bool = False) -> None:
        """Let Prometheus see for so many minutes what there is now."""
        read = None if is_away else FigureQueries(self.store.link).read()
        self.began = self.began or (read.now if read else 0.0)
        values = {}
        for family in text_string_to_metric_families(exposition.text(metrics.of(read)).decode()):
            for sample in family.samples:
                labels = {**sample.labels, "job": "celery-docker", "instance": "gateway1"}
                name = f"{sample.name}{{{','.join(f'{key}={json.dumps(value)}' for key, value in labels.items())}}}"
                # The tests of promtool begin at the time 0.
                values[name] = sample.value - (self.began if sample.name.endswith("_timestamp_seconds") else 0)
        for name in values.keys() | self.series.keys():
            line = self.series.setdefault(name, ["_"] * self.minutes)
            # As Prometheus has it of what a scrape has no more.
            line += [repr(values[name]) if name in values else "stale"] * minutes
        self.minutes += minutes


@pytest.fixture
def house(redis_server: servers.RedisServer) -> Iterator[House]:
    require("prometheus", "" if shutil.which("promtool") else "promtool is not installed; apt install prometheus")
    with closing(jobstore.connect(redis_server.url)) as store:
        made = House(store)
        made.beat()
        yield made
        store.link.client.flushdb()


def firing(house: House, tmp_path: Path, expected: dict[str, dict[str, str]]) -> str:
    """Return the complaints of promtool, if not just these alerts fire in the last minute; empty if they do."""
    samples = [
        {
            "labels": "ALERTS{"
            + ",".join(
                f'{key}="{value}"' for key, value in {"alertname": name, "alertstate": "firing", **labels}.items()
            )
            + "}",
            "value": 1,
        }
        for name, labels in expected.items()
    ]
    series = [{"series": name, "values": " ".join(values)} for name, values in house.series.items()]
    question = {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{house.minutes - 1}m", "exp_samples": samples}
    test = {"interval": "1m", "input_series": series, "promql_expr_test": [question]}
    (tmp_path / "test.yml").write_text(
        json.dumps({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]})
    )
    made = subprocess.run(
        ["promtool", "test", "rules", str(tmp_path / "test.yml")], capture_output=True, text=True, check=False
    )
    return "" if made.returncode == 0 else made.stdout + made.stderr


def killed(house: House) -> None:
    house.scrape(10)
    house.store.link.client.zincrby(keys.HOSTS, -60, HOST)
    house.scrape(3)


def stopped(house: House) -> None:
    house.scrape(10)
    assert HostStore(house.store.link).leave(HOST)
    house.scrape(7)


def docker_down(house: House) -> None:
    house.beat(accepting=False, sick=["docker"], status="Takes no jobs: Docker is away; 0 jobs running")
    house.scrape(4)


def disk_full(house: House) -> None:
    house.beat(accepting=False, sick=["disk"])
    house.scrape(7)


def drained(house: House) -> None:
    house.store.drain(HOST, "root: new disk")
    house.scrape(24 * 60 + 2)


def orphans(house: House) -> None:
    house.beat(unknown_containers=3)
    house.scrape(12)


def unserved(house: House) -> None:
    house.submit(3, "nowhere")
    house.scrape(7)


def old(house: House) -> None:
    (name,) = house.submit(1)
    house.store.link.client.zincrby(keys.WAITING, -4000, name)
    house.scrape(7)


def full(house: House) -> None:
    for _ in range(90):
        house.beat()
        house.submit(1)
        house.scrape()


def failing(house: House) -> None:
    house.end(State.SUCCEEDED, 4)
    house.scrape()
    for _ in range(14):
        house.beat()
        house.end(State.FAILED, 2)
        house.end(State.CANCELLED, 3)
        house.end(State.SUCCEEDED)
        house.scrape()


def few_failing(house: House) -> None:
    house.end(State.SUCCEEDED, 4)
    house.scrape()
    for _ in range(14):
        house.beat()
        house.end(State.FAILED)
        house.end(State.SUCCEEDED, 3)
        house.scrape()


def lost(house: House) -> None:
    house.end(State.SUCCEEDED)
    house.scrape(2)
    house.end(State.LOST)
    house.scrape(2)


def no_pulls(house: House) -> None:
    for failed in range(14):
        house.beat(pulls={"done": 2, "failed": failed})
        house.scrape()


def some_pulls(house: House) -> None:
    for failed in range(14):
        house.beat(pulls={"done": failed // 4, "failed": failed})
        house.scrape()


def redis_away(house: House) -> None:
    house.scrape(10)
    house.scrape(4, is_away=True)


def no_metrics(house: House) -> None:
    house.scrape()
    house.scrape(20, is_away=True)
    for name, values in house.series.items():
        house.series[name] = values[:1] + ["stale"] * 20


_HOST, _QUEUE = {"host": HOST}, {"queue": QUEUE}
CRITICAL, WARNING = {"severity": "critical"}, {"severity": "warning"}


@pytest.mark.parametrize(
    ("trouble", "alerts"),
    [
        (lambda house: house.scrape(60), {}),
        (killed, {"CeleryDockerWorkerDown": {**_HOST, **CRITICAL}}),
        (stopped, {"CeleryDockerWorkerStopped": {**_HOST, **WARNING}}),
        (docker_down, {"CeleryDockerDockerDown": {**_HOST, **CRITICAL}}),
        (
            disk_full,
            {"CeleryDockerDiskFull": {**_HOST, **CRITICAL}, "CeleryDockerHostSick": {**_HOST, **WARNING}},
        ),
        (drained, {"CeleryDockerHostDrained": {**_HOST, "severity": "info"}}),
        (orphans, {"CeleryDockerUnknownContainers": {**_HOST, **WARNING}}),
        (unserved, {"CeleryDockerQueueUnserved": {"queue": "nowhere", **CRITICAL}}),
        (old, {"CeleryDockerQueueOld": {**_QUEUE, **WARNING}}),
        (full, {"CeleryDockerQueueFull": {**_QUEUE, **WARNING}}),
        (failing, {"CeleryDockerJobsFail": {**_QUEUE, **WARNING}}),
        (few_failing, {}),
        (lost, {"CeleryDockerJobsLost": {**_QUEUE, **WARNING}}),
        (no_pulls, {"CeleryDockerPullsFail": {**_HOST, **WARNING}}),
        (some_pulls, {}),
        (redis_away, {"CeleryDockerRedisDown": CRITICAL}),
        (no_metrics, {"CeleryDockerNoMetrics": CRITICAL}),
    ],
    ids=lambda value: getattr(value, "__name__", "").replace("<lambda>", "well"),
)
def test_a_trouble_fires_its_alert_and_no_other(
    house: House, tmp_path: Path, trouble: Callable[[House], None], alerts: dict[str, dict[str, str]]
) -> None:
    trouble(house)
    assert firing(house, tmp_path, alerts) == ""


def test_the_rules_are_in_order(house: House) -> None:
    made = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr


def test_what_does_not_fire_is_told(house: House, tmp_path: Path) -> None:
    """The test of the tests: promtool compares."""
    killed(house)
    assert "CeleryDockerWorkerDown" in firing(house, tmp_path, {})


def test_the_metrics_are_in_order(house: House) -> None:
    """Those whose names others chose are not of our making."""
    families = metrics.of(FigureQueries(house.store.link).read())
    text = exposition.text(family for family in families if family.metric.name.startswith("celery_docker_"))
    made = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (made.returncode, made.stderr) == (0, b"")
