"""Real servers for the tests: a dockerd and a redis-server of their own, which leave nothing behind.

Each runs in a folder of its own, on a socket or port of its own, beside whatever else runs on the machine.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import redis

from tests.waiting import eventually

BUSYBOX = "busybox:latest"
# What dockerd logs of each stream that it had not yet opened when its container ended: see docs/RELIABILITY.md.
GIVEN_UP = "reading from a closed fifo"
# The API of Docker 19.03, the last that is too old for us.
OLD_API = "1.40"
_START_S = 120
_STOP_S = 120
_PODMAN_FILES = {"CONF": "containers.conf", "STORAGE_CONF": "storage.conf"}


class _Service:
    """A server process in a temporary folder, on a disk: Docker's images and logs would fill a /tmp in memory."""

    program = ""
    # None: as that of the tests.
    environ: dict[str, str] | None = None
    # Beside the tests.
    niceness = 0

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cdt-", dir="/var/tmp"))
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """Say what this machine lacks to run the service; empty if nothing."""
        return "" if shutil.which(cls.program) else f"{cls.program} is not installed"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        # Should the tests be killed, the server ends too.
        command = ["nice", "-n", str(self.niceness), "setpriv", "--pdeathsig", "TERM", self.program, *self._arguments()]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=self.environ
            )
        try:
            eventually(self._answers, _START_S, f"{self.program} to answer")
        except BaseException as exc:
            exc.add_note(self.log[-2000:])
            self.stop()
            raise

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send the process a signal and wait for its end; its data stay for another `start`."""
        process, self.process = self.process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def restart(self) -> None:
        self.end()
        self.start()

    def pause(self) -> None:
        """Stop the process in its tracks: connections stay, no answer comes."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        eventually(lambda: ") T " in state.read_text(), _STOP_S, f"{self.program} to pause")

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End the server and remove everything it made."""
        self.end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _arguments(self) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        raise NotImplementedError

    def _is_alive(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"{self.program} ended at its start")
        return True


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class DockerSocket:
    """The API of a Docker that listens on a Unix socket, without docker-py."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def connection(self, timeout_s: float) -> http.client.HTTPConnection:
        """Return a new connection."""
        return _UnixConnection(str(self.socket), timeout_s)

    def request(self, method: str, path: str, body: bytes | None = None, timeout_s: float = 60) -> tuple[int, bytes]:
        """Return the status and body of one call."""
        connection = self.connection(timeout_s)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    @property
    def api(self) -> str:
        """The newest version of the API that it speaks."""
        return str(json.loads(self.request("GET", "/version")[1])["ApiVersion"])

    def containers(self) -> list[str]:
        """Return the names of all containers, running or not."""
        return self._names("/containers/json?all=1")

    def running(self) -> list[str]:
        """Return the names of the containers that run."""
        return self._names("/containers/json")

    def import_busybox(self, tag: str = BUSYBOX, labels: Mapping[str, str] = MappingProxyType({})) -> None:
        """Make an image of Debian's static busybox, with no command of its own."""
        self.import_image(tag, busybox_tar(), labels)

    def import_image(self, tag: str, archive: bytes, labels: Mapping[str, str] = MappingProxyType({})) -> None:
        """Make an image of a root file system in a tar archive."""
        name, _, version = tag.rpartition(":")
        changes = [("changes", f"LABEL {key}={value}") for key, value in labels.items()]
        query = urlencode([("fromSrc", "-"), ("repo", name), ("tag", version), *changes])
        status, answer = self.request("POST", f"/images/create?{query}", archive)
        assert status == 200, answer
        assert b'"error"' not in answer, answer

    def remove_containers(self) -> None:
        for name in self.containers():
            self.request("DELETE", f"/containers/{name}?force=1&v=1")

    def _names(self, path: str) -> list[str]:
        listed: list[dict[str, Any]] = json.loads(self.request("GET", path)[1])
        return sorted(container["Names"][0].removeprefix("/") for container in listed)


