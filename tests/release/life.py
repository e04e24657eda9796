"""The life of an installation, and its release upgrade."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from tests.machines.installed import NEXT, SETTINGS, Installed
from tests.machines.machine import Machine
from tests.release.candidate import PATIENCE_S, ROOT, Candidate, HeldJob, status, works
from tests.waiting import eventually

_DEB_LIMIT_BYTES = 3_000_000
_INSTALLED_LIMIT_BYTES = 40_000_000
_APT = ("apt-get", "--yes", "-o", "Dpkg::Options::=--force-confold")


def sizes(candidate: Candidate) -> str:
    """Compare the sizes of the package, and of all that is there once it is installed, with their limits."""
    with candidate.ready_machine() as installed:
        installed.install(candidate.package)
        used = installed.debian.shell(
            "{ dpkg -L celery-docker; find /opt/celery -name '*.pyc'; } | sort -u | tr '\\n' '\\0' |"
            " xargs -0 stat --format='%F:%s' | sed -n 's/^regular .*://p'"
        ).stdout
    package_bytes, installed_bytes = candidate.package.stat().st_size, sum(map(int, used.split()))
    report = f".deb {package_bytes / 1e6:.1f} MB, installed {installed_bytes / 1e6:.1f} MB"
    assert package_bytes <= _DEB_LIMIT_BYTES, report
    assert installed_bytes <= _INSTALLED_LIMIT_BYTES, report
    return report


def life(candidate: Candidate) -> str:
    """Install, upgrade with a running job, remove, purge, install again, upgrade, downgrade with a running job."""
    package = f"/root/{candidate.package.name}"
    with candidate.ready_machine() as installed:
        debian, next_package = installed.debian, installed.make_next()
        installed.install(candidate.package)
        works(installed)
        debian.run("useradd", "--groups", "celery", "alice")
        debian.run("celery-docker", "run", "busybox", "true", user="alice")
        debian.shell(f"echo CELERY_DOCKER_CONCURRENCY=3 >{SETTINGS}")
        job = HeldJob(installed)
        _install(installed, next_package, NEXT)
        job.succeeds()
        debian.run("apt-get", "remove", "--yes", "celery-docker", timeout_s=PATIENCE_S)
        assert status(installed) == "config-files ok"
        assert debian.run("systemctl", "is-active", "celery-worker", check=False).stdout == "inactive\n"
        assert not debian.path("/opt/celery").exists()
        _install(installed, next_package, NEXT)
        eventually(lambda: installed.status == "0 jobs running, 3 of 3 slots free", 30, "the settings of before")
        debian.run("apt-get", "purge", "--yes", "celery-docker", timeout_s=PATIENCE_S)
        assert not debian.path(SETTINGS).exists()
        _install(installed, next_package, NEXT)
        job = HeldJob(installed)
        _install(installed, package, candidate.version)
        job.succeeds()
    return ""


def _install(installed: Installed, package: str, version: str) -> None:
    installed.debian.run("apt-get", "install", "--yes", "--allow-downgrades", package, timeout_s=PATIENCE_S)
    works(installed)
    assert installed.debian.run("dpkg-query", "--show", "--showformat=${Version}", "celery-docker").stdout == version


def release_upgrade(old: Candidate) -> str:
    """Upgrade a machine to the next release with a running job; our package comes from that of before at first."""
    new = old.successor
    assert new is not None
    with old.ready_machine(has_network=True) as installed, tempfile.TemporaryDirectory() as folder:
        debian = installed.debian
        _publish(debian, Path(folder, "apt"), old, new)
        _take_from(debian, old.release)
        # As README advises: without it, a restart of Docker ends the jobs, and they run again.
        debian.write("/etc/docker/daemon.json", '{"live-restore": true}\n')
        debian.run("systemctl", "reload", "docker")
        debian.run("apt-get", "update", timeout_s=PATIENCE_S)
        debian.run("apt-get", "install", "--yes", "celery-docker", timeout_s=PATIENCE_S)
        works(installed)
        job = HeldJob(installed)
        debian.shell(f"sed -i s/{old.release}/{new.release}/g /etc/apt/sources.list")
        debian.run("apt-get", "update", timeout_s=PATIENCE_S)
        for command in (("upgrade", "--without-new-pkgs"), ("full-upgrade",), ("autoremove", "--purge")):
            debian.run(*_APT, *command, timeout_s=PATIENCE_S)
        assert debian.read("/etc/debian_version").startswith("13")
        works(installed)
        assert _python(debian) == "python3.11"
        doctor = debian.run("celery-docker", "doctor", check=False).stdout
        assert re.search(r"(?m)^warn  release: .*13", doctor), doctor
        _take_from(debian, new.release)
        debian.run("apt-get", "update", timeout_s=PATIENCE_S)
        debian.run(*_APT, "full-upgrade", timeout_s=PATIENCE_S)
        debian.run(*_APT, "autoremove", "--purge", timeout_s=PATIENCE_S)
        works(installed)
        assert _python(debian) == "python3.13"
        doctor = debian.run("celery-docker", "doctor", check=False).stdout
        assert not re.search(r"(?m)^(warn  release|FAIL|fail)", doctor), doctor
        job.succeeds()
        others = debian.run(
            "dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Package}\n", "*python3.11*", check=False
        )
        assert "ii " not in others.stdout, others.stdout
        debian.reboot()
        works(installed)
    return ""


def _python(debian: Machine) -> str:
    return Path(debian.run("readlink", "-e", "/opt/celery/venv/bin/python").stdout.strip()).name


def _publish(debian: Machine, folder: Path, *candidates: Candidate) -> None:
    packages = [f"{candidate.release}={candidate.package}" for candidate in candidates]
    command = (str(ROOT / "debian/repository"), str(folder), "file:/srv/apt", "", *packages)
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)
    debian.push(folder, "/srv/apt")


def _take_from(debian: Machine, release: str) -> None:
    debian.run("cp", f"/srv/apt/{release}.sources", "/etc/apt/sources.list.d/celery-docker.sources")
