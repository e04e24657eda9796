"""Gates of Debian's own tools: a second build, lintian, piuparts and autopkgtest."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

from tests.machines import machine
from tests.machines.installed import Installed
from tests.release.candidate import PATIENCE_S, ROOT, Candidate

_REFUSED = re.compile(r"(?m)^[EW]: .*")
_MIRROR = "http://deb.debian.org/debian"


def build(candidate: Candidate) -> str:
    """Build it again, of another folder with another mask and time zone, without network and tests: it is the same."""
    wheels = ROOT / "build/wheels"
    assert wheels.is_dir(), f"{wheels} is missing, and the build would take wheels from the network"
    with tempfile.TemporaryDirectory(prefix="another folder ", dir="/var/tmp") as folder:
        files = subprocess.run(
            ["git", "-c", "safe.directory=*", "ls-files", "-z"], cwd=ROOT, stdout=-1, check=True
        ).stdout
        packed = subprocess.run(
            ["tar", "-c", "--null", "-T", "-", "build/wheels"], cwd=ROOT, input=files, stdout=-1, check=True
        )
        subprocess.run(["tar", "-x"], cwd=folder, input=packed.stdout, check=True)
        target = f"build/{candidate.release}/{candidate.package.name}"
        environment = os.environ | {"TZ": "Pacific/Auckland", "DEB_BUILD_OPTIONS": "nocheck"}
        make = ("make", "--no-print-directory", target)
        subprocess.run(make, cwd=folder, env=environment, umask=0o077, check=True, timeout=PATIENCE_S)
        assert Path(folder, target).read_bytes() == candidate.package.read_bytes(), f"{target} differs from the first"
    return ""


def lintian(candidate: Candidate) -> str:
    """Ask the release's own lintian for its opinion to the last; errors and warnings are refused."""
    with candidate.tools_machine() as debian:
        command = ("lintian", "--pedantic", "--display-info", f"/root/{candidate.package.name}")
        process = debian.run(*command, check=False, timeout_s=PATIENCE_S)
    output = process.stdout + process.stderr
    assert process.returncode == 0, f"exit {process.returncode}: {output}"
    assert not _REFUSED.search(output), output
    counts = [f"{len(re.findall(f'(?m)^{letter}: ', output))} {letter}" for letter in "EWIP"]
    return ", ".join(counts)


def piuparts(candidate: Candidate) -> str:
    """Install, upgrade and purge in a chroot: nothing is left; with /opt, and where there was none."""
    # The folders that systemd makes and does not remove are not ours; it is there before.
    base = machine.base_image(candidate.release, packages=("systemd",), variant="piuparts")
    with candidate.tools_machine() as debian:
        installed = Installed(debian)
        next_package = installed.make_next()
        debian.shell(
            "mkdir /srv/apt && cp /root/celery-docker_*.deb /srv/apt && cd /srv/apt && dpkg-scanpackages . >Packages"
        )
        # With its owners and devices, of which a copy by content would not end.
        subprocess.run(["cp", "-a", str(base), str(debian.path("/srv/base"))], check=True, timeout=PATIENCE_S)
        command = (
            "piuparts", "--mirror", _MIRROR, "--distribution", candidate.release, "--existing-chroot", "/srv/base",
            "--bindmount", "/srv/apt", "--extra-repo", "deb [trusted=yes] file:/srv/apt ./",
            "--tmpdir", "/var/tmp",  # in /tmp there are no devices
        )  # fmt: skip
        for folders in ("opt", "no-opt"):
            if folders == "no-opt":
                debian.run("rmdir", "/srv/base/opt")
            process = debian.run(*command, next_package, check=False, timeout_s=PATIENCE_S)
            assert process.returncode == 0, process.stdout[-6000:]
            for test in ("Installation and purging test", "Installation, upgrade and purging tests"):
                assert f"PASS: {test}" in process.stdout, process.stdout[-6000:]
    return ""


def autopkgtest(candidate: Candidate) -> str:
    """Run debian/tests in a booted machine, which is as much isolation as they ask for."""
    with candidate.tools_machine() as debian:
        debian.push(ROOT / "debian", "/root/source/debian")
        debian.run("apt-get", "update", timeout_s=PATIENCE_S)  # of what they depend on, not all may be there
        command = ("autopkgtest", "--no-built-binaries", "--ignore-restrictions=isolation-container")
        process = debian.run(
            *command,
            f"/root/{candidate.package.name}",
            "/root/source/",
            "--",
            "null",
            check=False,
            timeout_s=PATIENCE_S,
        )
        output = process.stdout + process.stderr
    assert process.returncode == 0, output[-6000:]
    return ", ".join(dict.fromkeys(re.findall(r"(?m)^(\w+) +PASS", output)))
