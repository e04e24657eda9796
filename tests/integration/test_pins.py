"""Jobs of users with closed homes, and of those who swap folders, with a real worker and Docker."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_docker.core.access import Identity
from celery_docker.core.joblogs import JobLogs
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.policy import Policy
from tests import servers
from tests.integration.test_home import make_image
from tests.integration.test_opener import ALICE, lab, swapped
from tests.integration.test_worker import RESULT_S, WAIT, Plain
from tests.waiting import eventually
from tests.workers.opener import Asking
from tests.workers.registry import Registry
from tests.workers.worker import Worker

__all__ = ["lab"]

SAY = "cat /input/notes 2>/dev/null || ls /input"


@pytest.fixture
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd, lab: Path) -> Iterator[Worker]:
    """A worker for which the lab is all that there is."""
    worker = Worker(redis_server.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0")
    worker.policy.write_text(f'mounts = ["{lab}"]\nnetworks = ["none"]\n')
    with worker:
        yield worker
        eventually(lambda: worker.opener.mounts() == worker.opener.pinned() == [], 20, "no pin left by the test")
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def plain(redis_server: servers.RedisServer, worker: Worker) -> Iterator[Plain]:
    submitter = Plain(redis_server.url)
    yield submitter
    submitter.app.close()


def test_a_closed_home_is_input_output_and_log(plain: Plain, lab: Path) -> None:
    home = lab / "alice"
    receipt = plain.succeed(
        "busybox",
        ["sh", "-c", "cat /input; id -u; echo x > /output/new"],
        user=str(ALICE),
        inputpath=f"{home}/notes",
        outputpath=str(home),
        logoutfile=f"{home}/logs/out",
        logerrfile=f"{home}/logs/err",
    )
    assert receipt["output"] == f"of alice{ALICE}\n"
    assert (home / "logs/out").read_text() == f"of alice{ALICE}\n"
    for name in ("new", "logs", "logs/out", "logs/err"):
        assert (home / name).stat().st_uid == ALICE


@pytest.mark.parametrize("field", ["inputpath", "outputpath", "logoutfile"])
def test_the_closed_home_of_another_is_closed(plain: Plain, lab: Path, field: str) -> None:
    line, receipt = plain.fail("busybox", "cat /input", user=str(ALICE), **{field: f"{lab}/bob/notes"})
    assert receipt["state"] == "rejected"
    assert "may not look at" in line or "Permission denied" in line
    assert (lab / "bob/notes").read_text() == "of bob"


def test_a_file_is_an_input_and_root_needs_no_name(plain: Plain, lab: Path) -> None:
    receipt = plain.succeed(
        "busybox",
        ["sh", "-c", "cat /input; touch /output/new; touch /input 2>/dev/null || echo closed"],
        inputpath=f"{lab}/bob/notes",
        outputpath=f"{lab}/alice",
        logoutfile=f"{lab}/job.log",
    )
    assert receipt["output"] == "of bobclosed\n"
    assert ((lab / "alice/new").stat().st_uid, (lab / "job.log").stat().st_uid) == (0, os.geteuid())


def test_a_folder_that_is_swapped_while_jobs_start(plain: Plain, lab: Path) -> None:
    place = lab / "data"
    place.mkdir()
    (place / "notes").write_text("data")
    with swapped(place, lab.parent / "secret"):
        sent = [plain.send("busybox", ["sh", "-c", SAY], inputpath=str(place), retries=0) for _ in range(12)]
        for result in sent:
            result.get(timeout=RESULT_S, propagate=False)
    outputs = [result.result["output"] for result in sent if result.state == "SUCCESS"]
    assert set(outputs) <= {"data"}


def test_a_folder_that_is_swapped_during_a_pull(plain: Plain, worker: Worker, lab: Path, registry: Registry) -> None:
    """The place was looked at before, and Docker looks after."""
    place = lab / "data"
    place.mkdir()
    (place / "notes").write_text("data")
    registry.speaks.clear()
    sent = plain.send(f"{registry.address}/slow:1", ["sh", "-c", SAY], inputpath=str(place))
    eventually(worker.opener.mounts, 60, "its pin")
    place.rename(lab / "moved")
    place.symlink_to(lab.parent / "secret")
    registry.speaks.set()
    assert sent.get(timeout=RESULT_S)["output"] == "data"


def test_a_log_that_is_swapped_before_an_adoption(plain: Plain, worker: Worker, lab: Path) -> None:
    place = lab / "logs"
    place.mkdir()
    command = ["sh", "-c", f"echo line; {WAIT}"]
    sent = plain.send("busybox", command, outputpath=f"{lab}/alice", logoutfile=f"{place}/job.log", retries=0)
    eventually(lambda: (place / "job.log").exists() and (place / "job.log").read_text(), 60, "its first line")
    worker.kill()
    place.rename(lab / "moved")
    place.symlink_to(lab.parent / "secret")
    worker.start()
    error = sent.get(timeout=RESULT_S, propagate=False)
    assert "a link is in the way to the log file" in str(error)
    assert os.listdir(lab.parent / "secret") == ["notes"]


def test_an_image_does_not_say_where_a_log_goes(
    plain: Plain, worker: Worker, dockerd: servers.Dockerd, lab: Path
) -> None:
    """A container has the labels of its image: whoever follows it after a crash would have root write there."""
    place, output = lab.parent / "secret/of-the-image", lab / "alice"
    ((name, text),) = JobLogs(str(place), None, Identity("root", 0, 0, (0,))).labels.items()
    image = make_image(dockerd, "telling", {}, f"LABEL {name}={json.dumps(text)}")
    command = ["sh", "-c", f"touch /output/on; {WAIT}; echo done"]
    sent = plain.send(image, command, outputpath=str(output), pull="never")
    eventually((output / "on").exists, 60, "its start")
    worker.kill()
    (output / "go").touch()
    worker.start()
    assert sent.get(timeout=RESULT_S)["output"] == "done\n"
    assert not place.exists()


def test_worker_and_opener_are_killed_in_the_middle(plain: Plain, worker: Worker, lab: Path) -> None:
    """The next worker adopts what runs, and lets go of what nobody needs."""
    left = Asking(worker.opener.socket, os.uname().nodename, Policy(mounts=(str(lab),)))
    command = ["sh", "-c", f"touch /output/on; {WAIT}; cat /input/notes"]
    sent = plain.send("busybox", command, inputpath=f"{lab}/bob", outputpath=f"{lab}/alice")
    eventually((lab / "alice/on").exists, 60, "the job to run")
    (job_id,) = worker.opener.pinned()
    left.pin("left-behind", JobSpec("busybox", inputpath=f"{lab}/alice"))
    worker.kill()
    worker.opener.kill()
    worker.opener.start()
    worker.start()
    eventually(lambda: worker.opener.pinned() == [job_id], 60, "the pin of nobody to go")
    (lab / "alice/go").touch()
    assert sent.get(timeout=RESULT_S)["output"] == "of bob"


def test_without_the_opener_jobs_with_paths_wait(plain: Plain, worker: Worker, lab: Path) -> None:
    """Others run; and the job runs once it is there."""
    away = worker.opener.socket.with_name("away")
    worker.opener.socket.rename(away)
    sent = plain.send("busybox", ["cat", "/input/notes"], inputpath=f"{lab}/bob", retries=0)
    eventually(lambda: sent.state == "RETRY", 60, "the job to be put off")
    assert "celery-docker-open" in str(sent.result)
    assert plain.succeed("busybox", "echo next")["output"] == "next\n"
    away.rename(worker.opener.socket)
    assert sent.get(timeout=RESULT_S)["output"] == "of bob"
