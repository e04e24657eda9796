"""`celery-docker run` is attached: every byte of the output, at the reader's pace, and no job goes on in silence."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from celery_docker.store import keys
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import ROOT, Worker

_MEGABYTE = 10**6
# What a worker's memory may grow by, whatever its readers do.
_GROWTH_BYTES = 16 * 2**20


@pytest.fixture(scope="module")
def worker(redis_server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(redis_server.url, dockerd) as running:
        yield running
    dockerd.remove_containers()
    with redis_server.client() as client:
        client.flushall()


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """100 MB of random bytes."""
    path = tmp_path / "noise"
    path.write_bytes(random.Random(7).randbytes(100 * _MEGABYTE))  # noqa: S311  # the same bytes each time
    return path


class Run:
    """A `run` whose standard output a test reads as it likes."""

    def __init__(self, worker: Worker, home: Path, *line: str, command: str = "run") -> None:
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)}
        environ["CELERY_DOCKER_BROKER_URL"] = worker.environ["CELERY_DOCKER_BROKER_URL"]
        self.home = home
        self.notes = home / "notes"
        with self.notes.open("wb") as notes:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery_docker.cli", *command.split(), *line],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=notes,
                start_new_session=True,
            )

    @property
    def err(self) -> str:
        return self.notes.read_text()

    @property
    def job_id(self) -> str:
        last = self.home / ".local/state/celery-docker/last"
        eventually(last.exists, 30, "the job to be queued")
        return last.read_text().strip()

    def read(self, size: int = -1) -> bytes:
        assert self.process.stdout is not None
        return self.process.stdout.read(size)

    def md5(self, bytes_per_s: float | None = None) -> str:
        """Return the checksum of all that comes, read at this pace."""
        digest, total, began = hashlib.md5(), 0, time.monotonic()  # noqa: S324  # a checksum, not a secret
        while chunk := self.read(65536):
            digest.update(chunk)
            total += len(chunk)
            if bytes_per_s is not None:
                time.sleep(max(0, began + total / bytes_per_s - time.monotonic()))
        return digest.hexdigest()

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()  # noqa: S324  # a checksum, not a secret


class Growth:
    """The highest memory of a worker while a block runs, above that at its begin."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._before = worker.rss_bytes
        self._most = self._before
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._done.wait(0.05):
            self._most = max(self._most, self._worker.rss_bytes)

    def __enter__(self) -> Growth:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def size(self) -> int:
        return self._most - self._before


def test_a_hundred_megabytes_of_noise(worker: Worker, tmp_path: Path, noise: Path) -> None:
    with Growth(worker) as growth:
        run = Run(worker, tmp_path, "-i", str(noise), "busybox", "cat", "/input")
        assert run.md5() == md5_of(noise)
        assert (run.wait(), run.err) == (0, "")
    assert growth.size < _GROWTH_BYTES


def test_a_slow_reader_slows_the_job(
    worker: Worker, tmp_path: Path, noise: Path, redis_server: servers.RedisServer
) -> None:
    """It loses nothing, and neither worker nor Redis keeps much of it."""
    short = tmp_path / "short"
    short.write_bytes(noise.read_bytes()[: 20 * _MEGABYTE])
    with redis_server.client() as client:
        before = client.info("memory")["used_memory"]
        with Growth(worker) as growth:
            run = Run(worker, tmp_path, "-i", str(short), "busybox", "cat", "/input")
            assert run.read(_MEGABYTE)
            assert client.info("memory")["used_memory"] - before < _GROWTH_BYTES
            rest = run.md5(2 * _MEGABYTE)
    assert (run.wait(), run.err) == (0, "")
    assert rest == hashlib.md5(short.read_bytes()[_MEGABYTE:]).hexdigest()  # noqa: S324  # a checksum, not a secret
    assert growth.size < _GROWTH_BYTES


