"""`make demo` on a bare Debian, as somebody who has just cloned the project."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import machine

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git tracks, as a clone would have it."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, timeout=30).stdout
    archive = tmp_path / "checkout"
    archive.mkdir()
    copy = f"tar -C {ROOT} -c --verbatim-files-from -T - | tar -x -C {archive}"
    subprocess.run(["sh", "-c", copy], input=files, check=True, timeout=60)
    return archive


@pytest.fixture(params=["bookworm", "trixie"])
def bare(request: pytest.FixtureRequest) -> Iterator[machine.Machine]:
    """A minimal Debian: no Docker, no Redis, no venv, no make, but a way to Debian's archive and PyPI."""
    require("machine", machine.missing())
    with machine.Machine.boot("bare", machine.bare_image(request.param), nat=True) as booted:
        yield booted
    assert machine.leftovers() == []


def test_make_demo_on_a_bare_debian_twice(bare: machine.Machine, checkout: Path) -> None:
    """It ends with Done in the log and the right sum, and leaves a working installation and nothing else."""
    bare.push(checkout, "/root/celery-docker")
    bare.shell("apt-get update -qq && apt-get install -qq --no-install-recommends make >/dev/null", timeout_s=180)
    for _ in range(2):
        done = bare.run("make", "-C", "/root/celery-docker", "demo", timeout_s=600)
        lines = done.stdout.splitlines()
        assert "Done" in lines
        assert any(line.startswith("== it works") for line in lines)
        assert bare.run("systemctl", "is-active", "celery-worker").stdout == "active\n"
        assert bare.run("docker", "ps", "--all", "--quiet").stdout == ""
        assert not bare.path("/srv/celery-docker-demo").exists()
