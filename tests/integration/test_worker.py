"""The worker as a whole: a real process between a real Redis and a real Docker, spoken to by a plain Celery client."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult

from celery_docker.client.client import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.store.listing import Load, Match
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import ROOT, Worker

RESULT_S = 60
# A container that goes on until its test says so.
WAIT = "until [ -e /output/go ]; do sleep 0.05; done"


class Plain:
    """A submitter that has nothing but Celery and the broker's URL."""

    def __init__(self, url: str) -> None:
        self.app = Celery(broker=url, backend=url, set_as_current=False)

    def send(self, *args: Any, **kwargs: Any) -> AsyncResult:
        return self.app.send_task("tasks.run_docker", args=args, kwargs=kwargs)

    def succeed(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        result: dict[str, Any] = self.send(*args, **kwargs).get(timeout=RESULT_S)
        return result

    def fail(self, *args: Any, **kwargs: Any) -> tuple[str, dict[str, Any]]:
        """Return the line and the receipt of a job that must not succeed."""
        result = self.send(*args, **kwargs)
        error = result.get(timeout=RESULT_S, propagate=False)
        assert result.state == "FAILURE"
        return str(error), result.backend.get_task_meta(result.id)["receipt"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user's container may write to, below a root that the policy allows."""
    path = Path(tempfile.mkdtemp(prefix="cdt-job-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def clean_redis(redis_server: servers.RedisServer) -> Iterator[servers.RedisServer]:
    yield redis_server
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def worker(clean_redis: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0") as process:
        yield process
        eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")


@pytest.fixture
def plain(clean_redis: servers.RedisServer) -> Iterator[Plain]:
    submitter = Plain(clean_redis.url)
    yield submitter
    submitter.app.close()


def queue_length(server: servers.RedisServer) -> int:
    with server.client() as client:
        return int(client.llen("celery"))


def test_a_docker_that_is_too_old_keeps_the_worker_down(
    clean_redis: servers.RedisServer, plain: Plain, dockerd: servers.Dockerd, old_dockerd: servers.Dockerd
) -> None:
    """One line says what to do, and the job stays for the worker that comes then."""
    sent = plain.send("busybox", "true")
    worker = Worker(clean_redis.url, dockerd, CELERY_DOCKER_DOCKER_HOST=old_dockerd.url)
    try:
        worker.launch()
        assert worker.wait() == 69
        assert worker.log.splitlines() == [
            f"celery-worker: Docker at {old_dockerd.url} is too old: it speaks API 1.40, and 1.41 is the least; "
            "install Docker 20.10 or later"
        ]
        assert queue_length(clean_redis) == 1
        assert old_dockerd.containers() == []
        worker.start({"CELERY_DOCKER_DOCKER_HOST": dockerd.url})
        assert sent.get(timeout=RESULT_S)["state"] == "succeeded"
    finally:
        worker.stop()


def test_a_job_that_waits_for_its_retry_holds_no_slot(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="600", CELERY_DOCKER_CONCURRENCY="1"):
        failing = plain.send("busybox", "false")
        eventually(lambda: failing.state == "RETRY", 20, "the failing job to wait for its retry")
        assert plain.succeed("busybox", "echo next")["output"] == "next\n"


def test_queued_jobs_stay_in_redis_while_all_slots_are_busy(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer, folder: Path
) -> None:
    sent = [
        plain.send("busybox", ["sh", "-c", WAIT.replace("output", "input")], inputpath=str(folder)) for _ in range(6)
    ]
    eventually(lambda: queue_length(clean_redis) == 4, 20, "two jobs in slots, four in the queue")
    eventually(lambda: worker.status == "2 jobs running, 0 of 2 slots free", 10, "the status to say so")
    (folder / "go").touch()
    assert {result.get(timeout=RESULT_S)["state"] for result in sent} == {"succeeded"}


def test_a_stop_waits_for_the_running_job(worker: Worker, plain: Plain, folder: Path) -> None:
    sent = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, 20, "the job to run")
    worker.terminate()
    eventually(lambda: worker.status.startswith("Stopping: waiting for 1 running"), 10, "the status to say so")
    assert worker.process is not None
    assert worker.process.poll() is None
    (folder / "go").touch()
    assert worker.wait() == 0
    assert sent.get(timeout=RESULT_S)["state"] == "succeeded"


def test_a_job_that_outlasts_the_stop_is_queued_again_with_its_retries_untouched(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_SYSTEMD_TIMEOUT="1") as worker:
        script = f"echo run >> /output/runs; {WAIT}"
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), retries=0)
        eventually((folder / "runs").exists, 20, "the job to run")
        worker.terminate()
        assert worker.wait() == 0
        assert dockerd.containers() == []
        assert sent.state == "RETRY"
        (folder / "go").touch()
        worker.start()
        receipt = sent.get(timeout=RESULT_S)
    assert [entry["exit_code"] for entry in receipt["attempts"]] == [143, 0]
    assert "was stopped" in receipt["attempts"][0]["reason"]
    assert (folder / "runs").read_text() == "run\n" * 2


def test_a_job_that_ends_well_on_the_stop_signal_is_not_run_again(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """Exit code 0 is the job's own word that it is done; it may have been just about to end."""
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_SYSTEMD_TIMEOUT="1") as worker:
        script = f"trap 'exit 0' TERM; echo run >> /output/runs; {WAIT}"
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder))
        eventually((folder / "runs").exists, 20, "the job to run")
        worker.terminate()
        assert worker.wait() == 0
    receipt = sent.get(timeout=RESULT_S)
    assert (receipt["state"], len(receipt["attempts"])) == ("succeeded", 1)


