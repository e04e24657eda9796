"""Flower, the monitor that most people use, in front of a real worker: it shows what happens, on every page."""

from __future__ import annotations

import html
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
from celery.result import AsyncResult

from tests import servers
from tests.conftest import require
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]

FLOWER = "flower==2.2.0"
CELERY = "celery[redis]==5.7.0"
_INSTALL_S = 300


class Flower:
    """Flower as a process of its own on a free port, with its pages at hand."""

    def __init__(self, python: Path, url: str, folder: Path) -> None:
        self._python, self._broker = python, url
        self._log = folder / "flower.log"
        self._port = servers.free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def get(self, path: str) -> str:
        """Return a page that has to be there."""
        status, text = self.ask("GET", path)
        assert status == 200, f"{path}: {status} {text[:500]}"
        return text

    def json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """Return status and text of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request(method, path, headers={"Content-Length": "0"})
        answer = connection.getresponse()
        status, text = answer.status, answer.read().decode()
        connection.close()
        return status, text

    @property
    def log(self) -> str:
        return self._log.read_text()

    def _answers(self) -> bool:
        try:
            return self.ask("GET", "/healthcheck") == (200, "OK")
        except OSError:
            return False

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(self._python), "-m", "celery", "-b", self._broker, "--result-backend", self._broker),
                    *("flower", f"--port={self._port}", "--address=127.0.0.1", "--inspect_timeout=5000"),
                ],
                env={"PATH": "/usr/bin:/bin", "FLOWER_UNAUTHENTICATED_API": "true"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._log.parent,
            )
        eventually(self._answers, 60, "Flower to answer")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        if value is not None:
            value.add_note(self.log[-4000:])
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has Flower, and nothing of ours."""
    venv = tmp_path_factory.mktemp("flower")
    subprocess.run([sys.executable, "-m", "venv", venv], check=True, timeout=_INSTALL_S)
    pip = [str(venv / "bin" / "pip"), "install", "--quiet", FLOWER, CELERY]
    installed = subprocess.run(pip, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    require("flower", "" if installed.returncode == 0 else f"pip cannot install it: {installed.stderr[-500:]}")
    return venv / "bin" / "python"


@pytest.fixture
def flower(python: Path, worker: Worker, clean_redis: servers.RedisServer, tmp_path: Path) -> Iterator[Flower]:
    with Flower(python, clean_redis.url, tmp_path) as process:
        eventually(lambda: process.json("/api/workers?refresh=true"), RESULT_S, "Flower to know the worker")
        yield process
        assert "Traceback" not in process.log
        assert "Traceback" not in worker.log


def state(flower: Flower, sent: AsyncResult) -> str:
    status, text = flower.ask("GET", f"/api/task/info/{sent.id}")
    return str(json.loads(text)["state"]) if status == 200 else ""


def until(flower: Flower, sent: AsyncResult, status: str) -> None:
    eventually(lambda: state(flower, sent) == status, RESULT_S, f"Flower to show {sent.id} as {status}")


def test_every_page_of_a_worker_is_there(flower: Flower, plain: Plain, folder: Path) -> None:
    running = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, RESULT_S, "the job to run")
    (name,) = flower.json("/api/workers")
    page = flower.get(f"/worker/{name}")
    tabs = ("pool", "broker", "queues", "tasks", "limits", "config", "system")
    assert [tab for tab in tabs if f'id="tab-{tab}"' not in page] == []
    assert running.id in page, "the job that runs there"
    assert ">celery<" in page, "its queue"
    about = flower.json(f"/api/workers?workername={name}")[name]
    assert {"stats", "active_queues", "registered", "conf"} <= about.keys()
    for path in ("/", "/workers", "/workers?json=1", "/tasks", "/broker", "/api/task/types", "/api/queues/length"):
        assert flower.get(path)
    assert f'flower_worker_online{{worker="{name}"}} 1.0' in flower.get("/metrics")
    (folder / "go").touch()
    running.get(timeout=RESULT_S)


def test_the_page_of_a_job_says_what_its_record_says(flower: Flower, plain: Plain, folder: Path) -> None:
    cancelled = plain.app.send_task("tasks.run_docker", ["busybox", "true"], countdown=3600)
    until(flower, cancelled, "RECEIVED")
    plain.app.control.revoke(cancelled.id)
    running = plain.send("busybox", ["sh", "-c", WAIT], outputpath=str(folder))
    failed = plain.send("busybox", ["sh", "-c", "echo no such column; exit 3"], retries=0)
    jobs = {
        "SUCCESS": plain.send("busybox", "echo fine"),
        "FAILURE": failed,
        "STARTED": running,
        "REVOKED": cancelled,
        "RECEIVED": plain.app.send_task("tasks.run_docker", ["busybox", "true"], countdown=3600),
    }
    for status, sent in jobs.items():
        until(flower, sent, status)
        page = flower.get(f"/task/{sent.id}")
        assert sent.id in page
        assert f">{status}</span>" in page
        assert flower.json(f"/api/task/result/{sent.id}")["task-id"] == sent.id
    assert {sent.id for sent in jobs.values()} <= set(flower.json("/api/tasks"))
    page = html.unescape(flower.get(f"/task/{failed.id}"))
    assert "failed: exit code 3" in page
    assert "<code>no such column\n</code>" in page
    assert "celery_docker" not in page, "our call stack"
    (folder / "go").touch()
    running.get(timeout=RESULT_S)


def test_a_job_is_revoked_by_a_click(flower: Flower, plain: Plain, folder: Path) -> None:
    sent = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, RESULT_S, "the job to run")
    assert flower.ask("POST", f"/api/task/revoke/{sent.id}?terminate=true")[0] == 200
    until(flower, sent, "REVOKED")
    assert sent.state == "REVOKED"
