"""`celery-docker run` and `wait` with a real worker: exit statuses and interruptions."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from celery_docker.store import keys
from tests import commandline, servers
from tests.waiting import eventually
from tests.workers.worker import Worker

_FOR_EVER = "touch /output/on; while :; do sleep 0.1; done"


@pytest.fixture(scope="module")
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(redis_server.url, dockerd, CELERY_DOCKER_MAX_RETRIES="0", CELERY_DOCKER_RETRY_DELAY="0") as running:
        yield running
    dockerd.remove_containers()
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that the job may write to."""
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def started(worker: Worker, home: Path, *line: str) -> subprocess.Popen[str]:
    """Start the command as a terminal would: by itself, so that a signal reaches it alone."""
    environ = commandline.environ(worker.environ["CELERY_DOCKER_BROKER_URL"], home)
    command, pipe = commandline.process(*line), subprocess.PIPE
    return subprocess.Popen(command, env=environ, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def called(worker: Worker, home: Path, *line: str) -> tuple[int, str, str]:
    """Return exit status and output of a command that nobody interrupts."""
    completed = commandline.call(*line, environ=commandline.environ(worker.environ["CELERY_DOCKER_BROKER_URL"], home))
    return completed.returncode, completed.stdout, completed.stderr


_HOME = "mkdir -p ~/.cache/torch && echo $USER $LOGNAME $HOME"
_EAT = "x=$(head -c 100m /dev/zero | tr '\\0' x); echo $x | wc -c"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["busybox", "echo", "hello"], (0, "hello\n", "")),
        (["-u", "54321", "busybox", "sh", "-c", _HOME], (0, "54321 54321 /tmp\n", "")),
        (["busybox", "sh", "-c", "echo no; echo why >&2; exit 3"], (3, "no\n", "why\ncelery-docker: exit code 3\n")),
        (["--timeout", "1", "busybox", "sleep", "60"], (124, "", "celery-docker: timed out")),
        (["--expires", "1", "--queue", "nobody", "busybox", "true"], (124, "", "celery-docker: expired")),
        (["-i", "/no/such/file", "busybox", "true"], (125, "", "celery-docker: rejected: inputpath: ")),
        (["-i", "/etc", "busybox", "true"], (125, "", "celery-docker: rejected: inputpath: ")),
        (["--pull", "never", "no-such-image", "true"], (125, "", "celery-docker: rejected: ")),
        (["--entrypoint", "/etc/passwd", "busybox"], (126, "", "celery-docker: exit code 126, the command cannot be")),
        (["busybox", "no-such-command"], (127, "", "celery-docker: exit code 127, the command was not found")),
        (["busybox", "sh", "-c", "kill -9 $$"], (137, "", "celery-docker: exit code 137")),
        (
            ["-m", "16m", "busybox", "sh", "-c", _EAT],
            (137, "", "out of memory: limit 16m, raise it with -m"),
        ),
    ],
    ids=[
        *(
            "success",
            "a user without a name",
            "its own code",
            "timeout",
            "expired",
            "missing input",
            "policy",
            "no image",
            "not executable",
        ),
        *("no such command", "killed", "out of memory"),
    ],
)
def test_exit_statuses(worker: Worker, tmp_path: Path, line: list[str], expected: tuple[int, str, str]) -> None:
    status, out, err = called(worker, tmp_path, "run", *line)
    assert (status, out) == expected[:2], err
    # Before the last line stands what the job itself has said, and that no worker takes it.
    assert expected[2] in err
    waits = "nobody" in line
    assert ("celery-docker: no worker serves the queue 'nobody': the job waits" in err) is waits
    assert err.count("celery-docker: ") == (0 if status == 0 else 1 + waits)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["run"], (2, "celery-docker: image: is missing")),
        (["run", "--no-such-flag", "busybox"], (2, "celery-docker: run: --no-such-flag is not a flag")),
        (["run", "--memory", "1", "busybox"], (2, "celery-docker: --memory: ")),
        (["run", "--after", "nonsense", "busybox"], (4, "celery-docker: no job has an id that begins with 'nonsense'")),
        (["submit", "--after", "@last", "busybox"], (4, "celery-docker: @last: it is not known")),
    ],
)
def test_no_job_comes_of_it(worker: Worker, tmp_path: Path, line: list[str], expected: tuple[int, str]) -> None:
    status, out, err = called(worker, tmp_path, *line)
    assert (status, out, len(err.splitlines())) == (expected[0], "", 1)
    assert err.startswith(expected[1])


