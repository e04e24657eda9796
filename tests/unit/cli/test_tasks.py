"""The command line that submits: what its words mean, what it prints, and with which exit status it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pytest_mock import MockerFixture

from celery_docker import errors
from celery_docker.cli import tasks
from celery_docker.client import client, configfiles, configlayers
from celery_docker.core.jobspec import JobSpec

BROKER = "redis://:geheim@broker.example.org:6379/0"


class Submitted:
    """A queue that takes jobs, or raises what `failure` says; remembers what it got from whom."""

    failure: Exception | None = None

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.specs: list[JobSpec] = []

    def client(self, url: str) -> Submitted:
        self.urls.append(url)
        return self

    def submit(self, spec: JobSpec) -> SimpleNamespace:
        if self.failure is not None:
            raise self.failure
        self.specs.append(spec)
        return SimpleNamespace(id="0f3a")

    def close(self) -> None: ...


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Submitted:
    fake = Submitted()
    monkeypatch.setattr(client, "Client", fake.client)
    return fake


@pytest.fixture(autouse=True)
def defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of /etc/default that is read; missing until a test writes it."""
    path = tmp_path / "celery-worker"
    monkeypatch.setattr(configfiles, "DEFAULTS_FILE", str(path))
    monkeypatch.setattr(configlayers, "SYSTEM_FILE", str(tmp_path / "client.conf"))
    return path


