"""`celery-docker batch`, `watch` and `retry` with a real worker, through the command."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker.store import keys
from tests import commandline, servers
from tests.waiting import eventually
from tests.workers.worker import Worker

AWKWARD = ("a b.txt", "quote'\".txt", "new\nline.txt", "größe 大.txt", "-n.txt", "{}.txt", "$(x).txt")


@pytest.fixture(scope="module")
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(redis_server.url, dockerd, CELERY_DOCKER_MAX_RETRIES="0", CELERY_DOCKER_CONCURRENCY="4") as running:
        yield running
    dockerd.remove_containers()
    with redis_server.client() as client:
        client.flushall()


class Commands:
    """The command, in a folder of its own that is its home too."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.environ = commandline.environ(url, folder) | {"PYTHONUTF8": "1"}

    def __call__(self, *line: str, status: int = 0, input: str = "") -> subprocess.CompletedProcess[str]:
        completed = commandline.call(*line, environ=self.environ, input=input, folder=self.folder)
        assert completed.returncode == status, completed.stderr
        return completed

    def started(self, *line: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            commandline.process(*line), env=self.environ, cwd=self.folder, stdout=pipe, stderr=pipe, text=True
        )


@pytest.fixture
def celery_docker(redis_server: servers.RedisServer, tmp_path: Path) -> Commands:
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return Commands(redis_server.url, tmp_path)


def test_files_with_awkward_names(worker: Worker, celery_docker: Commands) -> None:
    for name in AWKWARD:
        (celery_docker.folder / "in" / name).write_text(f"content of {name}")
    line = ("--each", "in/*.txt", "-o", "out", "busybox", "sh", "-c", 'cat /input > "/output/$1"', "-", "{/}")
    completed = celery_docker("batch", "--wait", *line)
    assert re.fullmatch(r"[0-9a-f-]{36}\n", completed.stdout)
    assert completed.stderr.splitlines()[-1] == f"{len(AWKWARD)} jobs: {len(AWKWARD)} succeeded"
    outputs = {path.name: path.read_text() for path in (celery_docker.folder / "out").iterdir()}
    assert outputs == {name: f"content of {name}" for name in AWKWARD}
    listed = "\0".join(f"in/{name}" for name in AWKWARD)
    assert celery_docker("batch", "--wait", "--each-from", "-", "busybox", "true", input=listed).returncode == 0


def test_two_of_six_fail_and_are_tried_again(worker: Worker, celery_docker: Commands) -> None:
    mended = "[ {} -lt 5 ] || [ -e /output/mended ]"
    script = f'echo "reads {{}}"; {mended} || {{ echo "no such sample: {{}}" >&2; exit {{}}; }}'
    line = ("--array", "1-6%3", "-o", "out", "--name", "sample {}", "busybox", "sh", "-c", script)
    batch_id = celery_docker("batch", *line).stdout.strip()
    watched = celery_docker("watch", status=6)
    lines = watched.stdout.splitlines()
    assert re.match(r"[0-6]/6 ", lines[0])
    assert lines[-5].startswith("6/6 100%  2 failed")
    assert lines[-4] == "6 jobs: 4 succeeded, 2 failed"
    assert re.fullmatch(r"  [0-9a-f]{8}  exit 5  sample 5: no such sample: 5", lines[-3])
    assert re.fullmatch(r"  [0-9a-f]{8}  exit 6  sample 6: no such sample: 6", lines[-2])
    assert lines[-1] == f"Run the failed ones again: celery-docker retry --failed {batch_id}"
    assert watched.stderr == ""
    (celery_docker.folder / "out/mended").touch()
    again = celery_docker("retry", "--failed", batch_id)
    assert again.stdout == f"{batch_id}\n"
    assert again.stderr == "2 jobs queued again; follow with: celery-docker watch\n"
    assert celery_docker("watch", batch_id[:8]).stdout.splitlines()[-1] == "6 jobs: 6 succeeded"
    summary = json.loads(celery_docker("watch", "--json").stdout)
    assert summary == {"id": batch_id, "counts": {"succeeded": 6}, "exit_code": 0}
    assert celery_docker("retry", "--failed", "@last").stderr == "0 jobs queued again\n"