def test_output_is_shown_as_it_comes_and_once(worker: Worker, tmp_path: Path, folder: Path) -> None:
    """Both streams apart, beyond the 64 KiB that a receipt keeps."""
    script = "echo first; echo aside >&2; until [ -e /output/go ]; do sleep 0.05; done; seq 20000; echo last >&2"
    process = started(worker, tmp_path, "run", "-o", str(folder), "busybox", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "first\n"
    (folder / "go").touch()
    status, out, err = ended(process)
    assert (status, err) == (0, "aside\nlast\n")
    assert out.splitlines() == [str(number) for number in range(1, 20001)]


def test_a_second_attempt_is_told(worker: Worker, tmp_path: Path, folder: Path) -> None:
    script = "echo again; [ -e /output/on ] || { touch /output/on; exit 5; }"
    line = ["run", "--retries", "1", "-o", str(folder), "busybox", "sh", "-c", script]
    status, out, err = called(worker, tmp_path, *line)
    assert (status, out) == (0, "again\nagain\n")
    first, second = sorted(err.splitlines())
    assert first.startswith("celery-docker: attempt 1 failed: exit code 5")
    assert second == "celery-docker: attempt 2"


def test_the_receipt_as_json(worker: Worker, tmp_path: Path) -> None:
    status, out, _ = called(worker, tmp_path, "run", "--json", "busybox", "sh", "-c", "echo hello; exit 4")
    receipt = json.loads(out)
    assert status == 4
    assert (receipt["state"], receipt["exit_code"], receipt["output"]) == ("failed", 4, "hello\n")


def test_ctrl_c_cancels_the_job(worker: Worker, tmp_path: Path, folder: Path) -> None:
    process = started(worker, tmp_path, "run", "-o", str(folder), "busybox", "sh", "-c", _FOR_EVER)
    eventually((folder / "on").exists, 30, "the job to run")
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 143
    assert "cancelling" in err
    assert "with Ctrl-C" in err.splitlines()[-1]


def test_a_second_ctrl_c_leaves_at_once(worker: Worker, tmp_path: Path, folder: Path) -> None:
    """The job is cancelled all the same."""
    stubborn = f"trap '' TERM; {_FOR_EVER}"
    process = started(worker, tmp_path, "run", "-o", str(folder), "busybox", "sh", "-c", stubborn)
    eventually((folder / "on").exists, 30, "the job to run")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "cancelling" in process.stderr.readline() + process.stderr.readline()
    eventually(lambda: _is_marked(worker), 30, "the mark")
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 130
    assert "celery-docker status" in err


def _is_marked(worker: Worker) -> bool:
    import redis

    with redis.Redis.from_url(worker.environ["CELERY_DOCKER_BROKER_URL"]) as client:
        return bool(client.scard(keys.CANCELLING))


def test_a_hangup_leaves_the_job_alone(
    worker: Worker, tmp_path: Path, folder: Path, redis_server: servers.RedisServer
) -> None:
    script = "touch /output/on; until [ -e /output/go ]; do sleep 0.05; done; touch /output/done"
    process = started(worker, tmp_path, "run", "-o", str(folder), "busybox", "sh", "-c", script)
    eventually((folder / "on").exists, 30, "the job to run")
    process.send_signal(signal.SIGHUP)
    ended(process)
    job_id = (tmp_path / ".local/state/celery-docker/last").read_text().strip()
    with redis_server.client(decode_responses=True) as client:
        assert not client.hexists(keys.job(job_id), "cancelled_at")
        (folder / "go").touch()
        eventually(lambda: client.hget(keys.job(job_id), "state") == "succeeded", 30, "the job to succeed")
    assert (folder / "done").exists()


def test_wait_exits_with_the_highest_code(worker: Worker, tmp_path: Path) -> None:
    jobs = {code: _submitted(worker, tmp_path, "busybox", "sh", "-c", f"exit {code}") for code in (0, 3, 7)}
    assert called(worker, tmp_path, "wait", jobs[0]) == (0, "", "")
    status, out, err = called(worker, tmp_path, "wait", *jobs.values())
    assert (status, out) == (7, "")
    assert err.splitlines() == [f"celery-docker: {jobs[code][:8]}: exit code {code}" for code in (3, 7)]
    status, out, _ = called(worker, tmp_path, "wait", "--json", "@last")
    assert (status, [receipt["exit_code"] for receipt in json.loads(out)]) == (7, [7])


def test_wait_for_no_job(worker: Worker, tmp_path: Path) -> None:
    status, out, err = called(worker, tmp_path, "wait", "nonsense")
    assert (status, out) == (4, "")
    assert err.startswith("celery-docker: no job has an id that begins with 'nonsense'")


def test_wait_gives_up_or_is_interrupted_and_the_job_goes_on(worker: Worker, tmp_path: Path, folder: Path) -> None:
    script = "touch /output/on; until [ -e /output/go ]; do sleep 0.05; done"
    job_id = _submitted(worker, tmp_path, "-o", str(folder), "busybox", "sh", "-c", script)
    status, _, err = called(worker, tmp_path, "wait", "--timeout", "0", job_id)
    assert status == 124
    assert err == f"celery-docker: not ended after 0s: {job_id}; it goes on\n"
    eventually((folder / "on").exists, 30, "the job to run")
    for number, expected in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        waiting = started(worker, tmp_path, "wait", job_id)
        eventually(lambda pid=waiting.pid: _has_socket(pid), 30, "the connection to Redis")  # type: ignore[misc]
        waiting.send_signal(number)
        status, _, err = ended(waiting)
        assert status == expected
        assert err == (
            f"nothing was cancelled; come back with: celery-docker wait {job_id}, "
            f"or cancel with: celery-docker cancel {job_id}\n"
        )
    (folder / "go").touch()
    assert called(worker, tmp_path, "wait", job_id)[0] == 0


def _submitted(worker: Worker, home: Path, *line: str) -> str:
    status, out, err = called(worker, home, "submit", *line)
    assert status == 0, err
    return out.strip()


def _has_socket(pid: int) -> bool:
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since it was listed
            if str(file.readlink()).startswith("socket:"):
                return True
    return False
