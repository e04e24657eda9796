"""Snakemake as a user has it: installed apart from celery-docker, run as that user, in a folder of his own.

It is installed once, by the versions and sums of tests/snakemake.txt, into the cache folder of the tests.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.machines import machine

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "docs/snakemake"
_LOCK = Path(__file__).with_name("snakemake.txt")
_INSTALL_S = 600
_RUN_S = 600
# An image in which the Snakemake of this host runs, once its /usr is mounted.
GLIBC = "glibc:1"


class NotInstalled(Exception):
    """Snakemake cannot be installed here; the reason."""


def installed() -> Path:
    """Return the folder of a virtual environment with Snakemake. Raises `NotInstalled`."""
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = machine.cache_folder() / f"snakemake-{digest}"
    done = folder / "installed"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "snakemake.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run("/usr/bin/python3", "-m", "venv", str(folder))
            # One has no wheel.
            words = ("install", "--quiet", "--no-deps", "--require-hashes", "--disable-pip-version-check")
            _run(str(folder / "bin/python"), "-m", "pip", *words, "-r", str(_LOCK))
            _run(str(folder / "bin/python"), "-m", "compileall", "-q", str(folder / "lib"))
            done.touch()
    return folder


def _run(*words: str) -> None:
    made = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
    if made.returncode != 0:
        raise NotInstalled(f"{' '.join(words[:4])}: {(made.stderr or made.stdout)[-500:]}")


class Desk:
    """The folder of a user, with the shipped files beside it: `uid` is his number, `url` the service that he asks."""

    def __init__(self, environment: Path, uid: int, url: str, **variables: str) -> None:
        self._uid = uid
        # Where the policy of the tests' workers allows it.
        self._place = Path(tempfile.mkdtemp(prefix="cdt-snakemake-", dir="/tmp"))
        self._place.chmod(0o755)
        # As the package has it: where others may read.
        self.shipped = self._place / "shipped"
        shutil.copytree(SHIPPED, self.shipped, ignore=shutil.ignore_patterns("__pycache__"))
        self.folder = self._place / "a workflow"
        self.folder.mkdir()
        os.chown(self.folder, uid, uid)
        self.program = environment / "bin/snakemake"
        self.environ: Mapping[str, str] = {
            "PATH": f"{environment}/bin:{os.environ['PATH']}",
            "HOME": str(self.folder),
            # His number is on no list of this machine.
            "LOGNAME": "alice",
            "PYTHONPATH": str(self.shipped),
            "CELERY_DOCKER_BROKER_URL": url,
            **variables,
        }

    def write(self, snakefile: str, **files: str) -> None:
        """Write the Snakefile, and further files beside it."""
        for name, text in {"Snakefile": snakefile, **files}.items():
            path = self.folder / name.replace("__", ".")
            path.write_text(text)
            path.chmod(0o644)

    def take(self, example: str) -> None:
        """Copy a shipped folder, as the user is told to."""
        self.run("cp", "-r", f"{self.shipped}/{example}/.", str(self.folder), check=True)

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder, as the user; both of its streams are its output."""
        options = {"text": True, "timeout": _RUN_S, "check": False, "stderr": subprocess.STDOUT, **options}
        return subprocess.run(words, stdout=subprocess.PIPE, **{**self._as_user, **options})

    def snakemake(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run Snakemake to its end."""
        return self.run(str(self.program), *words)

    @contextlib.contextmanager
    def begun(self, *words: str) -> Iterator[Run]:
        """Let Snakemake run; it is killed at the end."""
        with (self._place / "output").open("w+") as output:
            process = subprocess.Popen(
                (str(self.program), *words), stdout=output, stderr=subprocess.STDOUT, **self._as_user
            )
            run = Run(process, Path(output.name))
            try:
                yield run
            except BaseException as exc:
                exc.add_note(run.output[-3000:])
                raise
            finally:
                process.kill()
                process.wait()

    @property
    def _as_user(self) -> dict[str, Any]:
        return {
            "cwd": self.folder,
            "env": self.environ,
            "user": self._uid,
            "group": self._uid,
            "extra_groups": (),
            "stdin": subprocess.DEVNULL,
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._place)


class Run:
    """A Snakemake that runs."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def output(self) -> str:
        return self._output.read_text(errors="replace")

    def wait(self) -> int:
        """Return the exit status, once it has ended."""
        return self.process.wait(_RUN_S)


def glibc_tar() -> bytes:
    """Return a root file system that has the programs and libraries of whatever is mounted at /usr."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in (("usr", 0o755), ("sbin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        for name in ("bin", "lib", "lib64"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
    return buffer.getvalue()


def plugin(*words: str, jobs: int = 50) -> Sequence[str]:
    """Return the arguments for the plugin."""
    return ("--executor", "celery-docker", "--jobs", str(jobs), *words)


def cluster_generic(shipped: Path, *options: str, jobs: int = 50, poll_s: int = 2) -> Sequence[str]:
    """Return the arguments for cluster-generic with the wrappers; `options` are those of `submit`."""
    prefix = "--cluster-generic"
    return (
        *("--executor", "cluster-generic", "--jobs", str(jobs), "--seconds-between-status-checks", str(poll_s)),
        *(f"{prefix}-submit-cmd", " ".join([f"{shipped}/submit", *options])),
        *(f"{prefix}-status-cmd", f"{shipped}/status", f"{prefix}-cancel-cmd", f"{shipped}/cancel"),
    )
