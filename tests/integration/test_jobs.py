"""Jobs of a plain Celery client, one after the other, on one worker between a real Redis and a real Docker."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import celery.exceptions
import pytest
from celery import chain

from tests import servers
from tests.integration.test_worker import RESULT_S, WAIT, Plain, cancel, folder, is_revoked
from tests.waiting import eventually
from tests.workers.registry import Registry
from tests.workers.worker import ROOT, Worker

__all__ = ["folder"]


@pytest.fixture
def worker(steady: Worker, dockerd: servers.Dockerd) -> Iterator[Worker]:
    """The one worker of all these tests; each leaves it idle and alive."""
    yield steady
    eventually(lambda: dockerd.containers() == [], 20, "no container left by the test")
    assert steady.process is not None
    assert steady.process.poll() is None, "the worker has ended"
    assert "Traceback" not in steady.log


@pytest.fixture
def plain(server: servers.RedisServer) -> Iterator[Plain]:
    submitter = Plain(server.url)
    yield submitter
    submitter.app.close()


def test_a_plain_client_gets_the_receipt(worker: Worker, plain: Plain) -> None:
    """The receipt of what a client has sent by name is the result, `id` and `output` included."""
    sent = plain.send("busybox", "echo hello")
    receipt = sent.get(timeout=RESULT_S)
    assert receipt["id"] == sent.id
    assert receipt["output"] == "hello\n"
    assert receipt["state"] == "succeeded"
    assert receipt["exit_code"] == 0
    assert receipt["image"] == "busybox"
    assert receipt["image_digest"].startswith("sha256:")
    assert receipt["stdout_bytes"] == 6
    assert receipt["submitted_at"] is None, "nobody wrote down when the message was sent"
    assert [entry["attempt"] for entry in receipt["attempts"]] == [1]


def test_every_positional_argument_in_the_old_order(worker: Worker, plain: Plain, folder: Path) -> None:
    source, target = folder / "in", folder / "out"
    source.write_text("some input")
    target.mkdir()
    target.chmod(0o777)
    plain.succeed(
        "busybox",
        ["sh", "-c", "md5sum /input > /output/output.txt; id -u; echo problem >&2"],
        "nobody",
        str(folder / "job.log"),
        str(folder / "job.err"),
        str(source),
        str(target),
    )
    digest = hashlib.md5(b"some input", usedforsecurity=False).hexdigest()
    assert (target / "output.txt").read_text().split() == [digest, "/input"]
    assert (folder / "job.log").read_text() == f"{pwd.getpwnam('nobody').pw_uid}\n"
    assert (folder / "job.err").read_text() == "problem\n"
    assert (target / "output.txt").stat().st_uid == pwd.getpwnam("nobody").pw_uid


def test_the_input_cannot_be_written(worker: Worker, plain: Plain, folder: Path) -> None:
    line, receipt = plain.fail("busybox", ["touch", "/input/x"], inputpath=str(folder), retries=0)
    assert "Read-only file system" in line
    assert receipt["exit_code"] == 1
    assert list(folder.iterdir()) == []


def test_both_streams_go_to_one_file_in_a_folder_that_is_made(worker: Worker, plain: Plain, folder: Path) -> None:
    log = folder / "new" / "folder" / "job.log"
    plain.succeed("busybox", ["sh", "-c", "echo one; echo two >&2; echo three"], logoutfile=str(log))
    assert sorted(log.read_text().splitlines()) == ["one", "three", "two"], "each stream in its order, together in any"


def test_environment_folder_and_entrypoint_reach_the_container(worker: Worker, plain: Plain) -> None:
    receipt = plain.succeed(
        "busybox",
        ["-c", 'echo "$GREETING from $PWD in $CELERY_DOCKER_JOB_ID"'],
        entrypoint="sh",
        env={"GREETING": "good  morning"},
        workdir="/tmp",
        name="night run",
    )
    assert receipt["output"] == f"good  morning from /tmp in {receipt['id']}\n"
    assert receipt["name"] == "night run"
    assert "morning" not in str({**receipt, "output": None})


def test_a_job_that_needs_more_memory_than_it_asked_for(worker: Worker, plain: Plain) -> None:
    """On a busy machine, Docker often misses that the kernel has killed it: the kernel's own count tells."""

    def measured() -> list[tuple[str, dict[str, Any]]]:
        line, receipt = plain.fail("busybox", "dd if=/dev/zero of=/dev/null bs=99M count=1", memory="32m", retries=0)
        return [] if receipt["memory_peak_bytes"] is None else [(line, receipt)]

    # Docker of the tests has precedence over the worker, and may have cleared its groups before they are read.
    ((line, receipt),) = eventually(measured, RESULT_S)
    assert line.startswith("failed: out of memory: limit 32m, raise it with -m (host ")
    assert (receipt["exit_code"], receipt["oom_killed"]) == (137, True)
    assert receipt["memory_peak_bytes"] == pytest.approx(32 * 2**20, rel=0.05)


