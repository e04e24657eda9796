"""The commands that look at things, with a real worker: in a pipe and on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker.cli import exitcodes
from celery_docker.client.client import Client
from celery_docker.client.handles import Batch, Job
from celery_docker.core import settings
from celery_docker.host import capacity
from celery_docker.store import keys
from tests import commandline, servers
from tests.waiting import eventually
from tests.workers.worker import Worker

_GO = "until [ -e /output/go ]; do sleep 0.05; done"
HOST = "one@lab"
UNKNOWN = "00000000-dead-4000-8000-000000000000"


@pytest.fixture(scope="module")
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(redis_server.url, dockerd, CELERY_DOCKER_MAX_RETRIES="0", CELERY_DOCKER_OPTS="-n one@lab") as running:
        yield running
    dockerd.remove_containers()
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture(scope="module")
def client(worker: Worker) -> Iterator[Client]:
    opened = Client(worker.environ["CELERY_DOCKER_BROKER_URL"])
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ended(client: Client) -> Job:
    """A job that has failed, and said so on both streams."""
    job = client.submit("busybox", ["sh", "-c", "echo one; echo two; echo bad >&2; exit 3"], name="ended")
    assert job.wait(60) == "failed"
    return job


@pytest.fixture(scope="module")
def batch(client: Client) -> Batch:
    """A batch of three whose second job has failed with 2."""
    batch = client.map(
        lambda n: {"image": "busybox", "command": ["sh", "-c", f"exit {n % 2 * 2}"]}, range(3), name="demo"
    )
    batch.wait(60)
    return batch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the job may write to."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


@pytest.fixture
def environ(worker: Worker, tmp_path: Path) -> dict[str, str]:
    return commandline.environ(worker.environ["CELERY_DOCKER_BROKER_URL"], tmp_path) | {"TERM": "xterm"}


def started(environ: dict[str, str], *line: str, **options: Any) -> subprocess.Popen[str]:
    """Start the command where there is no terminal at all."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        commandline.process(*line), env=environ, text=True, start_new_session=True, **{**pipes, **options}
    )


def printed_by(environ: dict[str, str], *line: str, status: int = 0) -> tuple[str, str]:
    """Return both outputs of the command."""
    completed = commandline.call(*line, environ=environ)
    assert completed.returncode == status, completed.stderr
    return completed.stdout, completed.stderr


