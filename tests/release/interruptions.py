"""Installations and upgrades that end in the middle: dpkg is killed, or the disk is full."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.machines.installed import Installed
from tests.release.candidate import PATIENCE_S, Candidate, HeldJob, status, works

_SITE = "/opt/celery/venv/lib"
_UNIT = "interrupted"


def killed(candidate: Candidate) -> str:
    """Kill dpkg in unpack and in postinst, at the first installation and in an upgrade with a running job."""
    package = f"/root/{candidate.package.name}"
    with candidate.ready_machine() as installed:
        next_package = installed.make_next()
        for place in (_in_unpack, _in_postinst):
            _interrupt(installed, package, place)
            _heal(installed, package)
            installed.debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=PATIENCE_S)
        installed.install(candidate.package)
        installed.wait_until_ready()
        for place, version in ((_in_unpack, next_package), (_in_postinst, package)):
            job = HeldJob(installed)
            _interrupt(installed, version, place)
            _heal(installed, version)
            job.succeeds()
    return ""


def full_disk(candidate: Candidate) -> str:
    """Let /opt be full in unpack and in postinst, and in an upgrade with a running job."""
    package = f"/root/{candidate.package.name}"
    with candidate.ready_machine() as installed:
        debian = installed.debian
        next_package = installed.make_next()
        debian.run("mount", "-t", "tmpfs", "-o", "size=5m", "tmpfs", "/opt")
        for size in ("5m", "20m"):
            debian.run("mount", "-o", f"remount,size={size}", "/opt")
            _refused(installed, package)
            debian.run("mount", "-o", "remount,size=100m", "/opt")
            _heal(installed, package)
            if size == "5m":
                debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=PATIENCE_S)
        job = HeldJob(installed)
        debian.shell("mount -o remount,size=$(($(df --output=used /opt | tail -n 1) + 3000))k /opt")
        _refused(installed, next_package)
        works(installed)
        debian.run("mount", "-o", "remount,size=100m", "/opt")
        _heal(installed, next_package)
        job.succeeds()
    return ""


def _refused(installed: Installed, package: str) -> None:
    """Install on a full disk: it fails, says why, and shows no traceback."""
    process = installed.debian.run("dpkg", "--install", package, check=False, timeout_s=PATIENCE_S)
    output = process.stdout + process.stderr
    assert process.returncode != 0, output
    assert "No space left on device" in output, output
    assert "Traceback" not in output, output


def _in_unpack(installed: Installed) -> bool:
    """True once dpkg writes files of the package."""
    folder = installed.debian.path("/opt/celery/venv/lib")
    return next(folder.glob("python3*/site-packages/*/*.dpkg-new"), None) is not None


def _in_postinst(installed: Installed) -> bool:
    """True once bytecode is made."""
    folder = installed.debian.path("/opt/celery/venv/lib")
    return next(folder.glob("python3*/site-packages/*/__pycache__/*.pyc"), None) is not None


def _interrupt(installed: Installed, package: str, place: Callable[[Installed], bool]) -> None:
    """Install, and kill dpkg with all that it has started as soon as it has come to that place."""
    debian = installed.debian
    before = place(installed)
    command = ("systemd-run", "--quiet", f"--unit={_UNIT}", "--collect", "dpkg", "--install", package)
    debian.run(*command)
    if before:  # the bytecode of the version before goes first
        _wait(lambda: not place(installed))
    _wait(lambda: place(installed))
    for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: dpkg must not see that a child was killed
        for pid in _processes(installed):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
    _wait(lambda: not _processes(installed))  # until it has finished a write to the disk, dpkg holds its lock
    expected = "half-installed reinstreq" if place is _in_unpack else "half-configured ok"
    assert status(installed) == expected, status(installed)


def _processes(installed: Installed) -> list[int]:
    pids = []
    for pid in installed.debian.pids():
        with suppress(FileNotFoundError):
            if f"/{_UNIT}.service" in Path("/proc", str(pid), "cgroup").read_text():
                pids.append(pid)
    return pids


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _heal(installed: Installed, package: str) -> None:
    """Heal it as dpkg asks for: it configures what is unpacked; what is not is unpacked again."""
    installed.debian.run("dpkg", "--configure", "-a", timeout_s=PATIENCE_S)
    if status(installed) != "installed ok":
        assert status(installed) in ("half-installed reinstreq", "not-installed ok", ""), status(installed)
        installed.debian.run("apt-get", "install", "--yes", "--allow-downgrades", package, timeout_s=PATIENCE_S)
    works(installed)
