"""The service celery-docker-api as systemd starts it: with a socket that listens, handed over as descriptor 3."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

# Hands the socket over under the process id that execve keeps, and becomes the service.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3, inheritable=True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-P", "-c", sys.argv[2]])
"""
_SERVICE = """
import os, sys
from celery_docker.gateway.main import main
sys.exit(main(os.environ, idle_s={idle_s}, patience_s={patience_s}))
"""
# Asks as another user: his number, his groups, and what to ask in JSON; answers in JSON, each body in Latin-1.
_ASK = """
import json, os, sys
from tests.gateways import ask
uid, gid, groups, path, requests = json.loads(sys.stdin.read())
os.setgroups(groups); os.setgid(gid); os.setuid(uid)
answers = [ask(path, *request) for request in requests]
print(json.dumps([(status, body.decode("latin-1")) for status, body in answers]))
"""


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_s: float = 60) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path: str, method: str, target: str, body: Any = None) -> tuple[int, bytes]:
    """Return status and body of an answer; what is no text goes as JSON."""
    connection = Connection(path)
    text = body.encode("latin-1") if isinstance(body, str) else None if body is None else json.dumps(body).encode()
    try:
        # Where it has heard enough, its answer is there.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, target, text)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Gateway:
    """The service, with a socket of the test's own that stays when it ends."""

    def __init__(self, redis_url: str, *, idle_s: float = 600, patience_s: float = 30) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdg-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.path = str(self.folder / "api.sock")
        self._redis_url = redis_url
        self._service = _SERVICE.format(idle_s=idle_s, patience_s=patience_s)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(128)
        Path(self.path).chmod(0o666)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address as a submitter gets it."""
        return f"http+unix://{self.path}"

    @property
    def key(self) -> Path:
        """The file of the keys that sign jobs; at first there is none."""
        return self.folder / "key"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        number = self._listening.fileno()
        words = [sys.executable, "-P", "-c", _START, str(number), self._service]
        environ = {"PATH": os.environ["PATH"], "CELERY_DOCKER_BROKER_URL": self._redis_url}
        environ |= {"PYTHONPATH": str(Path(__file__).parents[1]), "CELERY_DOCKER_KEY": str(self.key)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *words], pass_fds=[number], env=environ, stdout=log, stderr=log
            )

    def end(self) -> int:
        """Let it end as systemctl stop does; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        assert self.process is not None
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.process = None if self.process.returncode is not None else self.process

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self._listening.close()
        shutil.rmtree(self.folder)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Ask as the user of the tests; return status and what the body says."""
        status, text = ask(self.path, method, target, body)
        return status, json.loads(text) if text else None

    def ask_as(
        self, uid: int, *requests: Sequence[Any], groups: Sequence[int] = (), gid: int | None = None
    ) -> list[tuple[int, Any]]:
        """Ask as another user, in a process of his own."""
        question = json.dumps([uid, uid if gid is None else gid, list(groups), self.path, requests])
        environ: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        made = subprocess.run(
            [sys.executable, "-c", _ASK], input=question, capture_output=True, text=True, env=environ, check=False
        )
        assert made.returncode == 0, made.stderr
        return [(status, json.loads(body)) for status, body in json.loads(made.stdout)]


# The command line as another user; all of it is imported before, where his own eyes may not see the interpreter.
COMMAND = """
import importlib, os, pkgutil, sys
import celery_docker
rooms = tuple(f"celery_docker.{room}" for room in ("cli", "client", "doctor"))
for found in pkgutil.walk_packages(celery_docker.__path__, "celery_docker."):
    if found.name.startswith(rooms) and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.exit(sys.modules["celery_docker.cli.main"].main(sys.argv[2:]))
"""


def command(gateway: Gateway, uid: int, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as another user, through the gateway; return how it ended."""
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[1]),
        "CELERY_DOCKER_BROKER_URL": gateway.url,
    }
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(uid), *words],
        env=environ,
        capture_output=True,
        check=False,
        timeout=300,
        **options,
    )


@contextlib.contextmanager
def process(gateway: Gateway, uid: int, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """Let the command line of another user run, with its output in a pipe."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    environ |= {"CELERY_DOCKER_BROKER_URL": gateway.url}
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(uid), *words], env=environ, stdout=subprocess.PIPE
    ) as running:
        try:
            yield running
        finally:
            running.kill()