class Dockerd(_Service, DockerSocket):
    """A dockerd with its own data, containerd, bridge and cgroup; it writes no firewall rules.

    `options` are further arguments of dockerd, such as `--log-opt max-size=1k`; they win over our own.
    """

    program = "dockerd"
    # Where it has to wait for the processor, containers lose their output: see `GIVEN_UP`.
    niceness = -10

    def __init__(self, *options: str) -> None:
        _Service.__init__(self)
        DockerSocket.__init__(self, self.folder / "docker.sock")
        self.options = options
        self.url = f"unix://{self.socket}"
        self.name = self.folder.name.replace("_", "-")
        self._bridge = f"cdt{abs(hash(self.name)) % 10**8:08d}"

    @classmethod
    def missing(cls) -> str:
        if os.geteuid() != 0:
            return "dockerd needs root"
        lacking = [program for program in ("dockerd", "ip", "busybox") if not shutil.which(program)]
        return f"{', '.join(lacking)}: not installed" if lacking else ""

    def start(self) -> None:
        if not Path("/sys/class/net", self._bridge).exists():
            run("ip", "link", "add", self._bridge, "type", "bridge")
            run("ip", "addr", "add", f"{free_network()}.1/24", "dev", self._bridge)
            run("ip", "link", "set", self._bridge, "up")
        super().start()

    def kill(self) -> None:
        super().kill()
        # Its containerd dies with it, a moment later; the next dockerd would wait for the one in the pid file.
        eventually(lambda: not self._helpers("containerd"), _STOP_S, "the end of containerd")
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Kill the server, its helpers and all containers at once; only what is on its disk is there at a `start`."""
        process, self.process = self.process, None
        assert process is not None
        for pid in (process.pid, *self._leftovers()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait(_STOP_S)
        eventually(lambda: not self._leftovers(), _STOP_S, "the end of dockerd's helpers and containers")
        self._unmount()
        shutil.rmtree(self.folder / "exec")
        (self.folder / "pid").unlink()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(OSError, http.client.HTTPException):
                self.resume()
                self.remove_containers()
        self.end()
        for pid in self._leftovers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        eventually(lambda: not self._leftovers(), _STOP_S, "the end of dockerd's helpers")
        self._unmount()
        subprocess.run(["ip", "link", "del", self._bridge], check=False, capture_output=True)
        for folder in self._cgroups():
            _remove_cgroup(folder)
        super().stop()

    def leftovers(self) -> list[str]:
        """Return what a stopped server left on the machine: processes, mounts, bridge, cgroups, files."""
        leftovers = [f"process {pid}" for pid in self._leftovers()] + self._mounts()
        leftovers += [str(folder) for folder in self._cgroups()]
        places = (Path("/sys/class/net", self._bridge), self.folder)
        return leftovers + [str(place) for place in places if place.exists()]

    def _arguments(self) -> list[str]:
        return [
            f"--data-root={self.folder}/data",
            f"--exec-root={self.folder}/exec",
            f"--pidfile={self.folder}/pid",
            f"--host={self.url}",
            f"--bridge={self._bridge}",
            f"--cgroup-parent=/{self.name}",
            "--iptables=false",
            "--ip-masq=false",
            "--ip-forward=false",
            "--live-restore=false",
            "--shutdown-timeout=5",
            *self.options,
        ]

    def _answers(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self._is_alive() and self.request("GET", "/_ping", timeout_s=5)[0] == 200
        return False

    def _leftovers(self) -> list[int]:
        """Return the processes that work for this dockerd and outlived it: containerd, its shims, containers."""
        helpers = self._helpers("dockerd", "containerd", "containerd-shim-runc-v2")
        return sorted({pid for place in self._cgroups() for pid in _processes_in(place)}.union(helpers))

    def _helpers(self, *programs: str) -> list[int]:
        pids = []
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                line = process.joinpath("cmdline").read_text(errors="replace")
                if str(self.folder) in line and line.split("\0")[0].rpartition("/")[2] in programs:
                    pids.append(int(process.name))
        return pids

    def _unmount(self) -> None:
        for mount in self._mounts():
            subprocess.run(["umount", "-l", mount], check=False, capture_output=True)

    def _mounts(self) -> list[str]:
        lines = Path("/proc/self/mounts").read_text().splitlines()
        points = [line.split()[1] for line in lines]
        return sorted((point for point in points if point.startswith(str(self.folder))), reverse=True)

    def _cgroups(self) -> list[Path]:
        root = Path("/sys/fs/cgroup")
        return [place for place in (*root.glob(f"*/{self.name}"), root / self.name) if place.exists()]


class Containerd(_Service):
    """A containerd of its own, as Debian's service is one: it outlives the dockerd that uses it."""

    program = "containerd"

    def __init__(self) -> None:
        super().__init__()
        self.socket = self.folder / "sock"
        lines = ["version = 2", f'root = "{self.folder}/root"', f'state = "{self.folder}/state"']
        lines += ["[grpc]", f'address = "{self.socket}"', "[ttrpc]", f'address = "{self.folder}/ttrpc"']
        (self.folder / "config.toml").write_text("\n".join(lines))

    def _arguments(self) -> list[str]:
        return ["--config", str(self.folder / "config.toml")]

    def _answers(self) -> bool:
        return self._is_alive() and self.socket.exists()


