"""An administrator's hand on the container of a job, with a real worker, Redis and Docker."""

from __future__ import annotations

import json
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from celery.result import AsyncResult

from celery_docker.client.client import Client
from tests import servers
from tests.integration.test_worker import RESULT_S, WAIT, Plain, clean_redis, folder, plain, worker
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "folder", "plain", "worker"]

AGAIN = "its container was started again by somebody else"
# Each run of the job writes a line, and waits until its test lets it end.
JOB = f"echo run >> /output/runs; echo here; {WAIT}; echo done"


def runs(folder: Path) -> int:
    file = folder / "runs"
    return len(file.read_text().splitlines()) if file.exists() else 0


def sent(plain: Plain, folder: Path, command: str = JOB, **kwargs: Any) -> AsyncResult:
    log = str(folder / "job.log")
    document = {"command": ["sh", "-c", command], "outputpath": str(folder), "logoutfile": log, "user": "root"}
    result = plain.send(image="busybox", **{**document, **kwargs})
    eventually(lambda: runs(folder) == 1, RESULT_S, "the job to run")
    return result


def call(dockerd: servers.Dockerd, method: str, path: str, body: object = None) -> None:
    status, answer = dockerd.request(method, path, None if body is None else json.dumps(body).encode())
    assert status < 300, answer


def receipt_of(result: AsyncResult) -> dict[str, Any]:
    receipt: dict[str, Any] = result.get(timeout=RESULT_S)
    return receipt


def test_a_restarted_container_is_followed(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd
) -> None:
    """The job ends with it, its log has what both runs printed, and the receipt says what happened."""
    job = sent(plain, folder, retries=0)
    call(dockerd, "POST", f"/containers/run-{job.id}/restart?t=5")
    eventually(lambda: runs(folder) == 2, RESULT_S, "the second run")
    (folder / "go").touch()
    receipt = receipt_of(job)
    assert (receipt["state"], receipt["reason"], receipt["exit_code"]) == ("succeeded", AGAIN, 0)
    assert (folder / "job.log").read_text() == "here\nhere\ndone\n"
    assert runs(folder) == 2


def test_a_renamed_container_is_followed_by_the_next_worker(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd
) -> None:
    """It runs once, and is removed under its new name."""
    job = sent(plain, folder, retries=0)
    call(dockerd, "POST", f"/containers/run-{job.id}/rename?name=renamed")
    worker.hand_over()
    assert worker.wait() == 0
    worker.start()
    (folder / "go").touch()
    assert receipt_of(job)["state"] == "succeeded"
    assert (folder / "job.log").read_text() == "here\ndone\n"
    assert runs(folder) == 1


def test_a_container_that_was_removed_while_no_worker_ran_is_not_run_again(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd
) -> None:
    job = sent(plain, folder, retries=0)
    worker.kill()
    call(dockerd, "DELETE", f"/containers/run-{job.id}?force=1")
    worker.start()
    error = job.get(timeout=RESULT_S, propagate=False)
    assert "error: its container was removed by somebody else, so its end is unknown" in str(error)
    assert runs(folder) == 1


def test_jobs_keep_their_ends_under_a_prune_in_a_loop(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd
) -> None:
    """`docker container prune` takes away what has just ended, and what is about to start."""
    over = Event()

    def prune() -> None:
        while not over.wait(0.05):
            dockerd.request("POST", "/containers/prune")

    thread = Thread(target=prune, daemon=True)
    thread.start()
    try:
        jobs = [
            plain.send("busybox", ["sh", "-c", f"echo run >> /output/{number}"], outputpath=str(folder), user="root")
            for number in range(30)
        ]
        receipts = [receipt_of(job) for job in jobs]
    finally:
        over.set()
        thread.join()
    assert {receipt["state"] for receipt in receipts} == {"succeeded"}
    assert {(folder / str(number)).read_text() for number in range(30)} == {"run\n"}


def test_a_container_that_docker_is_told_to_restart_runs_once(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd
) -> None:
    """`docker update --restart=always`; the job closes its output before its end, so its end is waited for."""
    job = sent(plain, folder, f"echo run >> /output/runs; exec >/dev/null 2>&1; {WAIT}; exit 3", retries=0)
    call(dockerd, "POST", f"/containers/run-{job.id}/update", {"RestartPolicy": {"Name": "always"}})
    (folder / "go").touch()
    assert f"failed: exit code 3; {AGAIN}" in str(job.get(timeout=RESULT_S, propagate=False))


def test_a_paused_container_is_cancelled(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd, clean_redis: servers.RedisServer
) -> None:
    job = sent(plain, folder)
    call(dockerd, "POST", f"/containers/run-{job.id}/pause")
    Client(clean_redis.url).cancel(job.id)
    eventually(lambda: dockerd.containers() == [], RESULT_S, "the end of the paused container")


@pytest.mark.parametrize("path", ["kill?signal=USR2", "update"])
def test_a_hand_that_ends_nothing_changes_nothing(
    worker: Worker, plain: Plain, folder: Path, dockerd: servers.Dockerd, path: str
) -> None:
    """A signal that asks for news is no order to end, for the next worker neither."""
    command = f"trap : USR2; echo run >> /output/runs; {WAIT}; exit 3"
    job = sent(plain, folder, command, retries=0)
    call(dockerd, "POST", f"/containers/run-{job.id}/{path}", {"Memory": 2**28, "MemorySwap": 2**28})
    worker.kill()
    worker.start()
    (folder / "go").touch()
    assert "failed: exit code 3 " in str(job.get(timeout=RESULT_S, propagate=False))
