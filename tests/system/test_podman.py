"""Podman in Docker's place on a booted Debian, by the steps of the README: jobs run, end and survive their worker."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machines import machine
from tests.machines.installed import Installed
from tests.waiting import eventually

# What podman brings by its dependencies and recommendations, as far as it is used here.
_PACKAGES = ("podman", "catatonit", "netavark", "nftables")
# overlay does not stack on the machine's own overlayfs: its files are whole copies, on the folder of the real disk that
# every machine has for Docker.
_STORAGE = """\
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/docker/podman"
"""
_README = Path(__file__).parents[2] / "README.md"
_SLOW_LINES = "i=0; while [ $i -lt 40 ]; do echo $i; i=$((i+1)); sleep 0.1; done"


@pytest.fixture(scope="module")
def on_podman(package: Path) -> Iterator[Installed]:
    """A machine with the package and Podman, and without Docker."""
    release = machine.package_release()
    own_cli = () if release == "bookworm" else ("docker-cli",)
    image = machine.base_image(release, packages=(*machine.READY, *own_cli, *_PACKAGES), variant="podman")
    with machine.Machine.boot("podman", image) as booted:
        booted.write("/etc/containers/storage.conf", _STORAGE)
        booted.run("systemctl", "disable", "--now", "docker.socket", "docker.service")
        debian = Installed(booted)
        debian.install(package)
        _give_socket(debian)
        machine.import_busybox(booted, engine="podman")
        debian.wait_until_ready()
        yield debian
    assert machine.leftovers() == []


def _give_socket(debian: Installed) -> None:
    """Type what the README says; root needs no sudo, and apt has been there."""
    (block,) = re.findall(r"(?s)\nPodman 4\.3.*?```console\n(.*?)```", _README.read_text())
    for line in block.replace("|\n", "|").splitlines():
        if "apt install" not in line:
            debian.debian.shell(line.removeprefix("$ ").replace("sudo ", ""))


def _run(debian: Installed, *words: str, exit_code: int = 0) -> str:
    completed = debian.debian.run("celery-docker", "run", *words, check=False, timeout_s=120)
    assert completed.returncode == exit_code, completed.stderr
    return completed.stdout


def test_the_worker_names_podman(on_podman: Installed) -> None:
    assert re.search(r"Podman [45]\.[0-9.]+ \(API [0-9.]+\) at unix:///run/podman\.sock", on_podman.log)


def test_a_job_has_its_exit_code_and_its_output(on_podman: Installed) -> None:
    assert _run(on_podman, "busybox", "sh", "-c", "echo hello; exit 3", exit_code=3) == "hello\n"
    numbers = "".join(f"{number}\n" for number in range(1, 100_001))
    assert _digest(_run(on_podman, "busybox", "seq", "1", "100000")) == _digest(numbers)


def test_a_job_that_podman_refuses_is_rejected(on_podman: Installed) -> None:
    """Podman says so when somebody attaches; a host's trouble would be tried again and again."""
    completed = on_podman.debian.run(
        *("celery-docker", "run", "--workdir", "/bin/busybox", "busybox", "true"), check=False, timeout_s=60
    )
    assert completed.returncode != 0
    assert "is not a directory" in completed.stderr


def test_a_job_survives_its_worker(on_podman: Installed) -> None:
    """Its container runs on, the next worker adopts it, and no line is missing."""
    debian = on_podman.debian
    job_id = debian.run("celery-docker", "submit", "busybox", "sh", "-c", _SLOW_LINES).stdout.strip()
    eventually(lambda: _containers(on_podman) == [f"run-{job_id}"], 60, "the container")
    debian.run("systemctl", "kill", "--signal=KILL", "celery-worker")
    debian.run("celery-docker", "wait", job_id, timeout_s=120)
    assert f"job {job_id}: container" in on_podman.log
    assert debian.run("celery-docker", "logs", job_id).stdout == "".join(f"{number}\n" for number in range(40))


def test_a_cancel_and_a_timeout_end_the_container(on_podman: Installed) -> None:
    debian = on_podman.debian
    job_id = debian.run("celery-docker", "submit", "busybox", "sleep", "600").stdout.strip()
    eventually(lambda: _containers(on_podman) == [f"run-{job_id}"], 60, "the container")
    debian.run("celery-docker", "cancel", job_id)
    assert debian.run("celery-docker", "wait", job_id, check=False, timeout_s=60).returncode != 0
    assert "cancelled" in debian.run("celery-docker", "status", job_id, check=False).stdout
    timed_out = debian.run("celery-docker", "run", "--timeout", "2", "busybox", "sleep", "60", check=False)
    assert "longer than its timeout of 2 s" in timed_out.stderr
    eventually(lambda: _containers(on_podman, "--all") == [], 60, "the containers to be removed")


def _containers(debian: Installed, *options: str) -> list[str]:
    return debian.debian.run("podman", "ps", "--format", "{{.Names}}", *options).stdout.split()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