def on_terminal(environ: dict[str, str], *line: str, columns: int) -> list[str]:
    """Return the lines that the command shows on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = started(environ, *line, stdout=theirs)
    os.close(theirs)
    screen = b""
    # The end of a terminal whose other side is closed is an error.
    try:
        while data := os.read(ours, 65536):
            screen += data
    except OSError:
        pass
    os.close(ours)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return screen.decode().splitlines()


def documents(text: str) -> list[Any]:
    """Return the JSON documents in a text, as jq reads them."""
    values, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:]
    return values


def test_every_command_with_json(environ: dict[str, str], ended: Job, batch: Batch) -> None:
    def printed(*line: str, status: int = 0) -> list[Any]:
        return documents(printed_by(environ, *line, "--json", status=status)[0])

    assert ended.id in {row["id"] for row in printed("ps", "--all")}
    assert [row["state"] for row in printed("ps", "-a", "--batch", batch.id)] == ["succeeded", "failed", "succeeded"]
    (row,) = printed("status", ended.id)
    assert (row["state"], row["exit_code"], row["host"]) == ("failed", 3, HOST)
    (row,) = printed("status", batch.id)
    assert (row["counts"], row["done"]) == ({"succeeded": 2, "failed": 1}, 3)
    assert row["failed"] == [batch.failed()[0].id]
    (row,) = printed("status")
    assert (row["workers"], row["slots"], row["queues"]) == ({"ready": 1}, 2, {"celery": 0})
    assert printed("results", batch.id, ended.id) == [*batch.results(), ended.receipt]
    assert "".join(row["text"] for row in printed("logs", "--stdout", ended.id)) == "one\ntwo\n"
    (row,) = json.loads(printed_by(environ, "inspect", ended.id)[0])
    assert ended.receipt is not None
    assert {name: (row | row["receipt"])[name] for name in ended.receipt} == ended.receipt
    assert printed_by(environ, "inspect", ended.id)[0].count('"attempts": ') == 1
    assert (len(row["attempts"]), row["spec"]["image"]) == (1, "busybox")
    (row,) = printed("workers")
    assert (row["host"], row["state"], row["slots"], row["running"]) == (HOST, "ready", 2, 0)
    offer, whole = row["offer"], capacity.offer(settings.parse({}))
    assert (offer["cpus"] * 1000, offer["memory"]) == (whole.millicpus, whole.memory_bytes)
    assert row["free"] == {**offer, "gpus": len(offer["gpus"])}
    assert printed("wait", batch.id, status=2) == [batch.results()]
    assert printed("cancel", ended.id) == [[{"id": ended.id, "state": "failed"}]]
    assert printed("queue") == [{"queue": "celery", "length": 0, "wait": None}]


@pytest.mark.parametrize(
    "line",
    [
        ("status", UNKNOWN),
        ("results", UNKNOWN),
        ("inspect", UNKNOWN),
        ("logs", "-f", UNKNOWN),
        ("wait", UNKNOWN),
        ("cancel", "nonsense"),
        ("ps", "--batch", UNKNOWN),
        ("results", "@last"),
    ],
    ids=" ".join,
)
def test_an_id_that_nobody_knows(environ: dict[str, str], line: tuple[str, ...]) -> None:
    _, err = printed_by(environ, *line, status=exitcodes.NO_SUCH_JOB)
    assert len(err.splitlines()) == 1
    assert err.startswith("celery-docker: ")


def test_a_whole_id_without_a_record_is_cancelled(environ: dict[str, str], client: Client) -> None:
    """A plain Celery client writes none."""
    _, err = printed_by(environ, "cancel", UNKNOWN)
    assert err == f"{UNKNOWN}: there is no record of this job; nothing will run under this id\n"
    client.store.link.client.delete(keys.job(UNKNOWN))
    client.store.link.client.zrem(keys.INDEX, UNKNOWN)
    client.store.link.client.srem(keys.CANCELLING, UNKNOWN)


def test_the_beginning_of_an_id_is_enough(environ: dict[str, str], ended: Job, batch: Batch) -> None:
    assert printed_by(environ, "status", ended.id[:13])[0].startswith(f"job        {ended.id}\n")
    assert printed_by(environ, "status", batch.id[:13])[0].startswith(f"batch      {batch.id}\n")
    assert printed_by(environ, "wait", ended.id[:13], status=3)[1] == f"celery-docker: {ended.id[:8]}: exit code 3\n"
    assert printed_by(environ, "wait", "-q", batch.id[:13], ended.id, status=3) == ("", "")


def test_a_job_whose_record_is_gone_has_not_succeeded(environ: dict[str, str], client: Client) -> None:
    """Its id may still be listed."""
    redis = client.store.link.client
    redis.zadd(keys.INDEX, {"gone-long-ago": 0})
    _, err = printed_by(environ, "wait", "gone-long", status=exitcodes.NOT_RUN)
    assert err.startswith("celery-docker: gone-long-ago: its record is gone")
    printed_by(environ, "status", "gone-long", status=exitcodes.NO_SUCH_JOB)
    redis.zrem(keys.INDEX, "gone-long-ago")


def test_in_a_pipe_ids_are_whole_and_on_a_terminal_short(environ: dict[str, str], ended: Job, batch: Batch) -> None:
    for command in (("ps", "-a"), ("results", batch.id)):
        for width in (60, 200):
            lines = on_terminal({**environ, "NO_COLOR": "1"}, *command, columns=width)
            assert max(map(len, lines)) <= width
            assert not any("\x1b" in line for line in lines)
            assert not any(batch.jobs()[0].id in line for line in lines)
            assert any(batch.jobs()[0].id[:8] in line for line in lines)
        assert batch.jobs()[0].id in printed_by(environ, *command)[0]
        assert batch.jobs()[0].id in "".join(on_terminal(environ, *command, "--no-trunc", columns=60))
    assert max(map(len, on_terminal(environ, "workers", columns=60))) <= 60


def test_colours_are_for_terminals(environ: dict[str, str], ended: Job) -> None:
    assert any("\x1b[31mfailed\x1b[0m" in line for line in on_terminal(environ, "ps", "-a", columns=80))
    for plain in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in "".join(on_terminal({**environ, **plain}, "ps", "-a", columns=80))
    assert "\x1b" not in printed_by(environ, "ps", "-a")[0]


def test_a_listing_has_a_bound_and_says_so(environ: dict[str, str], ended: Job, batch: Batch) -> None:
    out, err = printed_by(environ, "ps", "-a", "-n", "2")
    assert (len(out.splitlines()), err.startswith("there are more than these 2; ")) == (3, True)
    assert len(printed_by(environ, "ps", "-aq")[0].splitlines()) >= 4
    assert printed_by(environ, "ps", "--state", "failed", "-q")[0].split() == [batch.failed()[0].id, ended.id]
    assert printed_by(environ, "ps", "--state", "failing", status=2)[1].startswith(
        "celery-docker: --state: 'failing' must"
    )
    assert printed_by(environ, "results", "--failed", "-q", batch.id)[0].split() == [batch.failed()[0].id]


def test_results_of_jobs_and_batches_are_there_once(environ: dict[str, str], ended: Job, batch: Batch) -> None:
    job_ids = [job.id for job in batch.jobs()]
    failed = batch.failed()[0].id
    for line, listed in (
        ((batch.id, ended.id), [*job_ids, ended.id]),
        ((ended.id, job_ids[2], batch.id), [ended.id, job_ids[2], *job_ids[:2]]),
        (("--failed", batch.id, batch.id), [failed]),
        (("--failed", job_ids[0], ended.id, batch.id), [ended.id, failed]),
    ):
        assert printed_by(environ, "results", "-q", *line) == ("".join(f"{job_id}\n" for job_id in listed), "")
    rows = [line.split() for line in printed_by(environ, "results", batch.id)[0].splitlines()[1:]]
    assert [row[:4] for row in rows] == [
        [str(number), job.id, job.state.value, str((job.receipt or {})["exit_code"])]
        for number, job in enumerate(batch.jobs(), 1)
    ]


def test_results_count_what_has_not_ended(environ: dict[str, str], client: Client) -> None:
    waiting = client.map(lambda _: {"image": "busybox", "queue": "nowhere"}, range(3))
    single = waiting.jobs()[1].id
    for line, words in (
        ((waiting.id,), "3 of 3 jobs"),
        (("--failed", waiting.id), "3 of 3 jobs"),
        (("--failed", single, waiting.id), "3 of 3 jobs"),
        ((single,), "1 of 1 job"),
    ):
        assert printed_by(environ, "results", "-q", *line) == ("", f"not ended: {words}\n")
    waiting.cancel()


def test_a_worker_lists_jobs_by_state_for_whoever_asks(client: Client, environ: dict[str, str], ended: Job) -> None:
    redis = client.store.link.client
    eventually(lambda: redis.exists(keys.LISTS), 90, "the worker to vouch for the lists")
    job_ids = redis.zrange(keys.ended(keys.INDEX, "failed"), 0, -1, desc=True)
    assert ended.id in job_ids
    assert printed_by(environ, "ps", "--state", "failed", "-q")[0].split() == job_ids


def test_a_reader_that_has_enough_ends_a_listing_quietly(environ: dict[str, str], batch: Batch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = started(environ, "results", "--json", batch.id, stdout=writing)
    os.close(writing)
    assert process.communicate(timeout=120)[1] == ""
    assert process.returncode == exitcodes.READER_GONE


def test_logs_keep_the_streams_apart(environ: dict[str, str], ended: Job) -> None:
    assert printed_by(environ, "logs", ended.id) == ("one\ntwo\n", "bad\n")
    assert printed_by(environ, "logs", "--stderr", ended.id) == ("", "bad\n")
    assert printed_by(environ, "logs", "--stdout", "-n", "1", ended.id) == ("two\n", "")


def test_every_line_is_followed_once_from_start_to_end(environ: dict[str, str], client: Client, folder: Path) -> None:
    script = f"seq 500; touch /output/on; {_GO}; seq 501 1000; echo end >&2; printf rest"
    job = client.submit("busybox", ["sh", "-c", script], outputpath=str(folder))
    early = started(environ, "logs", "-f", job.id)
    eventually((folder / "on").exists, 30, "the job to run")
    late = started(environ, "logs", "--follow", job.id[:20])
    assert late.stdout is not None
    assert late.stderr is not None
    assert late.stdout.readline() == "1\n", "what was printed is there while the job runs"
    (folder / "go").touch()
    every = "".join(f"{number}\n" for number in range(1, 1001)) + "rest"
    assert early.communicate(timeout=60) == (every, "end\n")
    assert (late.stdout.read(), late.stderr.read()) == (every.removeprefix("1\n"), "end\n")
    assert (early.returncode, late.wait(60)) == (0, 0)
    late.stdout.close()
    late.stderr.close()


def test_an_interruption_leaves_the_job_and_says_how_to_come_back(
    environ: dict[str, str], client: Client, folder: Path
) -> None:
    job = client.submit("busybox", ["sh", "-c", f"echo hello; {_GO}"], outputpath=str(folder))
    following = started(environ, "logs", "-f", job.id)
    assert following.stdout is not None
    assert following.stdout.readline() == "hello\n"
    assert printed_by(environ, "ps", "-q")[0].split() == [job.id]
    following.send_signal(signal.SIGINT)
    _, err = following.communicate(timeout=120)
    assert following.returncode == exitcodes.INTERRUPTED
    assert err == (
        f"nothing was cancelled; come back with: celery-docker logs -f {job.id}, "
        f"or cancel with: celery-docker cancel {job.id}\n"
    )
    (folder / "go").touch()
    assert job.wait(60) == "succeeded"


def test_a_live_log_that_has_aged_or_has_a_hole(environ: dict[str, str], client: Client) -> None:
    job = client.submit("busybox", ["sh", "-c", "echo one; echo two >&2"])
    job.wait(60)
    redis = client.store.link.client
    redis.delete(keys.log(job.id))
    out, err = printed_by(environ, "logs", job.id)
    assert (sorted(out.split()), err.count("\n")) == (["one", "two"], 1)
    assert "receipt" in err
    redis.xadd(keys.log(job.id), {"stream": 1, "attempt": 1, "offset": 10, "data": "three\n"})
    assert printed_by(environ, "logs", job.id) == (
        "three\n",
        "celery-docker: 10 B of stdout are not kept here; see the job's --log-file\n",
    )


def test_a_batch_is_cancelled_whole(environ: dict[str, str], client: Client) -> None:
    batch = client.map(lambda n: {"image": "busybox", "command": "sleep 100"}, range(5), limit=1)
    assert printed_by(environ, "status", batch.id)[0].splitlines()[3] == "limit      1 at once"
    _, err = printed_by(environ, "cancel", batch.id[:13])
    assert err == f"batch {batch.id}: cancelling 5 jobs, 0 had ended already\n"
    assert printed_by(environ, "wait", "-q", batch.id, status=exitcodes.CANCELLED) == ("", "")
    assert batch.counts() == {"cancelled": 5}
    assert printed_by(environ, "cancel", batch.id)[1].endswith(" cancelling 0 jobs, 5 had ended already\n")


def test_a_host_is_drained_and_resumed(environ: dict[str, str], worker: Worker, client: Client) -> None:
    assert printed_by(environ, "drain", "--reason", "new disk", HOST)[1].startswith(f"{HOST} takes no more jobs, until")
    eventually(lambda: "drained by" in worker.status, 30, "the worker to hear of it")
    eventually(lambda: _worker(environ)["status"].startswith("Takes no jobs"), 30, "its heartbeat")
    assert _worker(environ)["state"] == "drained"
    header, line = on_terminal(environ, "workers", columns=80)
    assert header.split() == ["HOST", "STATE", "SLOTS", "RUNNING", "FREE", "VERSION", "HEARD", "WHY"]
    assert line.split()[:4] == [HOST, "drained", "2", "0"]
    assert "new disk" in printed_by(environ, "workers")[0]
    job = client.submit("busybox", "true")
    assert printed_by(environ, "status")[0].splitlines()[0].startswith("jobs       0 in hand, 1 queued")
    assert printed_by(environ, "resume", HOST)[1] == f"{HOST} takes jobs again\n"
    assert job.wait(60) == "succeeded"
    assert printed_by(environ, "resume", HOST)[1] == f"{HOST} was not drained\n"
    eventually(lambda: _worker(environ)["state"] == "ready", 30, "the host to be ready")
    assert "tow: no worker has this name; known are one@lab\n" in printed_by(environ, "drain", "tow")[1]
    printed_by(environ, "resume", "tow")


def _worker(environ: dict[str, str]) -> dict[str, Any]:
    (row,) = documents(printed_by(environ, "workers", "--json")[0])
    return dict(row)


def test_a_purge_covers_what_waits_elsewhere(environ: dict[str, str], client: Client) -> None:
    """Delayed jobs, dependent ones and those that their batch holds back, of this queue alone."""
    first, second = client.submit("busybox", "true", queue="night"), client.submit("busybox", "true", queue="day")
    after = client.submit("busybox", "true", queue="night", after=[second])
    document = {"image": "busybox", "command": "true", "queue": "night"}
    held = client.map({**document, "command": "echo {}"}, ["/a", "/b"], limit=1)
    redis = client.store.link.client
    redis.zrem(keys.WAITING, first.id)
    redis.delete("night")
    redis.zadd(keys.DELAYED, {first.id: 9e9})
    out, _ = printed_by(environ, "queue", "purge", "--queue", "night", "--yes", "--json")
    jobs = {first.id, after.id, *(job.id for job in held.jobs())}
    assert set(json.loads(out)["cancelled"]) == jobs
    assert all(redis.hexists(keys.job(job_id), "cancelled_at") for job_id in jobs)
    assert not redis.hexists(keys.job(second.id), "cancelled_at")
    client.cancel(second)
    eventually(lambda: all(job.state == "cancelled" for job in (first, second, after)), 60, "their end")
    assert held.wait(60) == {"cancelled": 2}
