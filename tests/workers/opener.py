"""The root helper as a process of its own, with the rights that its unit gives it, and with a socket as systemd's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from celery_docker.core.found import Found
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.policy import Policy
from celery_docker.host import opener, resolver
from tests import servers

ROOT = Path(__file__).parents[2]
# Those of systemd/celery-docker-open.service.
CAPABILITIES = ("setuid", "setgid", "sys_admin", "dac_read_search", "chown", "kill")
_STOP_S = 120


class Opener:
    """`python -m celery_docker.opener` with a folder of pins of its own; `stop` removes both."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdt-opener-"))
        self.pins = self.folder / "pins"
        self.socket = self.folder / "open.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(128)

    def start(self) -> None:
        """Start the process; a question that comes before it is there waits, as behind a socket of systemd's."""
        rights = ",".join(("-all", *(f"+{name}" for name in CAPABILITIES)))
        program = ["setpriv", "--pdeathsig", "TERM", "--inh-caps=-all", f"--bounding-set={rights}"]
        program += [sys.executable, "-P", "-m", "celery_docker.opener", str(self.pins)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec 3<&{self._listener.fileno()}; exec "$@"', "bash", *program],
                pass_fds=[self._listener.fileno()],
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP_S)

    def mounts(self) -> list[str]:
        """Return the places of all pins, as the kernel has them."""
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        places = [line.split(" ")[4] for line in lines if line]
        return [place for place in places if place.startswith(f"{self.pins}/")]

    def pinned(self) -> list[str]:
        """Return the jobs that have pins, or the folders of some."""
        return sorted(path.name for path in self.pins.glob("*/*"))

    def stop(self) -> None:
        if self.process is not None:
            self.kill()
        self._listener.close()
        if self.pins.is_mount():
            servers.run("umount", "--lazy", str(self.pins))
        # Should a mount be left, nothing below it is removed.
        if not self.mounts():
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None:
            value.add_note(self.log[-2000:])
        self.stop()


class Asking:
    """A worker that asks the process for the paths of jobs which nobody has signed, under rules of its own."""

    def __init__(self, socket_path: Path, worker: str, rules: Policy) -> None:
        self.rules = rules
        self._opener = opener.Opener(str(socket_path), worker)
        self.release, self.keep, self.look = self._opener.release, self._opener.keep, self._opener.look

    def pin(self, job_id: str, spec: JobSpec) -> Found:
        return self._opener.pin(job_id, spec, self.rules, resolver.identity(spec.user, self.rules))

    def open_log(self, path: str, user: str | None) -> int:
        return self._opener.open_log(path, resolver.identity(user, self.rules))
