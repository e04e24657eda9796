"""The command on a real Redis: what is submitted lies in its queue, and what is cancelled is marked."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_docker.cli.syntax import commandtable
from celery_docker.store import keys
from tests import commandline, servers


class Commands:
    """The command with a home of its own."""

    def __init__(self, server: servers.RedisServer, home: Path) -> None:
        self.environ = commandline.environ(server.url, home)

    def __call__(self, *line: str, status: int = 0, input: str = "") -> subprocess.CompletedProcess[str]:
        completed = commandline.call(*line, environ=self.environ, input=input)
        assert completed.returncode == status, completed.stderr
        return completed


@pytest.fixture
def celery_docker(redis_server: servers.RedisServer, tmp_path: Path) -> Iterator[Commands]:
    yield Commands(redis_server, tmp_path)
    with redis_server.client() as client:
        client.flushall()


# Where `nonsense` is not what each command can say something about.
OPERANDS = {
    **dict.fromkeys(("run", "submit"), ("--after", "nonsense", "busybox")),
    **dict.fromkeys(("ps", "status", "workers", "queue", "doctor", "config"), ()),
    "batch": ("--after", "nonsense", "--array", "1-2", "busybox"),
    "completion": ("bash",),
}


@pytest.mark.parametrize("command", [command.name for command in commandtable.COMMANDS])
def test_a_process_says_what_a_call_does(celery_docker: Commands, command: str) -> None:
    """By the entry, with nothing imported and nothing set up before."""
    line = (command, *OPERANDS.get(command, ("nonsense",)))
    process = subprocess.run(
        commandline.process(*line), env=celery_docker.environ, capture_output=True, text=True, check=False, timeout=60
    )
    called = commandline.call(*line, environ=celery_docker.environ)
    assert (process.returncode, process.stdout, process.stderr) == (called.returncode, called.stdout, called.stderr)
    assert process.stdout + process.stderr


def test_a_job_from_its_submission_to_its_cancel(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    job_id = celery_docker("submit", "busybox", "true").stdout.strip()
    assert celery_docker("queue").stdout == "1\n"
    completed = celery_docker("cancel", "--reason", "wrong data", "@last")
    assert (completed.stdout, completed.stderr) == ("", f"{job_id}: was queued, is being cancelled\n")
    with redis_server.client(decode_responses=True) as client:
        assert client.hget(keys.job(job_id), "cancel_reason") == "wrong data"
    assert json.loads(celery_docker("cancel", "--json", job_id).stdout) == [{"id": job_id, "state": "queued"}]
    assert celery_docker("cancel", "-q", job_id).stdout == f"{job_id}\n"


def test_a_cancel_of_no_job(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    """The others are cancelled all the same; for the one that is none, no record is made."""
    job_id = celery_docker("submit", "busybox").stdout.strip()
    completed = celery_docker("cancel", "nonsense", job_id, status=4)
    assert completed.stderr.splitlines() == [
        f"{job_id}: was queued, is being cancelled",
        "celery-docker: no job has an id that begins with 'nonsense'; list the jobs with: celery-docker ps --all",
    ]
    with redis_server.client() as client:
        assert not client.exists(keys.job("nonsense"))


def test_a_document_from_a_pipe(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    document = {"image": "busybox", "command": "echo 'a b'", "env": {"A": "1"}, "priority": 5}
    job_id = celery_docker("submit", "-f", "-", "-e", "B=2", input=json.dumps(document)).stdout.strip()
    with redis_server.client(decode_responses=True) as client:
        spec = json.loads(client.hget(keys.job(job_id), "spec") or "")
    assert spec["command"] == ["echo", "a b"]
    assert spec["env"] == {"A": "1", "B": "2"}
    assert spec["user"] == f"{os.getuid()}:{os.getgid()}"
    (row,) = map(json.loads, celery_docker("queue", "--json").stdout.splitlines())
    assert row == {"queue": "celery", "length": 1, "wait": "no worker is alive"}


def test_purge_cancels_what_waits_in_one_queue_at_every_priority(
    celery_docker: Commands, redis_server: servers.RedisServer
) -> None:
    waiting = {celery_docker("submit", "--priority", p, "busybox").stdout.strip() for p in ("0", "3", "9")}
    other_id = celery_docker("submit", "--queue", "other", "busybox").stdout.strip()
    prompt = celery_docker("queue", "purge", status=2, input="y\n")
    assert prompt.stderr.startswith(
        "celery-docker: Cancel all that waits in queue 'celery', 3 jobs? There is no terminal"
    )
    completed = celery_docker("queue", "purge", "--yes", "--json")
    assert set(json.loads(completed.stdout)["cancelled"]) == waiting
    with redis_server.client(decode_responses=True) as client:
        assert client.smembers(keys.CANCELLING) == waiting
        assert not client.hexists(keys.job(other_id), "cancelled_at")


def test_an_empty_queue_is_purged_without_a_question(celery_docker: Commands) -> None:
    assert celery_docker("queue", "purge").stderr == "cancelling 0 jobs of queue 'celery'\n"


def test_a_message_that_is_none_is_left_alone(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    with redis_server.client() as client:
        client.lpush("celery", "not a message", "[]")
    assert celery_docker("queue").stdout == "2\n"
    assert json.loads(celery_docker("queue", "purge", "-y", "--json").stdout)["cancelled"] == []


@pytest.mark.parametrize("command", ["submit", "run"])
def test_somebody_without_access_is_told_whom_to_ask(command: str) -> None:
    with servers.RedisServer({"requirepass": "secret"}) as server:
        completed = commandline.call(command, "--broker", server.url.replace(":secret@", ""), "busybox", environ={})
    assert completed.returncode == 125
    assert completed.stderr.count("\n") == 1
    assert completed.stderr.count("ask the administrator") == 1
    assert "~/.config/celery-docker/client.conf" in completed.stderr


@pytest.mark.parametrize(("answer", "cancelled"), [("y", True), ("yes", True), ("n", False), ("", False)])
def test_at_a_terminal_a_purge_asks(
    celery_docker: Commands, redis_server: servers.RedisServer, answer: str, cancelled: bool
) -> None:
    job_id = celery_docker("submit", "busybox").stdout.strip()
    ours, theirs = pty.openpty()
    command = commandline.process("queue", "purge")
    process = subprocess.Popen(command, env=celery_docker.environ, stdin=theirs, stderr=theirs, stdout=theirs)
    os.close(theirs)
    prompt = b""
    while b"[y/N]" not in prompt:
        prompt += os.read(ours, 1024)
    os.write(ours, f"{answer}\n".encode())
    assert process.wait(30) == 0
    os.close(ours)
    assert b"Cancel all that waits in queue 'celery', 1 job?" in prompt
    with redis_server.client() as client:
        assert client.hexists(keys.job(job_id), "cancelled_at") is cancelled


def test_an_output_folder_that_nobody_here_can_look_into_has_no_marker(celery_docker: Commands) -> None:
    """It is the worker's host that has to know it; this one says the same of a folder that is closed to the caller."""
    completed = celery_docker("batch", "--skip-done", "--array", "1-2", "-o", f"/tmp/{'x' * 300}", "busybox", "true")
    assert completed.stderr == "2 jobs queued; follow with: celery-docker watch\n"


def test_a_host_without_a_name_is_not_drained(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    """A script whose variable is not set would be told that its host takes no more jobs."""
    remedy = "the name of a host is empty; leave it out for this host\n"
    assert celery_docker("drain", "", status=2).stderr == f"celery-docker: drain: {remedy}"
    assert celery_docker("resume", "", status=2).stderr == f"celery-docker: resume: {remedy}"
    with redis_server.client() as client:
        assert not client.exists(keys.DRAINED)


def test_the_logs_of_a_batch(celery_docker: Commands) -> None:
    """@last may be one."""
    batch_id = celery_docker("batch", "--array", "1-2", "busybox", "true").stdout.strip()
    remedy = f"list its jobs with: celery-docker ps -a --batch {batch_id}"
    error = celery_docker("logs", "@last", status=4).stderr
    assert error == f"celery-docker: '{batch_id}' is a batch and not a job; {remedy}\n"
