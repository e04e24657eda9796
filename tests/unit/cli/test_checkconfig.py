"""The command `check-config`: the worker's own verdict on a file, and names that are nearly those of settings."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from celery_docker.cli import main
from celery_docker.core import roomwords, settings, wording
from celery_docker.host import capacity

OFFER = f"this host offers {roomwords.offer(capacity.offer(settings.parse({})))} to jobs"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "policy.toml").write_text("")
    path = tmp_path / "celery-worker"
    path.write_text(f"CELERY_DOCKER_POLICY={tmp_path}/policy.toml\n")
    return path


def test_a_file_in_order(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check-config", str(file)], {}) == 0
    out, err = capsys.readouterr()
    expected = [f"{file} and the policy are in order; systemctl reload celery-worker applies them", OFFER]
    assert (out.splitlines(), err) == (expected, "")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            "CELERY_DOCKER_CPUS=0.5\nCELERY_DOCKER_MEMORY=6m\n",
            ["this host offers 0.5 CPUs and 6 MiB of memory to jobs"],
        ),
        (
            "CELERY_DOCKER_CPUS=8000\nCELERY_DOCKER_MEMORY=512t\n",
            [
                "this host offers 8000 CPUs and 512 TiB of memory to jobs",
                f"8000 CPUs are offered to jobs, and there are {os.cpu_count()}",
                f"512 TiB of memory is offered to jobs, and there is {wording.size(capacity.memory_bytes())}",
            ],
        ),
    ],
)
def test_the_offer_of_the_host(file: Path, lines: str, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with file.open("a") as appended:
        appended.write(lines)
    assert main.main(["check-config", str(file)], {}) == 0
    assert capsys.readouterr().out.splitlines()[1:] == expected


def test_a_bad_setting_is_one_line_with_the_file_and_status_78(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file.open("a") as appended:
        appended.write("CELERY_DOCKER_BROKER_URL='redi://:s3cret@db/0'\n")
    assert main.main(["check-config", str(file)], {}) == 78
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"{file}: CELERY_DOCKER_BROKER_URL='redi://:***@db/0': must look like redis://")


def test_an_option_that_celery_does_not_know(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with file.open("a") as appended:
        appended.write("CELERY_DOCKER_OPTS=--nonsense\n")
    assert main.main(["check-config", str(file)], {}) == 78
    assert f"{file}: CELERY_DOCKER_OPTS='--nonsense': No such option '--nonsense'" in capsys.readouterr().err


def test_a_misspelt_setting_is_noted(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker passes over it, so that an older one can read the file of a newer one."""
    with file.open("a") as appended:
        appended.write("CELERY_DOCKER_CONCURENCY=4\n")
    assert main.main(["check-config", str(file)], {}) == 0
    note = f"{file}: CELERY_DOCKER_CONCURENCY is not a setting; is it CELERY_DOCKER_CONCURRENCY?\n"
    assert capsys.readouterr().err == note


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["check-config", str(tmp_path / "none")], {}) == 2
    assert "none: No such file or directory; it must be a file of KEY=value lines\n" in capsys.readouterr().err


def test_a_further_worker_reads_both_files_and_the_later_counts(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "FILE", str(file))
    with file.open("a") as shared:
        shared.write("CELERY_DOCKER_CONCURRENCY=many\n")
    assert main.main(["check-config", "--worker", "gpu"], {}) == 78
    assert capsys.readouterr().err.startswith(f"{file}: CELERY_DOCKER_CONCURRENCY='many': must be")
    own = file.with_name("celery-worker-gpu")
    own.write_text("CELERY_DOCKER_CONCURRENCY=1\n")
    assert main.main(["check-config", "--worker", "gpu"], {}) == 0
    out, err = capsys.readouterr()
    expected = [f"{file} and {own} and the policy are in order; systemctl reload celery-worker@gpu applies them", OFFER]
    assert (out.splitlines(), err) == (expected, "")
    assert main.main(["check-config", "--worker", "g pu"], {}) == 78
    assert "the name 'g pu' of celery-worker@NAME: must be up to 63 letters" in capsys.readouterr().err