def test_a_reader_that_hangs_holds_the_job_up_for_a_while_only(
    worker: Worker, tmp_path: Path, redis_server: servers.RedisServer
) -> None:
    """The job goes on to its end; the command says what is missing, and where."""
    run = Run(worker, tmp_path, "busybox", "sh", "-c", "echo begun; head -c 50m /dev/zero; echo end")
    assert run.read(6) == b"begun\n"
    run.process.send_signal(signal.SIGSTOP)
    try:
        with redis_server.client(decode_responses=True) as client:
            eventually(lambda: client.hget(keys.job(run.job_id), "state") == "succeeded", 60, "the job to go on")
    finally:
        run.process.send_signal(signal.SIGCONT)
    out = b"begun\n" + run.read()
    assert run.wait() == 125
    assert out.endswith(b"\0end\n")
    note = run.err.splitlines()[0]
    assert note.startswith("celery-docker: ")
    assert "of stdout are missing after byte " in note
    place = int(note.partition("after byte ")[2].partition(";")[0])
    assert out[:place] == b"begun\n" + bytes(place - 6)


def test_output_that_nobody_takes_does_not_keep_a_job_from_its_end(worker: Worker, tmp_path: Path) -> None:
    """Neither from its timeout."""
    run = Run(worker, tmp_path, "--timeout", "2", "busybox", "yes")
    assert run.read(2) == b"y\n"
    run.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    status = subprocess.run(
        [sys.executable, "-m", "celery_docker.cli", "wait", run.job_id],
        env=worker.environ | {"HOME": str(tmp_path)},
        check=False,
        capture_output=True,
        timeout=60,
    )
    assert status.returncode == 124
    assert time.monotonic() - began < 60
    run.process.send_signal(signal.SIGCONT)
    run.read()
    assert run.wait() == 124


def test_sigterm_cancels_the_job_and_waits_for_its_container(
    worker: Worker, tmp_path: Path, dockerd: servers.Dockerd
) -> None:
    run = Run(worker, tmp_path, "busybox", "sh", "-c", "echo begun; while :; do sleep 1; done")
    assert run.read(6) == b"begun\n"
    for _ in range(2):  # as timeout(1) does
        run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    assert dockerd.running() == []
    assert f"cancelling {run.job_id}, because of SIGTERM" in run.err


def test_sigterm_is_heard_while_nobody_takes_the_output(
    worker: Worker, tmp_path: Path, dockerd: servers.Dockerd
) -> None:
    run = Run(worker, tmp_path, "busybox", "yes")
    assert run.read(2) == b"y\n"
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 143
    assert dockerd.running() == []


@pytest.mark.parametrize("script", ["yes", "echo y; while :; do sleep 1; done"])
def test_a_job_whose_output_nobody_reads_any_more_is_cancelled(
    worker: Worker, tmp_path: Path, dockerd: servers.Dockerd, script: str
) -> None:
    run = Run(worker, tmp_path, "busybox", "sh", "-c", script)
    assert run.read(2) == b"y\n"
    assert run.process.stdout is not None
    run.process.stdout.close()
    assert run.wait() == 141
    assert dockerd.running() == []
    assert "because of nobody reading its output" in run.err


def into_a_full_disk(worker: Worker, home: Path, *line: str) -> tuple[int, str]:
    """Run a command whose standard output takes nothing; return its exit status and its standard error."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(home)}
    environ["CELERY_DOCKER_BROKER_URL"] = worker.environ["CELERY_DOCKER_BROKER_URL"]
    with open("/dev/full", "wb") as full:
        command = [sys.executable, *line]
        process = subprocess.run(command, env=environ, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    return process.returncode, process.stderr


@pytest.mark.parametrize(
    ("line", "thing"),
    [
        (["submit", "busybox", "true"], "job"),
        (["submit", "--json", "busybox", "true"], "job"),
        (["batch", "--array", "1-2", "busybox", "true"], "batch"),
    ],
)
def test_an_id_that_cannot_be_written_is_told_elsewhere(
    worker: Worker, tmp_path: Path, line: list[str], thing: str
) -> None:
    status, err = into_a_full_disk(worker, tmp_path, "-m", "celery_docker.cli", *line)
    last = (tmp_path / ".local/state/celery-docker/last").read_text().strip()
    assert status == 125
    assert err == (
        f"celery-docker: the {thing} is queued, its id is {last}\n"
        "celery-docker: cannot write the output: No space left on device\n"
    )


def test_tasks_py_tells_an_id_that_it_cannot_write(
    worker: Worker, tmp_path: Path, redis_server: servers.RedisServer
) -> None:
    status, err = into_a_full_disk(worker, tmp_path, str(ROOT / "debian/tasks.py"), "busybox", "--", "true")
    (line,) = err.splitlines()
    job_id = line.partition("its id is ")[2].partition(";")[0]
    assert (status, line.partition(":")[0]) == (1, "tasks.py")
    with redis_server.client() as client:
        assert client.exists(keys.job(job_id))


def test_a_full_disk_under_the_output_cancels_the_job(worker: Worker, tmp_path: Path, dockerd: servers.Dockerd) -> None:
    status, err = into_a_full_disk(worker, tmp_path, "-m", "celery_docker.cli", "run", "busybox", "yes")
    assert status == 125
    assert dockerd.running() == []
    assert err.splitlines()[-1] == "celery-docker: cannot write the output: No space left on device"


def test_what_ends_a_command_by_timeout_ends_its_job(worker: Worker, tmp_path: Path, dockerd: servers.Dockerd) -> None:
    """timeout(1) reports its own status once the command has ended."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    environ["CELERY_DOCKER_BROKER_URL"] = worker.environ["CELERY_DOCKER_BROKER_URL"]
    command = ["timeout", "2", sys.executable, "-m", "celery_docker.cli", "run", "busybox", "sleep", "1000"]
    assert subprocess.run(command, env=environ, check=False, capture_output=True, timeout=60).returncode == 124
    assert dockerd.running() == []