class ApartDockerd(Dockerd):
    """A dockerd whose containerd is a service of its own; `kill` ends dockerd alone."""

    def __init__(self, *options: str) -> None:
        self.containerd = Containerd()
        super().__init__(*options, f"--containerd={self.containerd.socket}")

    def start(self) -> None:
        if self.containerd.process is None:
            self.containerd.start()
        super().start()

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def kill_as_it_starts(self) -> None:
        """Kill dockerd as soon as the command of a container runs; there must be none before."""
        deadline = time.monotonic() + _START_S
        while not self.commands():
            assert time.monotonic() < deadline, "no container was started"
        self.kill()

    def stop(self) -> None:
        super().stop()
        self.containerd.stop()

    def commands(self) -> list[int]:
        """Return the processes of containers whose command runs, whatever Docker knows of them."""
        return [pid for place in self._cgroups()[:1] for pid in _processes_in(place) if not _is_waiting(pid)]


class Podman(_Service, DockerSocket):
    """Podman's service for Docker's API, with its own storage."""

    program = "podman"

    def __init__(self) -> None:
        _Service.__init__(self)
        DockerSocket.__init__(self, self.folder / "podman.sock")
        self.url = f"unix://{self.socket}"
        # Docker's: crun does not work everywhere, such as where there are both versions of cgroups.
        runtime = "runc" if shutil.which("runc") else "crun"
        engine = ["[containers]", 'default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]']
        engine += ["[engine]", 'cgroup_manager = "cgroupfs"', 'events_logger = "file"', f'runtime = "{runtime}"']
        engine += [f'tmp_dir = "{self.folder}/tmp"', f'conmon_path = ["{shutil.which("conmon")}"]']
        engine += [f'init_path = "{shutil.which("catatonit")}"']
        engine += ["[engine.runtimes]", f'{runtime} = ["{shutil.which(runtime)}"]']
        (self.folder / "containers.conf").write_text("\n".join(engine))
        places = (f'{name} = "{self.folder}/{name}"' for name in ("graphroot", "runroot"))
        (self.folder / "storage.conf").write_text("\n".join(("[storage]", 'driver = "vfs"', *places)))
        policy = self.folder / ".config/containers/policy.json"
        policy.parent.mkdir(parents=True)
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.environ = os.environ | {"HOME": str(self.folder)}
        self.environ |= {f"CONTAINERS_{name}": f"{self.folder}/{file}" for name, file in _PODMAN_FILES.items()}

    @classmethod
    def missing(cls) -> str:
        if os.geteuid() != 0:
            return "podman needs root here"
        lacking = [program for program in ("podman", "conmon", "catatonit", "busybox") if not shutil.which(program)]
        return f"{', '.join(lacking)}: not installed" if lacking else ""

    def stop(self) -> None:
        with suppress(OSError, http.client.HTTPException):
            self.remove_containers()
        super().stop()

    def _arguments(self) -> list[str]:
        return ["system", "service", "--time=0", self.url]

    def _answers(self) -> bool:
        with suppress(OSError, http.client.HTTPException):
            return self._is_alive() and self.request("GET", "/_ping", timeout_s=5)[0] == 200
        return False


class OldDockerd(Dockerd):
    """A dockerd that speaks API 1.40 at most, as before Docker 20.10, made of the installed one.

    `newest` is the newest API that the installed one speaks; `start` raises `RuntimeError` if this one speaks it still.
    """

    def __init__(self, newest: str) -> None:
        super().__init__()
        program = self.folder / "dockerd"
        program.write_bytes(with_old_api(Path(shutil.which("dockerd") or "dockerd").read_bytes(), newest))
        program.chmod(0o755)
        self.program = str(program)

    def start(self) -> None:
        super().start()
        if self.api != OLD_API:
            self.stop()
            raise RuntimeError(f"dockerd speaks API {self.api}, not {OLD_API}: its version is elsewhere in the program")


def with_old_api(program: bytes, newest: str) -> bytes:
    """Return a dockerd with its newest API, one string of the program, made `OLD_API`; whoever runs it should ask it.

    Raises `RuntimeError` where the program has no such string.
    """
    # Go's linker puts the shorter strings first: what comes later is within a longer one.
    before, match, after = program.partition(newest.encode())
    if not match or len(newest) != len(OLD_API):
        raise RuntimeError(f"no API {newest} in dockerd that could be made {OLD_API}")
    return before + OLD_API.encode() + after


