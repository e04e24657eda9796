"""The command as its users meet it: what goes where, exit statuses, and what a terminal changes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from celery_docker import errors
from celery_docker.cli import exitcodes, main
from celery_docker.client import client, configfiles, configlayers
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.core.jobspec import JobSpec
from celery_docker.store.jobstore import Store
from changelog import VERSION

ROOT = Path(__file__).parents[3]
BROKER = {"CELERY_DOCKER_BROKER_URL": "redis://:geheim@broker.example.org:6379/0"}


class Queue:
    """Takes jobs, or raises what `failure` says; remembers what it got, and how."""

    failure: Exception | None = None

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.got: list[tuple[JobSpec, dict[str, object]]] = []

    def client(self, url: str) -> Queue:
        self.urls.append(url)
        return self

    def submit(self, spec: JobSpec, **options: object) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        self.got.append((spec, options))
        return SimpleNamespace(id="0f3a")

    def close(self) -> None: ...


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    fake = Queue()
    monkeypatch.setattr(client, "Client", fake.client)
    return fake


@pytest.fixture(autouse=True)
def environ(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """An environment with an empty home, on a machine without settings."""
    monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(tmp_path / "celery-worker"))
    monkeypatch.setattr(configlayers, "SYSTEM_FILE", str(tmp_path / "client.conf"))
    return {"HOME": str(tmp_path), **BROKER}


def test_submit_prints_the_id_alone(
    queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    line = ["submit", "--queue", "night", "--priority", "3", "--expires", "1h", "-u", "5", "busybox", "true"]
    assert main.main(line, environ) == 0
    assert capsys.readouterr() == ("0f3a\n", "")
    spec = JobSpec("busybox", ("true",), user="5")
    assert queue.got == [(spec, {"queue": "night", "priority": 3, "expires": 3600})]
    assert queue.urls == [BROKER["CELERY_DOCKER_BROKER_URL"]]
    assert (tmp_path / ".local/state/celery-docker/last").read_text() == "0f3a\n"


def test_submit_as_json(queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["submit", "--json", "--name", "n", "busybox"], environ) == 0
    assert json.loads(capsys.readouterr().out) == {"id": "0f3a", "name": "n", "state": "queued"}


def test_a_job_runs_as_its_submitter_in_the_configured_queue(queue: Queue, environ: dict[str, str]) -> None:
    assert main.main(["submit", "busybox"], {**environ, "CELERY_DOCKER_QUEUE": "gpu"}) == 0
    ((spec, options),) = queue.got
    assert spec.user == f"{os.getuid()}:{os.getgid()}"
    assert options["queue"] == "gpu"


@pytest.mark.parametrize(
    ("url", "kind", "call"),
    [("redis://127.0.0.1:1/0", Store, "submit"), ("http+unix:///none/api.sock", HttpSocket, "send")],
)
def test_a_batch_that_is_interrupted_while_it_is_submitted_is_named(
    monkeypatch: pytest.MonkeyPatch,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    url: str,
    kind: type,
    call: str,
) -> None:
    """A part of it may be there, and is to be found again."""

    def interrupted(*_: object, **_options: object) -> None:
        raise KeyboardInterrupt

    begun: list[str] = []
    monkeypatch.setattr(Store, "begin_batch", lambda _, batch_id, _facts: begun.append(batch_id))
    monkeypatch.setattr(kind, call, interrupted)
    line = ["batch", "--array", "1-3", "busybox", "true"]
    assert main.main(line, {**environ, "CELERY_DOCKER_BROKER_URL": url}) == 130
    (note,) = capsys.readouterr().err.splitlines()
    words = note.split()
    assert note == (
        f"celery-docker: some jobs of batch {words[-1]} may be queued; cancel it with: celery-docker cancel {words[-1]}"
    )
    assert begun in ([], [words[-1]])


@pytest.mark.parametrize("home", ["/proc/none", "/dev/null", None])
def test_a_home_that_is_missing_or_read_only_is_no_error(
    queue: Queue, capsys: pytest.CaptureFixture[str], home: str | None
) -> None:
    assert main.main(["submit", "busybox"], BROKER if home is None else {**BROKER, "HOME": home}) == 0
    assert capsys.readouterr() == ("0f3a\n", "")


@pytest.mark.parametrize(
    ("line", "status", "expected"),
    [
        ([], 2, "name a command"),
        (["sumbit"], 2, "'sumbit' is not a command; did you mean submit?"),
        (["submit"], 2, "image: is missing"),
        (["submit", "BusyBox"], 2, "image: 'BusyBox' is not an image name"),
        (["submit", "-m", "1", "busybox"], 2, "--memory: '1' must be"),
        (["submit", "--priority", "x", "--cpus", "y", "busybox"], 2, "--cpus: 'y' must be"),
        (["submit", "--broker", "http://x", "busybox"], 2, "--broker: CELERY_DOCKER_BROKER_URL='http://x': must"),
        (["logs"], 2, "logs: give JOB"),
        (["images", "push", "busybox"], 2, "images: 'push' must be pull IMAGE, or nothing"),
        (["images", "pull"], 2, "images pull: name one image, as in: celery-docker images pull registry/group/tool:1"),
        (["images", "pull", "UPPER:1"], 2, "images pull: 'UPPER:1' is not an image name"),
        (["images", "pull", "a", "b"], 2, "images pull: name one image"),
        (["queue", "clear"], 2, "queue: 'clear' must be length, purge, refused"),
        (["completion", "tcsh"], 2, "completion: 'tcsh' must be one of bash, zsh, fish"),
        (["cancel", "@last"], 4, "@last: it is not known what you have submitted last"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line_on_stderr(
    queue: Queue,
    environ: dict[str, str],
    capsys: pytest.CaptureFixture[str],
    line: list[str],
    status: int,
    expected: str,
) -> None:
    assert main.main(line, environ) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"celery-docker: {expected}")
    assert len(captured.err.splitlines()) == 1
    assert queue.got == []


@pytest.mark.parametrize(
    ("failure", "status"),
    [(errors.StoreAway("away"), 125), (errors.StoreRefused("no"), 125), (errors.NoSuchJob("x"), 4)],
)
def test_failures_have_their_own_status(
    queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str], failure: Exception, status: int
) -> None:
    queue.failure = failure
    assert main.main(["submit", "busybox"], environ) == status
    captured = capsys.readouterr()
    assert (captured.out, len(captured.err.splitlines())) == ("", 1)


def test_a_bad_file_is_named(environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "client.conf").write_text("CELERY_DOCKER_BROKER=redis://x\n")
    assert main.main(["config"], environ) == exitcodes.NOT_RUN
    stderr = capsys.readouterr().err
    assert f"{tmp_path}/client.conf: 'CELERY_DOCKER_BROKER' is not a setting of a client" in stderr


def test_config_masks_secrets(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    token_file = f"{environ['HOME']}/.config/celery-docker/token"
    assert main.main(["config"], environ) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["SETTING", "VALUE", "FROM"],
        ["broker_url", "redis://:***@broker.example.org:6379/0", "environment"],
        ["queue", "celery", "default"],
        ["token_file", token_file, "default"],
        ["way", "redis", "broker_url"],
    ]
    assert main.main(["config", "--json", "--broker", "redis://a:b@h/1"], environ) == 0
    assert json.loads(capsys.readouterr().out) == {
        "broker_url": {"value": "redis://a:***@h/1", "source": "--broker"},
        "queue": {"value": "celery", "source": "default"},
        "token_file": {"value": token_file, "source": "default"},
        "way": {"value": "redis", "source": "broker_url"},
    }


def test_dry_run_queues_nothing(queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--dry-run", "--json", "-u", "5:6", "-e", "A=1", "-i", "/no/such", "busybox", "echo", "a b"]
    for command in ("run", "submit"):
        assert main.main([command, *line], environ) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["job"]["command"] == ["echo", "a b"]
        assert printed["job"]["queue"] == "celery"
        assert printed["docker_run"].startswith("docker run --init --name run-ID ")
        assert "source=/no/such,target=/input,readonly" in printed["docker_run"]
        assert printed["docker_run"].endswith("--user 5:6 busybox:latest echo 'a b'")
    assert queue.got == []
    assert queue.urls == []


def test_dry_run_for_people(queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["run", "--dry-run", "busybox"], environ) == 0
    captured = capsys.readouterr()
    assert '"image": "busybox"' in captured.out
    assert "\ndocker run --init" in captured.out
    assert captured.err.startswith("this host")


def test_help_of_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--help"], {}) == 0
    assert main.main(["run", "--help"], {}) == 0
    captured = capsys.readouterr()
    assert "usage: celery-docker COMMAND" in captured.out
    assert "usage: celery-docker run [FLAGS] IMAGE [COMMAND] [ARG...]" in captured.out
    assert captured.err == ""


@pytest.mark.parametrize("line", [["--help"], ["run", "-h"], ["completion", "bash"], ["pss"], ["run", "--x"]], ids=str)
def test_help_completion_and_mistakes_wait_for_no_library(line: list[str]) -> None:
    code = (
        "import sys; from celery_docker.cli import main; main.main(sys.argv[1:]); "
        "print(sorted({'celery', 'kombu', 'docker', 'redis', 'asyncio', 'ssl'} & set(sys.modules)), file=sys.stderr)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *line], capture_output=True, text=True, check=True, timeout=30
    )
    assert process.stderr.splitlines()[-1] == "[]"


def _celery_docker(*line: str, **options: object) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-m", "celery_docker.cli", *line], env=environ, **options)  # type: ignore[call-overload,no-any-return]


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = _celery_docker("--help", stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == exitcodes.READER_GONE


def test_a_full_disk_is_told() -> None:
    with open("/dev/full", "wb") as full:
        process = _celery_docker("--help", stdout=full, stderr=subprocess.PIPE)
    stderr = process.communicate(timeout=30)[1].decode()
    assert stderr == "celery-docker: cannot write the output: No space left on device\n"
    assert process.returncode == exitcodes.NOT_RUN


@pytest.mark.parametrize(
    ("line", "closed", "status"),
    [
        ("--help", ">&-", 0),
        ("nosuch", ">&-", exitcodes.USAGE),
        ("nosuch", "2>&-", exitcodes.USAGE),
        ("nosuch", "2>/dev/full", exitcodes.NOT_RUN),
        ("submit -f -", "<&-", exitcodes.USAGE),
        ("batch --each-from - busybox true", "<&-", exitcodes.USAGE),
    ],
)
def test_a_stream_that_is_closed_or_full_ends_in_no_traceback(line: str, closed: str, status: int) -> None:
    """As cron and daemons may start it."""
    shell = ["sh", "-c", f'exec "$0" -m celery_docker.cli {line} {closed}', sys.executable]
    process = subprocess.run(
        shell, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL, capture_output=True, timeout=30
    )
    assert b"Traceback" not in process.stderr
    assert process.returncode == status


def test_ctrl_c_before_the_command_is_there_ends_it_at_once(tmp_path: Path) -> None:
    """Python still imports it."""
    slow = tmp_path / "celery_docker/cli.py"
    slow.parent.mkdir()
    (slow.parent / "__init__.py").touch()
    slow.write_text("import sys\nprint('importing', flush=True)\nsys.stdin.read()\n")
    process = subprocess.Popen(
        [sys.executable, ROOT / "debian/bin/celery-docker", "ps"],
        env={"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == -signal.SIGINT


def test_ctrl_c_while_the_last_of_the_output_waits_for_its_reader() -> None:
    code = (
        "import io, sys\nfrom celery_docker.cli import main as cli\n"
        "class Held(io.StringIO):\n"
        "    def flush(self):\n"
        "        Held.flush = io.StringIO.flush\n"
        "        raise KeyboardInterrupt\n"
        "sys.stdout = Held()\nsys.exit(cli.main(['--help']))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    assert (process.stderr, process.returncode) == (b"", exitcodes.INTERRUPTED)


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a terminal."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_json_is_for_people_on_a_terminal(terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    process = _celery_docker("submit", "--dry-run", "--json", "busybox", stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    screen = b""
    while len(screen) < 5:  # it comes in pieces
        screen += os.read(ours, 4096)
    assert process.wait(30) == 0
    assert screen.startswith(b"{\r\n  ")


def test_the_version_is_that_of_the_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"celery-docker": VERSION}.__getitem__)
    assert main.main(["--version"], {}) == 0
    assert capsys.readouterr().out == f"celery-docker {VERSION}\n"


def test_a_batch_is_shown_without_being_queued(
    queue: Queue, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["batch", "--dry-run", "--array", "1-3%2", "busybox", "echo", "{}"], environ) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["command"] for line in captured.out.splitlines()] == [["echo", n] for n in "123"]
    assert captured.err == "3 jobs, 2 at once; none was queued\n"
    assert queue.urls == []


@pytest.mark.parametrize(
    "words",
    [["ps", "WORD"], ["queue", "WORD"], ["queue", "purge", "WORD"], ["policy", "WORD"], ["completion", "WORD"]],
    ids=" ".join,
)
def test_a_word_that_is_refused_is_not_repeated_in_full(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["x" * 5000 if word == "WORD" else word for word in words], {}) == 2
    assert "'xxx" in (complaint := capsys.readouterr().err)
    assert len(complaint) < 400
