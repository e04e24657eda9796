"""`make demo`, and then `make lint` and `make unit`, as somebody who has just cloned the project."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import machine

ROOT = Path(__file__).parents[2]
USER = "alice"
CLONE = f"/home/{USER}/my clone"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What git tracks, as a clone would have it."""
    copy = tmp_path / "checkout"
    copy.mkdir()
    passed = b""
    steps = (
        (ROOT, ["git", "-c", "safe.directory=*", "ls-files", "-z"]),
        (ROOT, ["tar", "-c", "--null", "-T", "-"]),
        (copy, ["tar", "-x"]),
    )
    for folder, command in steps:
        passed = subprocess.run(command, cwd=folder, input=passed, stdout=-1, check=True, timeout=60).stdout
    return copy


@pytest.fixture(params=["bare bookworm", "standard bookworm", "standard trixie"])
def debian(request: pytest.FixtureRequest, checkout: Path) -> Iterator[machine.Machine]:
    """A Debian without Docker, Redis, venv and a compiler, with a clone of somebody's, and a way to the network."""
    require("machine", machine.missing())
    variant, release = request.param.split()
    image = machine.bare_image(release) if variant == "bare" else machine.standard_image(release)
    with machine.Machine.boot(variant, image, nat=True) as booted:
        booted.shell("apt-get update -qq && apt-get install -qq --no-install-recommends make >/dev/null", timeout_s=180)
        booted.run("useradd", "--create-home", "--shell", "/bin/bash", USER)
        booted.push(checkout, CLONE)
        booted.run("chown", "--recursive", f"{USER}:", CLONE)
        yield booted
    assert machine.leftovers() == []


def make(debian: machine.Machine, target: str, *, user: str = "root", check: bool = True) -> str:
    """Return all that `make` prints."""
    home = "/root" if user == "root" else f"/home/{user}"
    command = ("make", "--no-print-directory", "-C", CLONE, target)
    done = debian.run(*command, user=user, env={"HOME": home}, check=check, timeout_s=600)
    assert (done.returncode == 0) == check
    return done.stdout + done.stderr


def test_a_newcomers_first_hour(debian: machine.Machine) -> None:
    """The demo ends with Done, twice, and leaves a working installation; then its clone is still that user's own."""
    if "venv" not in debian.run("dpkg-query", "-f", "${Package}\n", "-W").stdout:
        assert "sudo apt-get install python3-venv\n" in make(debian, "unit", user=USER, check=False)
    for _ in range(2):
        _shows_the_demo(debian)
    assert debian.run("find", CLONE, "-user", "root").stdout == ""
    before = debian.shell("stat --dereference -c %y /usr/bin/python3").stdout
    make(debian, "lint")
    assert debian.shell("stat --dereference -c %y /usr/bin/python3").stdout == before
    assert " passed in " in make(debian, "unit", user=USER)
    assert debian.run("find", CLONE, "-not", "-user", USER).stdout == ""


def _shows_the_demo(debian: machine.Machine) -> None:
    said = make(debian, "demo")
    assert "Done" in said.splitlines()
    assert "== it works: " in said
    assert "sudo apt-get purge --autoremove celery-docker" in said
    assert debian.run("systemctl", "is-active", "celery-worker").stdout == "active\n"
    assert debian.run("docker", "ps", "--all", "--quiet").stdout == ""
    assert not debian.path("/srv/celery-docker-demo").exists()
    assert debian.run("celery-docker", "run", "busybox", "echo", "hello", user=USER).stdout == "hello\n"
