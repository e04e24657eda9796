"""Mistakes of the hand that the files of this machine show before a job is queued."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.cli import localfiles
from celery_docker.cli.syntax import parser

ME = "1000:100"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    for name in ("d1", "d2", "tool"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arguments(line: str) -> parser.Arguments:
    parsed = parser.parse(shlex.split(line))
    assert isinstance(parsed, parser.Arguments)
    return parsed


@pytest.mark.parametrize(
    ("line", "image"),
    [
        ("batch --each a.csv b.csv --dry-run busybox echo {}", "b.csv"),
        ("batch --each d1 d2 tool:2", "d2"),
        ("batch --each-from a.csv b.csv busybox", "b.csv"),
        ("batch --manifest a.csv ./b.csv busybox", "./b.csv"),
        ("run -i a.csv b.csv busybox", "b.csv"),
        ("submit -i a.csv b.csv", "b.csv"),
    ],
)
def test_a_pattern_that_the_shell_has_expanded(folder: Path, line: str, image: str) -> None:
    with pytest.raises(errors.UsageError, match=f"IMAGE '{image}' is a file here; quote a pattern"):
        localfiles.check_image(arguments(line))


@pytest.mark.parametrize(
    "line",
    [
        "batch --each '*.csv' busybox",
        "batch --each a.csv busybox",
        "batch --each 'd*' tool",
        "run tool",
        "run b.csv:latest",
        "run -i a.csv busybox cat b.csv",
        "submit -f job.json",
    ],
)
def test_an_image_that_is_one(folder: Path, line: str) -> None:
    localfiles.check_image(arguments(line))


@pytest.mark.parametrize(
    ("line", "path", "is_noted"),
    [
        ("run -i busybox sh", "/no/busybox", True),
        ("run -i d1 busybox", "d1", False),
        ("run -i /no/busybox busybox", "/no/busybox", False),
        ("batch --each 'd*' -i '{}/x' busybox", "/no/x", False),
        ("run busybox", None, False),
    ],
)
def test_an_input_that_is_not_here_is_noted(folder: Path, line: str, path: str | None, is_noted: bool) -> None:
    assert bool(localfiles.missing_input(arguments(line), path)) is is_noted


def test_a_file_as_output_is_refused(folder: Path) -> None:
    with pytest.raises(errors.SpecError, match=rf"^--output: '{folder}/a.csv' is a file; name a folder$"):
        localfiles.check_outputs([{"outputpath": f"{folder}/d1"}, {"outputpath": f"{folder}/a.csv"}])
    localfiles.check_outputs([{"outputpath": f"{folder}/new"}, {"outputpath": "/"}, {}])


def test_missing_output_folders_are_made(folder: Path) -> None:
    jobs = [{"outputpath": f"{folder}/out/{name}", "user": ME} for name in "ab"]
    localfiles.make_outputs([*jobs, *jobs, {"user": ME}, {"outputpath": f"{folder}/theirs", "user": "nobody"}], ME)
    assert sorted(path.name for path in (folder / "out").iterdir()) == ["a", "b"]
    assert not (folder / "theirs").exists()


def test_an_output_folder_that_cannot_be_made_is_left_to_the_host(folder: Path) -> None:
    paths = [f"{folder}/a.csv/out", "/no-such-top/out", "/no-such-top", "/proc/out"]
    localfiles.make_outputs([{"outputpath": path, "user": ME} for path in paths], ME)
    assert not Path("/no-such-top").exists()