@pytest.mark.parametrize("ends", ["before the next worker", "under the next worker"])
def test_a_stop_that_a_worker_began_before_it_was_killed_leaves_the_retries_untouched(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path, ends: str
) -> None:
    """The exit code is our doing, whoever learns of it."""
    script = (
        "[ -e /output/runs ] && exit; echo run >> /output/runs;"
        " trap 'touch /output/told; until [ -e /output/end ]; do sleep 0.05; done; exit 1' TERM;"
        f" {WAIT}"
    )
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_SYSTEMD_TIMEOUT="1") as worker:
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), retries=0, stop_grace=60)
        eventually((folder / "runs").exists, 20, "the job to run")
        worker.terminate()
        eventually((folder / "told").exists, 20, "the container to be stopped")
        worker.kill()
        if ends == "under the next worker":
            worker.start()
            eventually(lambda: "taken over" in worker.log, 20, "its adoption")
        (folder / "end").touch()
        eventually(lambda: not dockerd.running(), 20, "its end")
        if ends == "before the next worker":
            worker.start()
        receipt = sent.get(timeout=RESULT_S)
    assert [entry["exit_code"] for entry in receipt["attempts"]] == [1, 0]
    assert receipt["attempts"][0]["reason"] == "its container was stopped before this worker took it over"


def test_a_handover_lets_the_container_run_on(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """SIGHUP, which is what `systemctl reload` sends: the worker goes at once, the job does not notice."""
    log = folder / "job.log"
    script = "echo run >> /output/runs; i=0; until [ -e /output/go ]; do i=$((i+1)); echo line $i; sleep 0.02; done"
    with Worker(clean_redis.url, dockerd) as worker:
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), logoutfile=str(log))
        eventually(log.exists, 20, "the log")
        for _ in range(3):
            size_before = log.stat().st_size
            eventually(lambda size_before=size_before: log.stat().st_size > size_before, 20, "more lines")  # type: ignore[misc]
            worker.hand_over()
            assert worker.wait() == 0
            worker.start()
        (folder / "go").touch()
        receipt = sent.get(timeout=RESULT_S)
    assert (folder / "runs").read_text() == "run\n"
    lines = log.read_text().splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert receipt["stdout_bytes"] == log.stat().st_size
    assert len(receipt["attempts"]) == 1


def test_after_a_kill_the_next_worker_takes_over_the_container(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """The container outlives its worker; the next one adopts it and the log has every line once."""
    wait = "until [ -e /output/$i ]; do sleep 0.05; done"
    script = f"echo run >> /output/runs; for i in 1 2 3; do echo line $i; {wait}; done"
    log = folder / "job.log"
    with Worker(clean_redis.url, dockerd) as worker:
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), logoutfile=str(log))
        eventually(lambda: log.exists() and log.read_text() == "line 1\n", 20, "the first line")
        worker.kill()
        (folder / "1").touch()
        worker.start()
        eventually(lambda: "line 2\n" in log.read_text(), 20, "the second line")
        (folder / "2").touch()
        (folder / "3").touch()
        receipt = sent.get(timeout=RESULT_S)
    assert (folder / "runs").read_text() == "run\n"
    assert log.read_text() == receipt["output"] == "line 1\nline 2\nline 3\n"
    assert dockerd.containers() == []


@pytest.mark.parametrize("exit_code", [7, 143, 255])
def test_what_ended_while_no_worker_ran_is_harvested(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path, exit_code: int
) -> None:
    """Docker stood by: what a restart of it would leave behind is the job's own exit code."""
    with Worker(clean_redis.url, dockerd) as worker:
        script = f"echo run >> /output/runs; {WAIT}; exit {exit_code}"
        sent = plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), retries=0)
        eventually((folder / "runs").exists, 20, "the job to run")
        worker.kill()
        (folder / "go").touch()
        eventually(lambda: dockerd.request("GET", "/containers/json")[1].strip() == b"[]", 20, "the container to end")
        worker.start()
        error = sent.get(timeout=RESULT_S, propagate=False)
    assert str(error).startswith(f"failed: exit code {exit_code}")
    assert (folder / "runs").read_text() == "run\n"