@pytest.mark.parametrize("mebibytes", [32, 128])
def test_the_figures_of_a_short_job(worker: Worker, plain: Plain, mebibytes: int) -> None:
    """What it touched is its peak, within 5 %."""

    def measured() -> list[dict[str, Any]]:
        receipt = plain.succeed("busybox", f"dd if=/dev/zero of=/dev/null bs={mebibytes}M count=1")
        return [] if receipt["memory_peak_bytes"] is None else [receipt]

    (receipt,) = eventually(measured, RESULT_S)
    assert receipt["memory_peak_bytes"] == pytest.approx(mebibytes * 2**20, rel=0.05)
    assert 0 < receipt["cpu_s"] < 30
    assert receipt["oom_killed"] is False


def test_a_kill_by_hand_is_not_taken_for_a_lack_of_memory(
    worker: Worker, plain: Plain, dockerd: servers.Dockerd
) -> None:
    sent = plain.send("busybox", "sleep 600", memory="64m", retries=0)
    name = f"run-{sent.id}"
    eventually(lambda: name in dockerd.running(), 20, "the job to run")
    assert dockerd.request("POST", f"/containers/{name}/kill")[0] == 204
    assert str(sent.get(timeout=RESULT_S, propagate=False)).startswith("failed: exit code 137, ended by SIGKILL (host ")


@pytest.fixture
def file_for_folder() -> Iterator[None]:
    """A file where a job wants a folder."""
    Path("/tmp/cdt-file").touch()
    yield
    Path("/tmp/cdt-file").unlink()


class _Registry(BaseHTTPRequestHandler):
    """A registry that works and has no image."""

    def do_GET(self) -> None:
        body = (
            b"{}" if self.path == "/v2/" else b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}'
        )
        self.send_response(200 if self.path == "/v2/" else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Docker-Distribution-Api-Version", "registry/2.0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def registry() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Registry) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def test_an_unknown_image_is_not_retried(worker: Worker, plain: Plain, registry: str) -> None:
    line, receipt = plain.fail(f"{registry}/nosuch", "true")
    assert line.startswith("rejected: ")
    assert f"{registry}/nosuch" in line
    assert len(receipt["attempts"]) == 1


BAD = {
    "missing inputpath": ({"inputpath": "/tmp/cdt-not-there"}, "/tmp/cdt-not-there"),
    "relative inputpath": ({"inputpath": "data"}, "'data' must be an absolute path"),
    "equal paths": ({"inputpath": "/tmp", "outputpath": "/tmp/"}, "they must differ"),
    "equal paths through a link": ({"inputpath": "/tmp", "outputpath": "/tmp/../tmp"}, "they must differ"),
    "unknown user": ({"user": "nosuchuser"}, "'nosuchuser' is not known"),
    "unwritable log folder": ({"logoutfile": "/tmp/cdt-file/x"}, "cannot write the log file '/tmp/cdt-file/x'"),
    "malformed image name": ({"image": "Busy Box"}, "'Busy Box' is not an image name"),
    "no command at all": ({"command": ""}, "command"),
    "a NUL byte": ({"command": "echo a\0b"}, "must not contain a NUL byte"),
    "an unknown keyword": ({"imagee": "x"}, "'imagee' is not an argument"),
    "a wrong type": ({"command": 7}, "command: 7 must be a string"),
    "a path that the policy refuses": ({"inputpath": "/etc"}, "rule mounts"),
    "a network that the policy refuses": ({"network": "bridge"}, "rule networks = ['none']"),
    "an image that may not be pulled": ({"image": "nosuch", "pull": "never"}, "pull is 'never'"),
}