class RedisServer(_Service):
    """A redis-server on a free loopback port, empty and without persistence unless the options say otherwise.

    `options` are those of redis.conf, such as `{"appendonly": "yes", "requirepass": "x"}`. What is appended is on
    the disk before Redis answers, as `setup-redis` has it: with a sync each second a kill may lose what was answered.
    """

    program = "redis-server"

    def __init__(self, options: dict[str, str] | None = None, *, tls: bool = False) -> None:
        super().__init__()
        self.options = dict(options or {})
        self.tls = tls
        # Held for as long as the server is there, also while it is down: nobody else is given the port.
        self._holder = _held_port()
        self.port: int = self._holder.getsockname()[1]
        self.ca_file = self.folder / "ca.pem"
        if tls:
            make_certificate(self.folder, self.ca_file)

    @property
    def url(self) -> str:
        """The address as a worker gets it, with the password and the certificate to trust."""
        password = self.options.get("requirepass")
        login = f":{password}@" if password else ""
        if self.tls:
            return f"rediss://{login}127.0.0.1:{self.port}/0?ssl_ca_certs={self.ca_file}"
        return f"redis://{login}127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Return a client that answers or raises within five seconds."""
        client: redis.Redis = redis.Redis.from_url(self.url, socket_timeout=5, socket_connect_timeout=5, **options)
        return client

    def stop(self) -> None:
        super().stop()
        self._holder.close()

    def _arguments(self) -> list[str]:
        port = {"port": "0", "tls-port": str(self.port)} if self.tls else {"port": str(self.port)}
        if self.tls:
            key = {"tls-cert-file": str(self.ca_file), "tls-key-file": str(self.folder / "key.pem")}
            port |= key | {"tls-ca-cert-file": str(self.ca_file), "tls-auth-clients": "no"}
        settings = port | {"bind": "127.0.0.1", "save": "", "dir": str(self.folder)}
        settings |= {"appendonly": "no", "appendfsync": "always"} | self.options
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def _answers(self) -> bool:
        self._is_alive()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False


class Sentinel(RedisServer):
    """A Redis Sentinel that watches nothing."""

    def _arguments(self) -> list[str]:
        settings = self.folder / "sentinel.conf"
        settings.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n")
        return [str(settings), "--sentinel"]


def _held_port() -> socket.socket:
    """Return a socket that holds a free loopback port, on which a server that reuses addresses may listen."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    return holder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def busybox_tar() -> bytes:
    """Return a root file system with busybox, its links, two users and /tmp."""
    program = shutil.which("busybox")
    assert program is not None
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True, timeout=60).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            _add(tar, folder, mode, tarfile.DIRTYPE)
        _add(tar, "bin/busybox", 0o755, content=Path(program).read_bytes())
        for applet in applets:
            if applet != "busybox":
                _add(tar, f"bin/{applet}", 0o777, tarfile.SYMTYPE, target="busybox")
        _add(tar, "etc/passwd", 0o644, content=b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")
        _add(tar, "etc/group", 0o644, content=b"root:x:0:\nnogroup:x:65534:\n")
    return buffer.getvalue()


def _add(
    tar: tarfile.TarFile, name: str, mode: int, kind: bytes = tarfile.REGTYPE, *, content: bytes = b"", target: str = ""
) -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.type, member.size, member.linkname = mode, kind, len(content), target
    tar.addfile(member, io.BytesIO(content))


def make_certificate(folder: Path, certificate: Path) -> None:
    """Write a certificate of 127.0.0.1 that nobody else has signed, and its key to key.pem in the folder."""
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{folder}/key.pem", "-out", str(certificate)),
    )


def free_network() -> str:
    """Return the first three numbers of a private network that this machine has no route to.

    It is one of many, at random: another run of tests that looks at this moment sees the same routes.
    """
    routes = subprocess.run(["ip", "-4", "route"], check=True, capture_output=True, text=True, timeout=60).stdout
    return secrets.choice([net for number in range(255) if f"{(net := f'10.213.{number}')}." not in routes])


def _processes_in(cgroup: Path) -> list[int]:
    pids = []
    for file in cgroup.rglob("cgroup.procs"):
        with suppress(OSError):
            pids += [int(line) for line in file.read_text().split()]
    return pids


def _is_waiting(pid: int) -> bool:
    """Return True for a process that has ended, or waits for the order to become a container's command."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes() in (b"", b"runc\0init\0")
    return True


def _remove_cgroup(folder: Path) -> None:
    for inner, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            os.rmdir(inner)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@contextmanager
def disk_in_memory(folder: Path, options: str) -> Iterator[None]:
    """Mount a disk of the test's own at a folder; `options` are those of tmpfs."""
    run("mount", "-t", "tmpfs", "-o", options, "cdt-disk", str(folder))
    try:
        yield
    finally:
        # Whoever has a file there keeps it.
        run("umount", "--lazy", str(folder))


def fill(disk: Path, left_bytes: int) -> Path:
    """Fill a disk, but for so many bytes, as soon as it is empty; return the file that does."""
    about = eventually(lambda: _about_empty(disk), 60, f"{disk} to be empty")
    assert about is not None
    ballast = disk / "ballast"
    ballast.write_bytes(bytes(about.f_bsize * about.f_blocks - left_bytes))
    return ballast


def _about_empty(disk: Path) -> os.statvfs_result | None:
    about = os.statvfs(disk)
    return about if about.f_bfree == about.f_blocks else None