def test_more_jobs_than_slots_are_all_taken_over_before_anything_new_starts(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """The administrator has lowered the concurrency: every container goes on, and the queue waits."""
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_CONCURRENCY="3") as worker:
        script = f"echo run >> /output/runs; {WAIT}"
        sent = [plain.send("busybox", ["sh", "-c", script], outputpath=str(folder)) for _ in range(4)]
        runs = folder / "runs"
        eventually(lambda: runs.exists() and runs.read_text() == "run\n" * 3, 20, "three jobs to run")
        worker.kill()
        worker.start({"CELERY_DOCKER_CONCURRENCY": "1"})
        eventually(lambda: worker.status == "3 jobs running, 0 of 1 slots free", 20, "three jobs to be taken over")
        assert queue_length(clean_redis) == 1
        (folder / "go").touch()
        assert {result.get(timeout=RESULT_S)["state"] for result in sent} == {"succeeded"}
    assert runs.read_text() == "run\n" * 4


def test_a_restart_of_docker_is_not_the_jobs_fault(
    clean_redis: servers.RedisServer, plain: Plain, folder: Path
) -> None:
    """Docker takes the containers along, and both jobs run again without a retry of their own.

    One has a program that catches the signal, and says by its own exit code that it was ended.
    """
    with servers.Dockerd() as own, Worker(clean_redis.url, own, CELERY_DOCKER_RETRY_DELAY="0"):
        own.import_busybox()
        scripts = [
            f"echo run >> /output/{name}; {trap} {WAIT}" for name, trap in (("a", ""), ("b", "trap 'exit 1' TERM;"))
        ]
        sent = [plain.send("busybox", ["sh", "-c", script], outputpath=str(folder), retries=0) for script in scripts]
        eventually(lambda: (folder / "a").exists() and (folder / "b").exists(), 20, "the jobs to run")
        own.restart()
        (folder / "go").touch()
        receipts = [result.get(timeout=RESULT_S) for result in sent]
        assert [receipt["attempts"][0]["exit_code"] for receipt in receipts] == [143, 1]
        assert all("went down under it" in receipt["attempts"][0]["reason"] for receipt in receipts)
        assert [(folder / name).read_text() for name in "ab"] == ["run\n" * 2] * 2
        eventually(lambda: own.containers() == [], 20, "no container left")


def cancel(server: servers.RedisServer, job_id: str) -> str:
    client = Client(server.url)
    try:
        return client.cancel(job_id)
    finally:
        client.close()


def is_revoked(sent: AsyncResult) -> bool:
    return bool(eventually(lambda: sent.state == "REVOKED", 30, f"REVOKED; the state is {sent.state}"))


def test_cancel_of_a_job_in_the_queue_needs_no_slot(
    worker: Worker, plain: Plain, clean_redis: servers.RedisServer, folder: Path
) -> None:
    """All slots are busy, and stay so; the message runs nothing when its turn comes."""
    busy = [plain.send("busybox", ["sh", "-c", WAIT], outputpath=str(folder)) for _ in range(2)]
    eventually(lambda: worker.status.startswith("2 jobs running"), 20, "both slots to be busy")
    sent = plain.send("busybox", ["sh", "-c", "echo run >> /output/runs"], outputpath=str(folder))
    assert cancel(clean_redis, sent.id) == "unknown", "a plain client writes no record"
    assert is_revoked(sent)
    eventually(lambda: [job.state for job in busy] == ["STARTED", "STARTED"], 20, "both to be told as started")
    (folder / "go").touch()
    assert {job.get(timeout=RESULT_S)["state"] for job in busy} == {"succeeded"}
    eventually(lambda: queue_length(clean_redis) == 0, 20, "the message to be taken")
    plain.succeed("busybox", "true")
    assert not (folder / "runs").exists()


def test_cancel_of_a_job_that_waits_for_its_retry(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain
) -> None:
    with Worker(clean_redis.url, dockerd, CELERY_DOCKER_RETRY_DELAY="600"):
        sent = plain.send("busybox", "false")
        eventually(lambda: sent.state == "RETRY", 20, "the job to wait for its retry")
        assert cancel(clean_redis, sent.id) == "queued"
        assert is_revoked(sent)


def test_cancel_while_the_owner_is_down(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain, folder: Path
) -> None:
    """The mark waits for it, and the container ends as soon as it is back."""
    with Worker(clean_redis.url, dockerd) as worker:
        sent = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
        eventually((folder / "on").exists, 20, "the job to run")
        worker.kill()
        assert cancel(clean_redis, sent.id) == "running"
        worker.start()
        assert is_revoked(sent)
        eventually(lambda: dockerd.containers() == [], 20, "no container left")