@pytest.mark.parametrize(("fields", "expected"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_in_one_line_and_not_retried(
    worker: Worker, plain: Plain, file_for_folder: None, fields: dict[str, Any], expected: str
) -> None:
    line, receipt = plain.fail(**{"image": "busybox", "command": "true", **fields})
    assert line.startswith("rejected: ")
    assert expected in line
    assert "\n" not in line
    assert "Traceback" not in worker.log
    assert len(receipt["attempts"]) == 1


def test_a_command_that_the_image_does_not_have_is_not_retried(worker: Worker, plain: Plain) -> None:
    line, receipt = plain.fail("busybox", "nosuchcommand")
    assert receipt["exit_code"] == 127
    assert "not found" in line
    assert "nosuchcommand" in line
    assert len(receipt["attempts"]) == 1


def test_rubbish_in_the_queue_stops_nothing(worker: Worker, plain: Plain, server: servers.RedisServer) -> None:
    """Messages that are no task of ours are dropped and the next job runs."""
    plain.app.send_task("tasks.other", args=[1])
    plain.app.send_task("tasks.run_docker", task_id="../../etc/passwd", args=["busybox", "true"])
    with server.client() as client:
        client.lpush("celery", json.dumps({"body": "bm90IGpzb24=", "headers": {}, "properties": {"delivery_tag": "x"}}))
    assert plain.succeed("busybox", "echo fine")["output"] == "fine\n"


def test_a_failing_job_runs_four_times_and_then_fails_with_its_last_words(
    worker: Worker, plain: Plain, folder: Path
) -> None:
    sent = plain.send(
        "busybox", ["sh", "-c", "echo run >> /output/runs; echo last words >&2; exit 3"], outputpath=str(folder)
    )
    error = sent.get(timeout=RESULT_S, propagate=False)
    assert (folder / "runs").read_text() == "run\n" * 4
    assert sent.state == "FAILURE"
    assert str(error).startswith("failed: exit code 3")
    assert str(error).endswith("last words")
    assert sent.traceback == "last words\n"
    receipt = sent.backend.get_task_meta(sent.id)["receipt"]
    assert [entry["exit_code"] for entry in receipt["attempts"]] == [3, 3, 3, 3]


def test_a_job_can_say_after_which_exit_codes_it_is_retried(worker: Worker, plain: Plain, folder: Path) -> None:
    plain.fail("busybox", ["sh", "-c", "echo run >> /output/runs; exit 4"], outputpath=str(folder), retry_on=[5])
    assert (folder / "runs").read_text() == "run\n"


def test_a_second_delivery_of_a_message_runs_nothing(
    worker: Worker, plain: Plain, server: servers.RedisServer, folder: Path
) -> None:
    """Delivered twice while it runs and once more after its end, the job has run once."""
    with server.client() as client:
        sent = plain.app.send_task(
            "tasks.run_docker",
            args=["busybox", ["sh", "-c", f"echo run >> /output/runs; {WAIT}"]],
            kwargs={"outputpath": str(folder)},
            queue="held",
        )
        message = client.lrange("held", 0, 0)[0]
        client.lpush("celery", message)
        eventually((folder / "runs").exists, 20, "the job to run")
        client.lpush("celery", message)
        client.lpush("celery", message)
        dropped = f"job {sent.id}: a second delivery was dropped"
        eventually(lambda: worker.log.count(dropped) == 2, 20, "the copies to be dropped")
        (folder / "go").touch()
        assert sent.get(timeout=RESULT_S)["state"] == "succeeded"
        client.lpush("celery", message)
        eventually(lambda: worker.log.count(dropped) == 3, 20, "the late copy to be dropped")
    assert (folder / "runs").read_text() == "run\n"


def test_cancel_of_a_running_job(
    worker: Worker, plain: Plain, server: servers.RedisServer, dockerd: servers.Dockerd, folder: Path
) -> None:
    """REVOKED comes when the container does not run any more, and nothing runs again."""
    sent = plain.send("busybox", ["sh", "-c", f"echo run >> /output/runs; {WAIT}"], outputpath=str(folder))
    eventually((folder / "runs").exists, 20, "the job to run")
    assert cancel(server, sent.id) == "running"
    assert is_revoked(sent)
    assert dockerd.request("GET", "/containers/json")[1].strip() == b"[]"
    assert (folder / "runs").read_text() == "run\n"


def test_cancel_of_a_job_that_waits_for_a_silent_registry(
    worker: Worker, plain: Plain, server: servers.RedisServer
) -> None:
    """The slot is free at once; the pull may end whenever it likes."""
    with Registry() as silent:
        silent.speaks.clear()
        sent = plain.send(f"{silent.address}/group/slow:1.0", "true")
        eventually(lambda: f"job {sent.id}: pulling" in worker.log, 20, "the pull to begin")
        assert cancel(server, sent.id) == "starting"
        assert is_revoked(sent)
        silent.speaks.set()


@pytest.mark.parametrize("terminate", [False, True])
def test_a_revoke_from_any_celery_client_is_a_cancel(
    worker: Worker, plain: Plain, folder: Path, terminate: bool
) -> None:
    sent = plain.send("busybox", ["sh", "-c", f"touch /output/on; {WAIT}"], outputpath=str(folder))
    eventually((folder / "on").exists, 20, "the job to run")
    plain.app.control.revoke(sent.id, terminate=terminate)
    assert is_revoked(sent)


def test_cancel_of_a_job_that_has_ended_changes_nothing(
    worker: Worker, plain: Plain, server: servers.RedisServer
) -> None:
    sent = plain.send("busybox", "true")
    sent.get(timeout=RESULT_S)
    assert cancel(server, sent.id) == "succeeded"
    assert sent.state == "SUCCESS"


def test_a_job_that_outlasts_its_timeout_is_ended(worker: Worker, plain: Plain, folder: Path) -> None:
    """By its own stop signal, with time for last words; it is not retried."""
    script = f"trap 'echo last words; exit 9' USR1; touch /output/on; {WAIT}"
    line, receipt = plain.fail(
        "busybox", ["sh", "-c", script], outputpath=str(folder), timeout=1, stop_signal="USR1", stop_grace=20
    )
    assert line.startswith("timed_out: ran longer than its timeout of 1 s")
    assert receipt["exit_code"] == 9
    assert receipt["output"] == "last words\n"
    assert len(receipt["attempts"]) == 1


def test_a_container_that_ignores_its_stop_signal_is_killed_after_the_grace(
    worker: Worker, plain: Plain, folder: Path
) -> None:
    script = f"trap '' TERM; {WAIT}"
    line, receipt = plain.fail("busybox", ["sh", "-c", script], outputpath=str(folder), timeout=1, stop_grace=1)
    assert line.startswith("timed_out: ")
    assert receipt["signal"] == 9


def test_a_gigabyte_of_output_passes_through_in_constant_memory(worker: Worker, plain: Plain, folder: Path) -> None:
    log = folder / "job.log"
    plain.succeed("busybox", "true")
    before = worker.rss_bytes
    size = 1_000_000_000
    sent = plain.send("busybox", ["sh", "-c", f"yes {'x' * 999} | head -c {size}"], logoutfile=str(log))
    peak = before
    while peak := max(peak, worker.rss_bytes):
        with contextlib.suppress(celery.exceptions.TimeoutError):
            receipt = sent.get(timeout=1)
            break
    assert receipt["stdout_bytes"] == log.stat().st_size == size
    assert receipt["output_truncated"] is True
    assert len(json.dumps(receipt)) < 100 * 1024
    assert peak - before < 32 * 2**20


def test_a_chain_goes_on_after_a_job(worker: Worker, plain: Plain) -> None:
    """Celery's canvas works with the task as with any other."""
    first, second = (
        plain.app.signature("tasks.run_docker", args=["busybox", f"echo {word}"], immutable=True) for word in ("a", "b")
    )
    assert chain(first, second, app=plain.app).apply_async().get(timeout=RESULT_S)["output"] == "b\n"
    taking = plain.app.signature("tasks.run_docker", args=["busybox", "echo c"])
    for refused in (
        chain(first, taking, app=plain.app).apply_async().parent,
        first.apply_async(link=taking),
        first.apply_async(link_error=taking),
    ):
        with pytest.raises(Exception, match=r"write \.si\(\) for it instead of \.s\(\)"):
            refused.get(timeout=RESULT_S)


def test_tasks_py_prints_the_id_of_a_job_that_then_runs(
    worker: Worker, server: servers.RedisServer, plain: Plain, folder: Path
) -> None:
    log = folder / "job.log"
    script = "import sys; from celery_docker.cli.tasks import main; sys.exit(main())"
    completed = subprocess.run(
        [sys.executable, "-c", script, "--out", str(log), "busybox", "--", "echo", "from the shell"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CELERY_DOCKER_BROKER_URL": server.url},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    receipt = plain.app.AsyncResult(completed.stdout.strip()).get(timeout=RESULT_S)
    assert log.read_text() == "from the shell\n"
    assert receipt["queue_s"] >= 0
    assert receipt["submitted_at"] is not None
