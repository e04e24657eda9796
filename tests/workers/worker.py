"""A worker as a process of its own, as systemd would start it, with its notifications and its log at hand."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import servers
from tests.waiting import eventually
from tests.workers.opener import Opener

ROOT = Path(__file__).parents[2]
_START_S = 120
_STOP_S = 120


class Worker:
    """`python -m celery_docker.worker` with its own state folder, policy and opener. `start` waits for READY=1.

    `network` names the network namespace in which it runs; empty: this machine's.
    """

    def __init__(self, broker_url: str, dockerd: servers.DockerSocket, *, network: str = "", **variables: str) -> None:
        self._inside = ("nsenter", f"--net=/run/netns/{network}") if network else ()
        self._dockerd = dockerd
        self.folder = Path(tempfile.mkdtemp(prefix="cdt-worker-"))
        self.opener = Opener()
        self.policy = self.folder / "policy.toml"
        self.policy.write_text('mounts = ["/tmp"]\nnetworks = ["none"]\n')
        self.environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
            "NOTIFY_SOCKET": str(self.folder / "notify"),
            "STATE_DIRECTORY": str(self.folder / "state"),
            "OPENER_SOCKET": str(self.opener.socket),
            "CELERY_DOCKER_BROKER_URL": broker_url,
            "CELERY_DOCKER_LOG_LEVEL": "INFO",
            "CELERY_DOCKER_CONCURRENCY": "2",
            "CELERY_DOCKER_DOCKER_HOST": f"unix://{dockerd.socket}",
            "CELERY_DOCKER_POLICY": str(self.policy),
            "CELERY_DOCKER_KEY": str(self.folder / "key"),
            **variables,
        }
        self.process: subprocess.Popen[bytes] | None = None
        # By the monotonic clock.
        self.started_s = 0.0
        self._received: list[str] = []
        # The descriptors that the process has given to the service manager to keep.
        self._stored: list[int] = []
        self._notify_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._notify_socket.bind(self.environ["NOTIFY_SOCKET"])

    def start(self, variables: Mapping[str, str] | None = None) -> None:
        self.launch(variables)
        eventually(
            lambda: any("READY=1" in text for text in self.notifications()), _START_S, f"READY=1; log: {self.log}"
        )

    def launch(self, variables: Mapping[str, str] | None = None) -> None:
        if self.opener.process is None:
            self.opener.start()
        self.notifications()  # those of an earlier process
        self._received.clear()
        self.started_s = time.monotonic()
        passed, script = self._stored, 'exec "$@"'
        if passed:
            script = f'exec 3<&{passed[0]}; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=revokes exec "$@"'
        program = ("setpriv", "--pdeathsig", "TERM", sys.executable, "-P", "-m", "celery_docker.worker")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script, "bash", *self._inside, *program],
                pass_fds=passed,
                env={**self.environ, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )
        for number in passed:
            os.close(number)
        self._stored = []

    def notifications(self) -> list[str]:
        """Return every notification since the start."""
        while True:
            try:
                text, numbers, *_ = socket.recv_fds(self._notify_socket, 4096, 4)
                self._received.append(text.decode())
                self._stored += numbers
            except BlockingIOError:
                return self._received

    @property
    def status(self) -> str:
        lines = [line for text in self.notifications() for line in text.splitlines() if line.startswith("STATUS=")]
        return lines[-1].removeprefix("STATUS=") if lines else ""

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pins(self) -> list[str]:
        """What is pinned for its jobs: mounts, and the folders of jobs."""
        return [*self.opener.mounts(), *self.opener.pinned()]

    @property
    def rss_bytes(self) -> int:
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def hand_over(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGHUP)

    def reload(self, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Do what `systemctl reload` does after an edit of the settings; the next process is for the test to start."""
        assert self.process is not None
        environ = {**self.environ, **variables, "MAINPID": str(self.process.pid)}
        command = [sys.executable, "-P", "-m", "celery_docker.worker.reload"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_STOP_S, cwd="/")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(_STOP_S)

    def wait(self, timeout_s: float = _STOP_S) -> int:
        """Return the exit status once the process has ended."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> None:
        """End the process and remove its folder; without containers it is killed, since a stop takes two seconds."""
        if self._is_idle():
            self.kill()
        elif self.process is not None and self.process.poll() is None:
            self.terminate()
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.kill()
        self._notify_socket.close()
        self.opener.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_idle(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False
        with suppress(OSError, http.client.HTTPException):
            return self._dockerd.containers() == []
        return False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # It may come up later, and would take the jobs of the next test.
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if value is not None and (self.folder / "log").exists():
            value.add_note(self.log[-6000:])
        self.stop()