def test_the_example_of_the_manual(queue: Submitted, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--inputpath", "/data/in.txt", "--outputpath", "/data/out", "--out", "/data/job.log", "busybox", "--"]
    line += ["sh", "-c", "md5sum /input > /output/output.txt && echo Done"]
    assert tasks.main(line, {}) == 0
    assert capsys.readouterr().out == "0f3a\n", "the id alone, for scripts"
    assert queue.specs == [
        JobSpec(
            image="busybox",
            command=("sh", "-c", "md5sum /input > /output/output.txt && echo Done"),
            logoutfile="/data/job.log",
            inputpath="/data/in.txt",
            outputpath="/data/out",
        )
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["busybox"], JobSpec("busybox")),
        (["busybox", "--"], JobSpec("busybox")),
        (["busybox", "--", "ls", "-l", "--color"], JobSpec("busybox", ("ls", "-l", "--color"))),
        (["busybox", "true"], JobSpec("busybox", ("true",))),
        (["--user", "1000:100", "busybox"], JobSpec("busybox", user="1000:100")),
        (["--out", "/o", "--err", "/e", "busybox"], JobSpec("busybox", logoutfile="/o", logerrfile="/e")),
        (["busybox", "--", "sh", "--", "-v"], JobSpec("busybox", ("sh", "--", "-v"))),
    ],
    ids=str,
)
def test_words(queue: Submitted, line: list[str], expected: JobSpec) -> None:
    assert tasks.main(line, {}) == 0
    assert queue.specs == [expected]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["BusyBox"], "tasks.py: image: 'BusyBox' is not an image name"),
        (["--inputpath", "in", "busybox"], "tasks.py: inputpath: 'in' must be an absolute path"),
        (["--inputpath", "/d", "--outputpath", "/d", "busybox"], "tasks.py: outputpath: '/d' is the inputpath too"),
        (["--user", "a b", "busybox"], "tasks.py: user: 'a b' must be a user's name"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_submitted(
    queue: Submitted, capsys: pytest.CaptureFixture[str], line: list[str], expected: str
) -> None:
    assert tasks.main(line, {}) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(expected)
    assert len(captured.err.splitlines()) == 1
    assert queue.specs == []


@pytest.mark.parametrize("line", [[], ["--unknown", "busybox"], ["--inputpath"]], ids=str)
def test_wrong_usage(queue: Submitted, capsys: pytest.CaptureFixture[str], line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tasks.main(line, {})
    assert caught.value.code == 2
    assert "usage: tasks.py" in capsys.readouterr().err
    assert queue.specs == []


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        tasks.main(["--help"], {})
    assert caught.value.code == 0
    stdout = capsys.readouterr().out
    assert all(word in stdout for word in ("--inputpath", "--outputpath", "--out", "--err", "IMAGE", "example:"))


@pytest.mark.parametrize(
    ("file", "environ", "expected"),
    [
        (None, {}, "redis://127.0.0.1:6379/0"),
        ("CELERY_DOCKER_BROKER_URL=redis://file/0\n", {}, "redis://file/0"),
        (None, {"CELERY_DOCKER_BROKER_URL": "redis://environ/0"}, "redis://environ/0"),
        (
            "CELERY_DOCKER_BROKER_URL=redis://file/0\n",
            {"CELERY_DOCKER_BROKER_URL": "redis://environ/0"},
            "redis://environ/0",
        ),
        # An empty value counts as unset.
        ("CELERY_DOCKER_BROKER_URL=redis://file/0\n", {"CELERY_DOCKER_BROKER_URL": ""}, "redis://file/0"),
        ("CELERY_DOCKER_BROKER_URL=\n", {}, "redis://127.0.0.1:6379/0"),
    ],
)
def test_where_the_broker_comes_from(
    queue: Submitted, defaults: Path, file: str | None, environ: dict[str, str], expected: str
) -> None:
    if file is not None:
        defaults.write_text(file)
    assert tasks.main(["busybox"], environ) == 0
    assert queue.urls == [expected]


def test_verbose_shows_the_settings_without_the_password(queue: Submitted, capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks.main(["-v", "busybox"], {"CELERY_DOCKER_BROKER_URL": BROKER}) == 0
    captured = capsys.readouterr()
    assert "CELERY_DOCKER_BROKER_URL=redis://:***@broker.example.org:6379/0\n" in captured.err
    assert "CELERY_DOCKER_MAX_RETRIES=3\n" in captured.err
    assert "geheim" not in captured.err + captured.out
    assert captured.out == "0f3a\n"


def test_verbose_alone_shows_the_settings_and_queues_nothing(
    queue: Submitted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tasks.main(["-v"], {"CELERY_DOCKER_BROKER_URL": BROKER}) == 0
    output = capsys.readouterr()
    assert "CELERY_DOCKER_BROKER_URL=redis://:***@broker.example.org:6379/0\n" in output.err
    assert (output.out, queue.urls) == ("", [])


@pytest.mark.parametrize("failure", [errors.StoreAway("cannot reach Redis"), errors.StoreRefused("Redis refuses")])
def test_a_broker_that_does_not_take_the_job(
    queue: Submitted, capsys: pytest.CaptureFixture[str], failure: Exception
) -> None:
    queue.failure = failure
    assert tasks.main(["busybox"], {}) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tasks.py: {failure}")
    assert len(captured.err.splitlines()) == 1


def test_a_bad_setting(queue: Submitted, capsys: pytest.CaptureFixture[str]) -> None:
    assert tasks.main(["busybox"], {"CELERY_DOCKER_BROKER_URL": "reddis://x"}) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("tasks.py: environment: CELERY_DOCKER_BROKER_URL='reddis://x': must look like")
    assert queue.urls == []


def test_who_may_not_read_the_settings_is_told_so_when_it_matters(
    queue: Submitted, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker's password may be in there; without it the default is tried."""

    def denied(*_args: object, **_options: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert tasks.main(["busybox"], {}) == 0
    queue.failure = errors.StoreRefused("Redis refuses the login")
    assert tasks.main(["busybox"], {}) == 1
    stderr = capsys.readouterr().err
    assert stderr.startswith("tasks.py: Redis refuses the login; you may not read ")
    assert "group celery" in stderr
    assert len(stderr.splitlines()) == 1


def test_help_and_mistakes_do_not_wait_for_libraries() -> None:
    """celery, docker and redis take ten times as long to import as everything else."""
    code = "import sys; from celery_docker.cli import tasks; print({'celery', 'docker', 'redis'} & set(sys.modules))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert process.stdout == "set()\n"


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("unknown", "j1: there is no record of this job; nothing will run under this id\n"),
        ("running", "j1: was running, is being cancelled\n"),
        ("succeeded", "j1: has ended already: succeeded\n"),
    ],
)
def test_what_a_cancel_says(
    mocker: MockerFixture, capsys: pytest.CaptureFixture[str], state: str, expected: str
) -> None:
    """Nothing goes to stdout, which is for ids."""
    mocker.patch("celery_docker.client.client.Client").return_value.cancel.return_value = state
    assert tasks.main(["--cancel", "j1"], {}) == 0
    assert capsys.readouterr() == ("", expected)


def test_a_job_or_a_cancel_but_not_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        tasks.main(["--cancel", "j1", "busybox"], {})
    assert raised.value.code == 2
    assert "IMAGE" in capsys.readouterr().err
