"""`make demo`, and then `make unit`, as somebody who has just cloned the project; and what the journal says there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require
from tests.machines import journal, machine
from tests.machines.installed import Installed
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
RELEASES = ("bookworm", "trixie")
USER = "alice"
CLONE = f"/home/{USER}/my clone"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that git tracks, as a clone would have them."""
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


@pytest.fixture
def debian(image: Callable[[], Path], checkout: Path) -> Iterator[machine.Machine]:
    """A Debian without Docker, Redis, venv and a compiler, with a clone of somebody's, and a way to the network."""
    require("machine", machine.missing())
    with machine.Machine.boot("fresh", image(), nat=True) as booted:
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
    # The search for inputs that nobody thought of is that of the unit tests' own run.
    environ = {"HOME": home, "PYTEST_ADDOPTS": "--hypothesis-profile=few"}
    process = debian.run(*command, user=user, env=environ, check=check, timeout_s=1800)
    assert (process.returncode == 0) == check
    return process.stdout + process.stderr


@pytest.mark.parametrize("image", [partial(machine.bare_image, "bookworm")], ids=["bookworm"])
def test_make_demo_on_a_bare_debian(debian: machine.Machine, package: Path) -> None:
    """Nothing that it needs is there by chance."""
    shows_the_demo(debian, package)


@pytest.mark.parametrize("image", [partial(machine.standard_image, release) for release in RELEASES], ids=RELEASES)
def test_a_newcomers_first_hour(debian: machine.Machine, package: Path) -> None:
    """The demo works, twice; then the unit tests are for the clone's owner, who is told what is missing."""
    assert "sudo apt-get install python3-venv\n" in make(debian, "unit", user=USER, check=False)
    for _ in range(2):
        shows_the_demo(debian, package)
    # The release has a systemd and a Docker of its own.
    installed = Installed(debian)
    installed.configure(LOG_LEVEL="INFO", RETRY_DELAY=0)
    journal.tells_a_life(installed)
    before = debian.run("stat", "--dereference", "-c", "%y", "/usr/bin/python3").stdout
    make(debian, "build/venv/installed")
    assert debian.run("stat", "--dereference", "-c", "%y", "/usr/bin/python3").stdout == before
    assert re.search(r"= \d+ passed, .* in ", make(debian, "unit", user=USER))
    assert debian.run("find", CLONE, "-not", "-user", USER).stdout == ""
    debian.run("touch", f"{CLONE}/build/of root", f"{CLONE}/requirements-test.txt")
    assert "sudo make clean\n" in make(debian, "unit", user=USER, check=False)


def shows_the_demo(debian: machine.Machine, package: Path) -> None:
    """Run it to its Done; it leaves a working installation and nothing else, and in the clone nothing of root's.

    The package for this computer's release is, byte for byte, the one under test, which `make test` has built of newer
    files, in another folder, with the wheels of `make wheels` and without network.
    """
    debian.run("touch", "--date=2020-02-02", f"{CLONE}/README.md")
    printed = make(debian, "demo")
    (built,) = debian.path(f"{CLONE}/build").glob("*.deb")
    assert built.name != package.name or built.read_bytes() == package.read_bytes()
    assert "Done" in printed.splitlines()
    assert "== it works: " in printed
    assert debian.run("find", CLONE, "-user", "root").stdout == ""
    assert "sudo apt-get purge --autoremove celery-docker" in printed
    assert debian.run("systemctl", "is-active", "celery-worker").stdout == "active\n"
    eventually(lambda: debian.run("docker", "ps", "--all", "--quiet").stdout == "", 60, "the removal of the container")
    assert not debian.path("/srv/celery-docker-demo").exists()
    assert debian.run("celery-docker", "run", "busybox", "echo", "hello", user=USER).stdout == "hello\n"