def test_retry_of_jobs(worker: Worker, celery_docker: Commands) -> None:
    job_ids = [celery_docker("submit", "busybox", "echo", text).stdout.strip() for text in "ab"]
    celery_docker("wait", *job_ids)
    retried_ids = celery_docker("retry", *[job_id[:13] for job_id in job_ids]).stdout.split()
    assert len({*retried_ids, *job_ids}) == 4
    celery_docker("wait", *retried_ids)
    (summary,) = json.loads(celery_docker("retry", "--json", retried_ids[0]).stdout)
    assert summary["retry_of"] == retried_ids[0]
    celery_docker("wait", "@last")


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        (("retry",), 2, "celery-docker: retry: give jobs, or --failed and a batch; one of the two"),
        (("retry", "nonsense"), 4, "celery-docker: no job has an id that begins with 'nonsense'"),
        (("watch", "nonsense"), 4, "celery-docker: no batch has an id that begins with 'nonsense'"),
        (("watch",), 4, "celery-docker: @last: it is not known what you have submitted last"),
    ],
)
def test_what_there_is_not(celery_docker: Commands, line: tuple[str, ...], status: int, expected: str) -> None:
    completed = celery_docker(*line, status=status)
    assert (completed.stdout, len(completed.stderr.splitlines())) == ("", 1)
    assert completed.stderr.startswith(expected)


def test_a_batch_is_no_job(worker: Worker, celery_docker: Commands) -> None:
    batch_id = celery_docker("batch", "--wait", "--array", "1-2", "busybox", "true").stdout.strip()
    assert celery_docker("retry", "@last", status=4).stderr == (
        f"celery-docker: {batch_id!r} is a batch and not a job; run what has failed of it again with: "
        f"celery-docker retry --failed {batch_id}\n"
    )


def test_a_job_is_no_batch(worker: Worker, celery_docker: Commands) -> None:
    job_id = celery_docker("submit", "busybox", "true").stdout.strip()
    assert celery_docker("watch", status=4).stderr == (
        f"celery-docker: {job_id!r} is a job and not a batch; see celery-docker wait {job_id}, "
        f"or celery-docker retry {job_id}\n"
    )
    celery_docker("wait", job_id)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_watch_leaves_the_jobs_alone(
    worker: Worker, celery_docker: Commands, number: signal.Signals, status: int
) -> None:
    wait = "until [ -e /output/go ]; do sleep 0.05; done"
    batch_id = celery_docker("batch", "--array", "1-2", "-o", "out", "busybox", "sh", "-c", wait).stdout.strip()
    watching = celery_docker.started("watch")
    assert watching.stdout is not None
    assert watching.stdout.readline().startswith("0/2 0%")
    watching.send_signal(number)
    _, err = watching.communicate(timeout=120)
    assert watching.returncode == status
    assert err == (
        f"nothing was cancelled; come back with: celery-docker watch {batch_id}, "
        f"or cancel with: celery-docker cancel {batch_id}\n"
    )
    (celery_docker.folder / "out/go").touch()
    assert celery_docker("watch").stdout.splitlines()[-1] == "2 jobs: 2 succeeded"


@pytest.mark.parametrize("command", [("watch",), ("logs", "-f")])
def test_a_reader_that_goes_ends_the_command_and_no_job(
    worker: Worker, celery_docker: Commands, command: tuple[str, ...]
) -> None:
    """At once, as with `| grep -m1 ready`, although the job prints nothing more."""
    script = "echo ready; until [ -e /output/go ]; do sleep 0.05; done"
    batch_id = celery_docker("batch", "--array", "1", "-o", "out", "busybox", "sh", "-c", script).stdout.strip()
    name = batch_id if command == ("watch",) else celery_docker("ps", "-a", "-q", "--batch", batch_id).stdout.strip()
    following = celery_docker.started(*command, name)
    assert following.stdout is not None
    assert following.stdout.readline()
    following.stdout.close()
    assert following.wait(30) == 128 + signal.SIGPIPE
    assert following.stderr is not None
    assert following.stderr.read() == ""
    following.stderr.close()
    (celery_docker.folder / "out/go").touch()
    assert celery_docker("watch").stdout.splitlines()[-1] == "1 job: 1 succeeded"