@pytest.mark.parametrize("options", [{"requirepass": "s3cret"}, {}], ids=["password", "TLS"])
def test_redis_with_a_password_or_tls(dockerd: servers.Dockerd, options: dict[str, str]) -> None:
    with servers.RedisServer(options, tls=not options) as server, Worker(server.url, dockerd) as worker:
        submitter = Client(server.url)
        job_id = submitter.submit(JobSpec("busybox", ("echo", "in private"))).id
        with server.client(decode_responses=True) as client:
            eventually(
                lambda: client.hget(f"celery-docker:job:{job_id}", "state") == "succeeded", 30, "the job to succeed"
            )
        submitter.close()
        assert "s3cret" not in worker.log


def test_the_readmes_user_for_submitters_is_enough(dockerd: servers.Dockerd) -> None:
    """For this package's client and for a plain one; it can neither flush nor read what is not the queue's."""
    (line,) = (text for text in (ROOT / "README.md").read_text().splitlines() if text.startswith("ACL SETUSER"))
    with servers.RedisServer() as server, Worker(server.url, dockerd):
        with server.client() as client:
            client.execute_command(*line.split())
            client.set("private", "x")
        url = server.url.replace("redis://", "redis://submitter:PASSWORD@")
        submitter = Client(url)
        assert submitter.cancel(submitter.submit(JobSpec("busybox", ("sleep", "100")))) in (
            "queued",
            "starting",
            "running",
        )
        batch = submitter.map(lambda word: {"image": "busybox", "command": ["echo", word]}, ["a", "b"], limit=1)
        assert [receipt["output"] for receipt in batch.results(RESULT_S)] == ["a\n", "b\n"]
        (first, _) = batch.jobs()
        assert [output.data for output in submitter.job(first.id[:13]).logs(follow=True)] == [b"a\n"]
        # As `run` and `logs --follow` read it.
        reader = submitter.logs_of(first.id)
        reader.attach()
        assert [output.data for output in reader.follow()] == [b"a\n"]
        reader.detach()
        after = submitter.submit("busybox", "true", after=[first.retry()], expires=3600)
        assert after.wait(RESULT_S) == "succeeded"
        batch.cancel()
        assert {row.job_id for row in submitter.queries.jobs.each_recent()} > {job.id for job in batch.jobs()}
        assert list(submitter.queries.jobs.each_live()) == []
        assert submitter.queries.batches.row(batch.id).size == 2
        assert submitter.queries.jobs.queue_lengths(["celery"]) == {"celery": 0}
        assert submitter.queries.jobs.in_queue("celery") == []
        eventually(lambda: submitter.queries.jobs.load() == Load(0, 0, 0, 0), RESULT_S, "everything to be settled")
        assert submitter.queries.match(batch.id[:13]) == Match(batch.id, is_batch=True)
        assert len(list(submitter.queries.jobs.receipt_texts([first.id]))) == 1
        submitter.queries.hosts.rows()
        night = submitter.submit("busybox", "true", queue="celery-night")
        (wait,) = submitter.queries.waits.of(submitter.queries.jobs.rows([night.id])).values()
        assert (
            wait.reason
            == submitter.summary("celery")["waits"]["celery-night"]
            == "no worker serves the queue 'celery-night'"
        )
        night.cancel()
        windows = submitter.store.link.client
        eventually(lambda: windows.hget("celery-docker:windows", "celery") == "4", RESULT_S, "the windows of queues")
        many = [submitter.submit("busybox", "sleep 100") for _ in range(6)]
        (wait,) = submitter.queries.waits.of(submitter.queries.jobs.rows([many[-1].id])).values()
        assert wait.reason.endswith("has 4 jobs queued or running, 1 more before it")
        submitter.cancel_many([job.id for job in many])
        submitter.close()
        plain = Plain(url)
        assert plain.succeed("busybox", "echo allowed")["output"] == "allowed\n"
        plain.app.close()
        with redis.Redis.from_url(url) as limited:
            for command in (("FLUSHALL",), ("GET", "private"), ("KEYS", "*"), ("CONFIG", "GET", "*")):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    limited.execute_command(*command)


def test_a_wrong_password_stops_the_worker_for_good(dockerd: servers.Dockerd) -> None:
    with servers.RedisServer({"requirepass": "right"}) as server:
        worker = Worker(server.url.replace("right", "wrong"), dockerd)
        worker.launch()
        assert worker.wait() == 78
        assert "refuses the login" in worker.log
        assert "wrong@" not in worker.log
        assert "Traceback" not in worker.log
        worker.stop()
