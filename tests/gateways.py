"""The service celery-docker-api as systemd starts it: with sockets that listen, handed over from descriptor 3 on."""

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
from types import MappingProxyType
from typing import Any, Self

from celery_docker.core import tokens
from celery_docker.core.tokens import Token
from celery_docker.host import tokenfile
from celery_docker.host.tokenfile import TokenFile

# Hands the sockets over under the process id that execve keeps, and becomes the service.
_START = """
import fcntl, os, sys
service, *numbers = sys.argv[1:]
# Out of the way first: one may have the number of another's place.
copies = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 100) for number in numbers]
for place, copy in enumerate(copies):
    os.dup2(copy, 3 + place, inheritable=True)
    os.close(copy)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(numbers))}
os.execv(sys.executable, [sys.executable, "-P", "-c", service])
"""
_SERVICE = """
import os, sys
from celery_docker.gateway.main import main
sys.exit(main(os.environ, idle_s={idle_s}, patience_s={patience_s}, token_file={token_file!r}))
"""
# Gives the service users of its own, who are on no other list of this machine.
_WITH_USERS = ("unshare", "--mount", "--", "sh", "-euc", 'mount --bind "$0" /etc/passwd; exec "$@"')
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
    """The service, with sockets of the test's own that stay when it ends: one in the file system, one over TCP."""

    def __init__(
        self,
        redis_url: str,
        *,
        idle_s: float = 600,
        patience_s: float = 30,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdg-", dir="/var/tmp"))
        self.folder.chmod(0o755)
        self.path = str(self.folder / "api.sock")
        self._redis_url = redis_url
        self._environ = environ
        self.tokens = TokenFile(str(self.folder / "tokens"))
        self._service = _SERVICE.format(idle_s=idle_s, patience_s=patience_s, token_file=self.tokens.path)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen(128)
        Path(self.path).chmod(0o666)
        self._listening_tcp = socket.create_server(("127.0.0.1", 0))
        self.users()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address as a submitter gets it."""
        return f"http+unix://{self.path}"

    def listen_tcp(self, listening: socket.socket) -> None:
        """Hand over another socket in place of that on 127.0.0.1, from the next start on."""
        self._listening_tcp.close()
        self._listening_tcp = listening

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self._listening_tcp.getsockname()[1])

    @property
    def tcp_url(self) -> str:
        """The address as somebody with a token gets it."""
        return f"http://127.0.0.1:{self.port}"

    def users(self, **uids: int) -> None:
        """Let the service know these users, and of others those of this machine."""
        lines = [f"{name}:x:{uid}:{uid}::/nonexistent:/bin/false\n" for name, uid in uids.items()]
        # In place: the service has this file on top of its own list.
        (self.folder / "passwd").write_text(Path("/etc/passwd").read_text() + "".join(lines))

    def token(self, account: str, rights: str = "read,submit,cancel") -> str:
        """Return a new token of an account of this machine."""
        secret = tokenfile.new()
        self.tokens.add(Token(account, tokens.parse_rights(rights), tokens.digest(secret)))
        return secret

    @property
    def key(self) -> Path:
        """The file of the keys that sign jobs; at first there is none."""
        return self.folder / "key"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        numbers = [self._listening.fileno(), self._listening_tcp.fileno()]
        words = [sys.executable, "-P", "-c", _START, self._service, *map(str, numbers)]
        environ = {"PATH": os.environ["PATH"], "CELERY_DOCKER_BROKER_URL": self._redis_url}
        environ |= {"PYTHONPATH": str(Path(__file__).parents[1]), "CELERY_DOCKER_KEY": str(self.key)}
        environ |= {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": "131072"}  # as its unit says
        environ |= self._environ
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *_WITH_USERS, str(self.folder / "passwd"), *words],
                pass_fds=numbers,
                env=environ,
                stdout=log,
                stderr=log,
            )

    def end(self) -> int:
        """Let it end as systemctl stop does; return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

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
        self._listening_tcp.close()
        shutil.rmtree(self.folder)

    def ask(self, method: str, target: str, body: Any = None) -> tuple[int, Any]:
        """Ask as the user of the tests; return status and what the body says."""
        status, text = ask(self.path, method, target, body)
        return status, json.loads(text) if text else None

    def ask_tcp(self, token: str | None, method: str, target: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Ask over TCP with a token; return status and what the body says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        text = body.encode("latin-1") if isinstance(body, str) else None if body is None else json.dumps(body).encode()
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            # Where it has heard enough, its answer is there.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, text, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

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


def flood(port: int, count: int) -> Iterator[int]:
    """Ask over TCP, each time with another wrong token; yield each status."""
    for number in range(count):
        head = f"GET /api/v1/jobs HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {number:043}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", port), 60) as connection:
            connection.sendall(head.encode())
            yield int(connection.recv(65_536).split()[1])


# The command line as another user; all of it is imported before, where his own eyes may not see the interpreter.
COMMAND = """
import encodings.idna, importlib, os, pkgutil, sys
import celery_docker
layers = tuple(f"celery_docker.{layer}" for layer in ("cli", "client", "doctor"))
for found in pkgutil.walk_packages(celery_docker.__path__, "celery_docker."):
    if found.name.startswith(layers) and not found.name.endswith("__main__"):
        importlib.import_module(found.name)
uid = int(sys.argv[1])
os.setgroups([]); os.setgid(uid); os.setuid(uid)
sys.exit(sys.modules["celery_docker.cli.main"].main(sys.argv[2:]))
"""


def _environ(gateway: Gateway, token: str | None) -> dict[str, str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[1])}
    if token is None:
        return {**environ, "CELERY_DOCKER_BROKER_URL": gateway.url}
    return {**environ, "CELERY_DOCKER_BROKER_URL": gateway.tcp_url, "CELERY_DOCKER_TOKEN": token}


def command(
    gateway: Gateway, uid: int, *words: str, token: str | None = None, **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line as another user, through the gateway, over TCP with a token; return how it ended."""
    return subprocess.run(
        [sys.executable, "-c", COMMAND, str(uid), *words],
        env=_environ(gateway, token),
        capture_output=True,
        check=False,
        timeout=300,
        **options,
    )


@contextlib.contextmanager
def process(gateway: Gateway, uid: int, *words: str, token: str | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Let the command line of another user run as `command` does, with its output in a pipe."""
    argv = [sys.executable, "-c", COMMAND, str(uid), *words]
    with subprocess.Popen(argv, env=_environ(gateway, token), stdout=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()
