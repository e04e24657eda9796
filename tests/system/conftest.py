"""A booted Debian with the package installed, and a plain Celery client in a venv of its own inside it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import machine
from tests.machines.installed import Installed

WHEELS = Path(__file__).parents[2] / "build/wheels"


@pytest.fixture(scope="session")
def plain_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site-packages of a venv that holds celery[redis] and nothing else, of the wheels in build/wheels if any."""
    target = tmp_path_factory.mktemp("plain")
    offline = ["--no-index", f"--find-links={WHEELS}"] if WHEELS.is_dir() else []
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(target), *offline, "celery[redis]"]
    subprocess.run(command, check=True, timeout=300)
    return target


@pytest.fixture(scope="module")
def installed(package: Path, plain_client: Path) -> Iterator[Installed]:
    """A machine on which `apt install ./celery-docker_*.deb` was all that was done to get the worker.

    It is a small one: without procps there is no kill, no ps and no pgrep.
    """
    with machine.Machine.boot("package", machine.ready_image()) as booted:
        booted.run("dpkg", "--purge", "procps")
        machine.import_busybox(booted)
        debian = Installed(booted)
        debian.add_plain_client(plain_client)
        debian.install(package)
        yield debian
    assert machine.leftovers() == []
