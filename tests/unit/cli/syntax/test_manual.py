"""The man pages: readable without a warning, and about all that there is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from celery_docker.cli import exitcodes
from celery_docker.cli.syntax import commandtable, manual, roff
from celery_docker.core import jobspec, settings
from tests.conftest import require

ROOT = Path(__file__).parents[4]
DEFAULTS = (ROOT / "etc/default/celery-worker").read_text()
PAGES = {
    "celery-docker.1": manual.celery_docker("1.0", "2026-01-02"),
    "celery-worker.8": manual.celery_worker("1.0", "2026-01-02"),
    "celery-worker.default.5": manual.defaults("1.0", "2026-01-02", DEFAULTS),
}


@pytest.mark.parametrize("name", PAGES)
def test_mandoc_finds_nothing_to_complain_of(name: str) -> None:
    require("man", "" if shutil.which("mandoc") else "mandoc is not installed")
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning"], input=PAGES[name], capture_output=True, text=True, check=False, timeout=20
    )
    assert done.stdout + done.stderr == ""


def test_the_command_and_its_statuses_are_all_there() -> None:
    page = PAGES["celery-docker.1"]
    for command in commandtable.COMMANDS:
        assert f".SS {command.usage.replace('-', chr(92) + '-')}\n" in page
    statuses = [exitcodes.USAGE, exitcodes.NO_SUCH_JOB, exitcodes.TIMED_OUT, exitcodes.NOT_RUN, exitcodes.INTERRUPTED]
    for status in (*statuses, exitcodes.KILLED, exitcodes.CANCELLED):
        assert f"\\fB{status}\\fR\n" in page
    assert "root on the workers" in page


def test_every_setting_is_explained() -> None:
    page = PAGES["celery-worker.default.5"]
    for setting in settings.SETTINGS:
        assert f"\n\\fB{setting.variable}={setting.default.replace('-', chr(92) + '-')}" in page


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (roff.paragraph("a *b-c* d"), ".PP\na \\fBb\\-c\\fR d"),
        (roff.paragraph(".x"), ".PP\n\\&.x"),
        (roff.item("-n", "a\\b 'c'"), ".TP\n\\fB\\-n\\fR\na\\eb \\(aqc\\(aq"),
        (roff.example([".a", "~ ^ `"]), ".PP\n.RS 4\n.EX\n\\&.a\n\\(ti \\(ha \\(ga\n.EE\n.RE"),
        (roff.page([roff.section("A"), roff.paragraph("b"), roff.paragraph("c")]), ".SH A\nb\n.PP\nc\n"),
    ],
)
def test_nothing_in_a_text_is_a_macro(made: str, expected: str) -> None:
    assert made == expected


def test_the_build_writes_the_same_files_each_time(tmp_path: Path) -> None:
    """By the source tree alone, without any library, dated by the changelog."""
    for name in ("a", "b"):
        command = [sys.executable, "-I", "-S", "-B", str(ROOT / "debian/pages.py"), str(tmp_path / name)]
        subprocess.run(command, check=True, timeout=20, env={"SOURCE_DATE_EPOCH": "1767312000"})
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 7
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files)
    assert '"2026-01-02"' in (tmp_path / "a/man/celery-docker.1").read_text().splitlines()[0]
    schema = json.loads((tmp_path / "a/schema/job.schema.json").read_text())
    assert schema == jobspec.json_schema()