def test_what_is_done_is_skipped(worker: Worker, celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    for name in ("1", "2", "3"):
        (celery_docker.folder / "in" / name).touch()
    script = '[ "$1" != 3 ] || [ -e /output/mended ]'
    line = ("--each", "in/*", "-o", "out", "busybox", "sh", "-c", script, "-", "{/}")
    assert celery_docker("batch", "--wait", *line, status=1).stderr.splitlines()[0] == "3 jobs queued"
    (celery_docker.folder / "out/mended").touch()
    # By the records of the batch before; their markers are left on the way.
    completed = celery_docker("batch", "--skip-done", "--wait", *line)
    assert completed.stderr.splitlines()[0] == "1 job queued, 2 done already"
    with redis_server.client() as client:
        client.delete(keys.BATCHES)
    # By the markers alone.
    completed = celery_docker("batch", "--skip-done", *line)
    assert (completed.stdout, completed.stderr) == ("", "0 jobs queued, 3 done already\n")
    for marker in (celery_docker.folder / "out").glob(".celery-docker-done-*"):
        marker.unlink()
    assert celery_docker("batch", "--skip-done", "--wait", *line).stderr.splitlines()[0] == "3 jobs queued"


def test_a_bar_on_a_terminal(worker: Worker, celery_docker: Commands) -> None:
    ours, theirs = pty.openpty()
    line = commandline.process("batch", "--wait", "--array", "1-3", "busybox", "true")
    process = subprocess.Popen(line, env=celery_docker.environ, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    shown_screen = _all(ours)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    # The id alone goes to a pipe.
    assert re.fullmatch(r"[0-9a-f-]{36}\n", out)
    assert any(re.match(r"\[#+\] 3/3 100%", bar) for bar in shown_screen.split("\r")), shown_screen
    assert shown_screen.endswith("3 jobs: 3 succeeded\r\n")


def test_what_a_manifest_says(worker: Worker, celery_docker: Commands) -> None:
    text = '\ufeffword,job.timeout,job.user\r\n"two words",60,\r\nwörld,90,\r\n'
    (celery_docker.folder / "jobs.csv").write_bytes(text.encode())
    line = ("--manifest", "jobs.csv", "busybox", "echo", "{word}")
    dry_run = celery_docker("batch", "--dry-run", *line).stdout
    jobs = [json.loads(row) for row in dry_run.splitlines()]
    assert [(job["command"], job["timeout"]) for job in jobs] == [
        (["echo", "two words"], 60),
        (["echo", "wörld"], 90),
    ]
    celery_docker("batch", "--wait", *line)
    rows = "\n".join(json.dumps({"word": f"line\u2028{number}"}) for number in range(2))
    celery_docker("batch", "--wait", "--manifest", "-", "busybox", "echo", "{word}", input=rows)


def test_one_bad_line_of_ten_thousand(celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    lines = ["n,job.memory", *(f"{number},64m" for number in range(10_000))]
    lines[7000] = "6999,64x"
    (celery_docker.folder / "jobs.csv").write_text("\n".join(lines))
    with redis_server.client() as client:
        before = client.zcard(keys.BATCHES), client.zcard(keys.INDEX)
        completed = celery_docker("batch", "--manifest", "jobs.csv", "busybox", "echo", "{n}", status=2)
        assert completed.stdout == ""
        assert completed.stderr.startswith(
            "celery-docker: line 7001, column job.memory: '64x' must be a number of bytes"
        )
        assert completed.stderr.count("\n") == 1
        assert (client.zcard(keys.BATCHES), client.zcard(keys.INDEX)) == before


def test_a_glob_without_a_match(celery_docker: Commands) -> None:
    completed = celery_docker("batch", "--each", "in/*.nii", "busybox", "true", status=2)
    assert completed.stdout == ""
    assert completed.stderr.startswith("celery-docker: --each: no file matches 'in/*.nii'")


def test_a_name_that_is_no_text_is_refused(celery_docker: Commands) -> None:
    Path(os.fsdecode(os.fsencode(celery_docker.folder) + b"/in/\xff.txt")).touch()
    completed = celery_docker("batch", "--each", "in/*.txt", "busybox", "true", status=2)
    assert completed.stderr.startswith("celery-docker: input 1: inputpath: ")
    assert "must be valid Unicode" in completed.stderr


def test_an_id_in_a_pipe_while_the_rest_goes_to_a_terminal(worker: Worker, celery_docker: Commands) -> None:
    """`id=$(celery-docker submit ...)`, and the same with a batch."""
    ours, theirs = pty.openpty()
    script = (
        'job=$("$@" submit busybox true) && batch=$("$@" batch --array 1-2 busybox true)'
        ' && "$@" watch "$batch" >/dev/null && "$@" wait "$job" && echo "$job $batch"'
    )
    command = ["sh", "-c", script, "-", *commandline.process()]
    process = subprocess.Popen(command, env=celery_docker.environ, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    assert _all(ours) == "2 jobs queued; follow with: celery-docker watch\r\n"
    out, _ = process.communicate(timeout=60)
    assert re.fullmatch(r"[0-9a-f-]{36} [0-9a-f-]{36}\n", out)


def test_jobs_after_others(worker: Worker, celery_docker: Commands, redis_server: servers.RedisServer) -> None:
    """By the beginning of an id, by @last, and after a whole batch."""
    wait = "until [ -e /output/go ]; do sleep 0.05; done"
    first = celery_docker("submit", "-o", "out", "busybox", "sh", "-c", wait).stdout.strip()
    second = celery_docker("submit", "--after", first[:12], "busybox", "true").stdout.strip()
    batch_id = celery_docker("batch", "--after", "@last", "--array", "1-2", "busybox", "true").stdout.strip()
    last = celery_docker("submit", "--after", batch_id, "busybox", "true").stdout.strip()
    with redis_server.client(decode_responses=True) as client:
        assert client.hget(keys.job(second), "pending") == "1"
        assert client.hget(keys.job(last), "pending") == "2"
    (celery_docker.folder / "out/go").touch()
    celery_docker("wait", last)


def test_a_redis_that_goes_away_is_waited_for(dockerd: servers.Dockerd, tmp_path: Path) -> None:
    """By all that wait for jobs: they say so, and end with the job."""
    with servers.RedisServer({"appendonly": "yes"}) as server, Worker(server.url, dockerd) as _:
        (tmp_path / "out").mkdir()
        command = Commands(server.url, tmp_path)
        wait = "echo one; until [ -e /output/go ]; do sleep 0.05; done; echo two"
        run = command.started("run", "-o", "out", "busybox", "sh", "-c", wait)
        assert run.stdout is not None
        assert run.stdout.readline() == "one\n"
        logs = command.started("logs", "-f", "@last")
        assert logs.stdout is not None
        assert logs.stdout.readline() == "one\n"
        with server.client() as client, client.monitor() as commands:
            waiting = command.started("wait", "@last")
            eventually(lambda: _asks_for_a_state(commands.next_command()), 20, "the wait to begin")
        server.kill()
        for process in (run, logs, waiting):
            assert process.stderr is not None
            assert "jobs go on, and this waits for Redis" in process.stderr.readline()
        server.start()
        (tmp_path / "out/go").touch()
        for process, out in ((run, "two\n"), (logs, "two\n"), (waiting, "")):
            assert process.communicate(timeout=60)[0] == out
            assert process.returncode == 0


def _asks_for_a_state(command: dict[str, Any]) -> bool:
    """Return whether it does; a worker and a `logs -f` ask for receipts and output."""
    return re.fullmatch(r"EVALSHA \w+ 0 celery-docker:job: 1 state 0 [0-9a-f-]{36}", command["command"]) is not None


def _all(terminal: int) -> str:
    """Return what is written to a terminal until the last writer has gone."""
    text = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            piece = b""
        if not piece:
            os.close(terminal)
            return text.decode()
        text += piece


def test_a_missing_output_folder_is_made_when_a_job_is_queued(worker: Worker, celery_docker: Commands) -> None:
    line = ("--array", "1-2", "-o", "new/{}", "busybox", "true")
    celery_docker("batch", "--dry-run", *line)
    assert not (celery_docker.folder / "new").exists()
    celery_docker("batch", "--wait", *line)
    assert sorted(path.name for path in (celery_docker.folder / "new").iterdir()) == ["1", "2"]
    (celery_docker.folder / "file").touch()
    refusal = celery_docker("batch", "--array", "1", "-o", "file", "busybox", status=2).stderr
    assert refusal == f"celery-docker: --output: '{celery_docker.folder}/file' is a file; name a folder\n"