def test_a_job_that_fails_prints_its_output_once(worker: Worker, tmp_path: Path) -> None:
    """The worker would retry it three times."""
    run = Run(worker, tmp_path, "busybox", "sh", "-c", "echo row; exit 5")
    assert (run.read(), run.wait()) == (b"row\n", 5)


def test_the_output_is_whole_over_kills_and_handovers_of_the_worker(
    worker: Worker, tmp_path: Path, noise: Path
) -> None:
    short = tmp_path / "short"
    short.write_bytes(noise.read_bytes()[: 12 * _MEGABYTE])
    run = Run(worker, tmp_path, "-i", str(short), "busybox", "cat", "/input")
    taken = run.read(_MEGABYTE)
    for end in (worker.kill, worker.hand_over):
        end()
        worker.wait()
        worker.start()
        taken += run.read(_MEGABYTE)
    taken += run.read()
    assert (run.wait(), run.err) == (0, "")
    assert taken == short.read_bytes()


def test_the_output_is_whole_over_an_outage_of_redis(dockerd: servers.Dockerd, tmp_path: Path, noise: Path) -> None:
    with (
        servers.RedisServer({"appendonly": "yes"}) as server,
        Worker(server.url, dockerd) as worker,
    ):
        short = tmp_path / "short"
        short.write_bytes(noise.read_bytes()[: 12 * _MEGABYTE])
        run = Run(worker, tmp_path, "-i", str(short), "busybox", "cat", "/input")
        taken = run.read(_MEGABYTE)
        server.restart()
        taken += run.read()
        assert run.wait() == 0, run.err
        assert taken == short.read_bytes()
        eventually(lambda: dockerd.containers() == [], 30)


def test_several_readers_each_at_its_own_pace(worker: Worker, tmp_path: Path, noise: Path) -> None:
    """Whoever is attached before the first byte has all of it."""
    short = tmp_path / "short"
    short.write_bytes(noise.read_bytes()[: 5 * _MEGABYTE])
    script = "until [ -e /output/go ]; do sleep 0.1; done; cat /input"
    folder = tmp_path / "out"
    folder.mkdir()
    run = Run(worker, tmp_path, "-i", str(short), "-o", str(folder), "busybox", "sh", "-c", script)
    (tmp_path / "second").mkdir()
    logs = Run(worker, tmp_path / "second", run.job_id, command="logs -f")
    with redis.Redis.from_url(worker.environ["CELERY_DOCKER_BROKER_URL"]) as client:
        eventually(lambda: client.hlen(keys.log_readers(run.job_id)) == 2, 30, "both readers")
    (folder / "go").touch()
    slow = threading.Thread(target=lambda: sums.append(logs.md5(_MEGABYTE)), daemon=True)
    sums: list[str] = []
    slow.start()
    assert (run.md5(), run.err) == (md5_of(short), "")
    slow.join(60)
    assert sums == [md5_of(short)]
    assert (run.wait(), logs.wait()) == (0, 0)
