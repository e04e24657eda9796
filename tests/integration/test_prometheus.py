"""The answers of the gateway for monitors, and a Prometheus of Debian that scrapes the figures of a real worker."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import subprocess
import urllib.parse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import pytest
from prometheus_client.parser import text_string_to_metric_families

from celery_docker.client.client import Client
from tests import servers
from tests.conftest import require
from tests.gateways import Gateway, ask
from tests.integration.test_worker import Plain, clean_redis, folder, plain, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]

ALERTS = Path(__file__).parents[2] / "docs" / "prometheus" / "alerts.yml"
# A host that was killed is silent after 30 s.
FIRING_S = 90


@pytest.fixture
def gateway(clean_redis: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(clean_redis.url) as gateway:
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


def over_tcp(gateway: Gateway, target: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Ask without a token; return status, headers and text."""
    with closing(http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)) as connection:
        connection.request(method, target, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def figures(gateway: Gateway) -> dict[str, float]:
    """Return all samples by name and labels."""
    status, _, text = over_tcp(gateway, "/metrics")
    assert status == 200
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def figure(gateway: Gateway, name: str, **labels: str) -> float | None:
    return figures(gateway).get(name + json.dumps(labels, sort_keys=True))


def test_monitors_need_no_token_and_no_name(gateway: Gateway) -> None:
    status, headers, text = over_tcp(gateway, "/metrics", Authorization="Bearer wrong")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b"\ncelery_docker_redis_up 1.0\n" in text
    for path in ("/healthz", "/api/v1/healthz"):
        status, headers, text = over_tcp(gateway, path)
        assert (status, headers["Content-Type"], json.loads(text)["status"]) == (200, "application/json", "ok")
        assert ask(gateway.path, "GET", path)[0] == 200
    assert ask(gateway.path, "GET", "/metrics")[0] == 200
    status, headers, text = over_tcp(gateway, "/metrics", "HEAD")
    assert (status, text) == (200, b"")
    assert int(headers["Content-Length"]) > 100


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_what_no_monitor_asks_is_refused(gateway: Gateway, path: str) -> None:
    assert ask(gateway.path, "POST", path)[0] == 405
    assert ask(gateway.path, "GET", f"{path}/")[0] == 404
    # Nobody without a name learns what else there is.
    assert over_tcp(gateway, path, "POST")[0] == 401
    assert over_tcp(gateway, f"{path}/")[0] == 401
    assert over_tcp(gateway, f"{path}?x=1")[0] == 400
    assert over_tcp(gateway, path, Host="evil.example")[0] == 421


def test_a_redis_that_hangs_or_is_gone_is_told() -> None:
    with servers.RedisServer() as own, Gateway(own.url) as gateway:
        assert over_tcp(gateway, "/healthz")[0] == 200
        own.pause()
        try:
            status, headers, text = over_tcp(gateway, "/healthz")
            assert (status, headers["Retry-After"]) == (503, "2")
            assert json.loads(text)["kind"] == "StoreAway"
            assert figures(gateway) == {"celery_docker_redis_up{}": 0}
        finally:
            own.resume()
        eventually(lambda: over_tcp(gateway, "/healthz")[0] == 200, 10, "Redis to be back")
        eventually(lambda: figure(gateway, "celery_docker_redis_up") == 1, 10, "figures to be back")
        own.end()
        assert over_tcp(gateway, "/healthz")[0] == 503
        eventually(lambda: figures(gateway) == {"celery_docker_redis_up{}": 0}, 10, "Redis to be gone")


def test_the_figures_of_a_real_worker(gateway: Gateway, worker: Worker, plain: Plain) -> None:
    with closing(Client(worker.environ["CELERY_DOCKER_BROKER_URL"])) as client:
        for command in ("true", "false"):
            client.submit("busybox", command, retries=0).wait()
        client.submit("busybox", "true", queue="nowhere")
        (host,) = [row.host for row in client.queries.hosts.rows()]
    eventually(lambda: figure(gateway, "celery_docker_host_docker_up", host=host) == 1, 20, "a whole report")
    there = figures(gateway)

    def value(name: str, **labels: str) -> float:
        return there[name + json.dumps(labels, sort_keys=True)]

    for kind in ("succeeded", "failed"):
        assert value("celery_docker_jobs_ended_total", **{"queue": "celery", "class": kind}) == 1
    assert value("celery_docker_jobs_started_total", queue="celery") == 2
    assert value("celery_docker_job_run_seconds_count", queue="celery") == 2
    assert value("celery_docker_job_queue_seconds_count", queue="celery") == 2
    assert value("celery_docker_queue_jobs", queue="nowhere", state="listed") == 1
    assert value("celery_docker_queue_hosts", queue="celery") == 1
    assert value("celery_docker_queue_hosts", queue="nowhere") == 0
    assert value("celery_docker_host_slots", host=host) == 2
    assert value("celery_docker_host_cpus_offered", host=host) > 0
    assert value("celery_docker_host_memory_bytes_offered", host=host) > 2**20
    assert value("celery_worker_up", hostname=host) == 1


class Prometheus:
    """Debian's Prometheus on a port and in a folder of its own, which scrapes and judges each second."""

    def __init__(self, folder: Path, target: int, rules: str) -> None:
        self.port = servers.free_port()
        self._folder = folder
        (folder / "rules.yml").write_text(rules)
        (folder / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                    "rule_files": [str(folder / "rules.yml")],
                    "scrape_configs": [
                        {"job_name": "celery-docker", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
                    ],
                }
            )
        )

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "prometheus", "--log.level=warn"),
                    f"--config.file={self._folder}/prometheus.yml",
                    f"--storage.tsdb.path={self._folder}/data",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                ],
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression; none while it does not answer."""
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
                connection.request("GET", f"/api/v1/query?{urllib.parse.urlencode({'query': expression})}")
                rows: list[dict[str, Any]] = json.loads(connection.getresponse().read())["data"]["result"]
        except (OSError, KeyError, ValueError):
            return []
        return rows

    def until(self, alert: str, **labels: str) -> None:
        """Wait until an alert fires."""
        selector = ",".join(f'{key}="{value}"' for key, value in {"alertname": alert, **labels}.items())
        log = self._folder / "log"
        eventually(
            lambda: self.query(f'ALERTS{{alertstate="firing",{selector}}}'),
            FIRING_S,
            f"{alert} to fire; {self.query('ALERTS')}; log: {log.read_text()[-2000:]}",
        )


@pytest.fixture
def prometheus(gateway: Gateway, tmp_path: Path) -> Iterator[Prometheus]:
    """Prometheus with the alerts that are shipped, but for how long something has to last: seconds, not minutes."""
    require("prometheus", "" if shutil.which("prometheus") else "it is not installed; apt install prometheus")
    shortened = re.sub(r"for: \d+[mhd]$", "for: 1s", ALERTS.read_text(), flags=re.MULTILINE)
    with Prometheus(tmp_path, gateway.port, shortened.replace("[30m]", "[10s]")) as server:
        eventually(lambda: server.query("celery_docker_redis_up"), 30, "the first scrape")
        yield server


def test_a_real_prometheus_sees_a_stopped_worker_and_a_full_queue(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, prometheus: Prometheus
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_CONCURRENCY="1") as worker:
        eventually(lambda: prometheus.query("celery_docker_host_up == 1"), 30, "the worker to be seen")
        assert prometheus.query('ALERTS{alertstate="firing"}') == []
        with closing(Client(clean_redis.url)) as client:
            (host,) = [row.host for row in client.queries.hosts.rows()]
            running = client.submit("busybox", "sleep 600")
            eventually(lambda: running.state == "running", 30, "the first to run")

            def grow() -> bool:
                client.submit("busybox", "true")
                return bool(prometheus.query('ALERTS{alertstate="firing",alertname="CeleryDockerQueueFull"}'))

            eventually(grow, FIRING_S, "the full queue to fire")
            worker.kill()
            prometheus.until("CeleryDockerWorkerDown", host=host, severity="critical")
            prometheus.until("CeleryDockerQueueUnserved", queue="celery")
            client.cancel_many([row.job_id for row in client.queries.jobs.each_live()])
        worker.start()
        eventually(
            lambda: not prometheus.query('ALERTS{alertstate="firing",alertname="CeleryDockerWorkerDown"}'),
            FIRING_S,
            "the alert to end",
        )
        eventually(lambda: dockerd.containers() == [], 30, "the containers to end")
        worker.terminate()
        worker.wait()
        prometheus.until("CeleryDockerWorkerStopped", host=host)
