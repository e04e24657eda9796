"""A booted Debian with the package, and doors into it: to its Redis, its Docker and the jobs' files, for a ledger.

The machine's network is its own, so that the doors are Unix sockets; each boot opens them anew at the same paths.
Clients want a port of Redis: systemd's own forwarder leads from one of this computer to the door.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis

from celery_docker.core import ownredis
from tests import servers
from tests.faults.ledger import SEED, Ledger
from tests.machines.installed import SETTINGS, Installed
from tests.waiting import eventually

OUTPUT = "/srv/faults"
LOGS = "/var/log/celery"
REDIS = "redis-server@celery-docker"
_PINS = "/run/celery-docker/pins/"
_REDIS_SOCKET = "/run/redis-celery-docker/door.sock"
_REDIS_CONF = "/etc/redis/redis-celery-docker.conf"
_DOORS = {"redis": _REDIS_SOCKET, "docker": "/run/docker.sock", "output": OUTPUT}


class Booted:
    """The machine, as an administrator sees it and as the ledger does."""

    def __init__(self, installed: Installed, doors: Path) -> None:
        self.installed = installed
        self.debian = installed.debian
        self.doors = doors
        self.port = servers.free_port()
        self.broker = ""
        self._settings: dict[str, str | int] = {}
        self.docker = servers.DockerSocket(doors / "docker")

    @property
    def log(self) -> str:
        return self.installed.log

    @property
    def pins(self) -> list[str]:
        """The paths of jobs that are pinned in the machine."""
        lines = self.debian.read("/proc/1/mountinfo").splitlines()
        return [place for place in (line.split(" ")[4] for line in lines) if place.startswith(_PINS)]

    def prepare(self) -> None:
        """Keep Redis' data through a power cut as an administrator would, and make the jobs' folder."""
        self.debian.run("celery-docker", "setup-redis", "--yes")
        self.debian.shell("echo unixsocket $1 >>$2", _REDIS_SOCKET, _REDIS_CONF)
        (url,) = re.findall(r"(?m)^CELERY_DOCKER_BROKER_URL=(.*)$", self.debian.read(SETTINGS))
        self.broker = url
        self.debian.run("systemctl", "restart", REDIS)
        self.debian.run("install", "-d", "-m", "777", OUTPUT)
        self.open_doors()

    def open_doors(self) -> None:
        """Lead the doors into the machine as it runs now."""
        for name, inner in _DOORS.items():
            door = self.doors / name
            door.unlink(missing_ok=True)
            door.symlink_to(self.debian.path(inner))
        eventually((self.doors / "redis").is_socket, 30, "Redis' socket")

    def reboot(self) -> None:
        """Shut down in good order and start again."""
        self.debian.reboot()
        self._is_back()

    def lose_power(self) -> None:
        """Kill every process at once and start again."""
        self.debian.kill()
        self.debian.start()
        self._is_back()

    def restart_redis(self) -> None:
        """Restart it as an administrator would; it reads its append-only file before it answers."""
        self.debian.run("systemctl", "restart", REDIS)
        eventually(lambda: _answers(self.port), 30, "Redis to answer")

    def restart_docker(self) -> None:
        """The same; systemd would not start it for the third time within a minute."""
        self.debian.run("systemctl", "reset-failed", "docker")
        self.debian.run("systemctl", "restart", "docker")

    def kill_docker_and_worker(self) -> None:
        """Both at once; systemd starts both again. Containers run on, until that Docker ends them."""
        self.debian.run("systemctl", "reset-failed", "docker")
        self.new_worker("systemctl", "kill", "-s", "KILL", "--kill-who=main", "docker", "celery-worker")

    @contextmanager
    def untouched(self, *units: str) -> Iterator[None]:
        """Fail if one of these units gets another process meanwhile."""
        before = self._main_pids(units)
        yield
        assert self._main_pids(units) == before

    @contextmanager
    def stopped(self, *units: str) -> Iterator[None]:
        """Have units stopped for a while, as an administrator would; systemd may not count their starts."""
        self.debian.run("systemctl", "stop", *units)
        try:
            yield
        finally:
            self.debian.run("systemctl", "reset-failed", *units)
            self.debian.run("systemctl", "start", *units)
        eventually(lambda: _answers(self.port), 30, "Redis to answer")

    @contextmanager
    def frozen(self, unit: str) -> Iterator[None]:
        """Have a unit's processes stand still: connections stay, no answer comes."""
        (pid,) = self._main_pids((unit,))
        self.debian.run("systemctl", "kill", "-s", "STOP", unit)
        try:
            eventually(lambda: ") T " in self.debian.read(f"/proc/{pid}/stat"), 30, f"{unit} to stand still")
            yield
        finally:
            self.debian.run("systemctl", "kill", "-s", "CONT", unit)

    @contextmanager
    def small_log_disk(self) -> Iterator[None]:
        """Mount another disk, with hardly more room than a host must have, where the worker's logs are."""
        options = "size=20m,mode=755,uid=$(id -u celery),gid=$(id -g celery)"
        self.debian.shell(f"mount -t tmpfs -o {options} cdt-small {LOGS}")
        try:
            yield
        finally:
            self.debian.run("umount", "--lazy", LOGS)

    def log_size_bytes(self, log: str) -> int:
        """Return 0 for one that is not there yet."""
        path = self.debian.path(log)
        return path.stat().st_size if path.exists() else 0

    @contextmanager
    def live_restore(self) -> Iterator[None]:
        """Have containers outlive their Docker."""
        self._configure_docker("true")
        try:
            yield
        finally:
            self._configure_docker("false")

    def _main_pids(self, units: tuple[str, ...]) -> list[str]:
        return self.debian.run("systemctl", "show", "--value", "-p", "MainPID", *units).stdout.split()

    def _configure_docker(self, live_restore: str) -> None:
        self.debian.write("/etc/docker/daemon.json", f'{{"live-restore": {live_restore}}}\n')
        self.debian.run("systemctl", "reload", "docker")

    def new_worker(self, *command: str, timeout_s: float = 60) -> float:
        """Run what brings another worker process, and wait until that is ready; return the seconds of the command."""
        before = self.installed.show("MainPID")
        began = time.monotonic()
        self.debian.run(*command, timeout_s=timeout_s)
        took_s = time.monotonic() - began
        eventually(lambda: self.installed.show("MainPID") not in (before, "0"), 30, "another process")
        self.installed.wait_until_ready()
        return took_s

    @contextmanager
    def ledger(self, **settings: str | int) -> Iterator[Ledger]:
        """Keep the books of a worker with these settings besides four slots and quick retries."""
        all_settings = {"CONCURRENCY": 4, "RETRY_DELAY": 0, "LOG_LEVEL": "INFO", "BROKER_URL": self.broker, **settings}
        if all_settings != self._settings or not self.installed.is_active:
            self.installed.configure(**all_settings)
            self.installed.wait_until_ready()
        self._settings = all_settings
        url = self.broker.replace(f":{ownredis.DEFAULT_PORT}/", f":{self.port}/")
        with Ledger(url, [self.docker], [self], output=OUTPUT, folder=self.doors / "output", seed=SEED) as ledger:
            try:
                yield ledger
            except BaseException:
                self._forget()
                raise

    def _forget(self) -> None:
        """Drop what a failed test has left, so that the next one can start."""
        if not self.debian.is_on:
            self.lose_power()
        self.debian.run("systemctl", "kill", "-s", "KILL", "celery-worker")
        self.debian.run("systemctl", "stop", "celery-worker")
        self.docker.remove_containers()
        self.debian.run("redis-cli", "-u", self.broker, "flushall")

    def _is_back(self) -> None:
        self.open_doors()
        self.installed.wait_until_ready()


@contextmanager
def booted(installed: Installed) -> Iterator[Booted]:
    """Prepare an installed machine for ledgers."""
    with tempfile.TemporaryDirectory(prefix="cdt-doors-", dir="/tmp") as doors:
        machine = Booted(installed, Path(doors))
        machine.prepare()
        with _forwarded(machine.port, machine.doors / "redis"):
            yield machine


@contextmanager
def _forwarded(port: int, target: Path) -> Iterator[None]:
    listen = ("systemd-socket-activate", f"--listen=127.0.0.1:{port}")
    connect = ("/lib/systemd/systemd-socket-proxyd", "--connections-max=1024", str(target))
    forwarder = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *listen, *connect], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        eventually(lambda: _answers(port), 30, "the forwarder to Redis")
        yield
    finally:
        forwarder.kill()
        forwarder.wait(10)


def _answers(port: int) -> bool:
    with suppress(redis.RedisError), redis.Redis(port=port, socket_timeout=5) as client:
        try:
            return bool(client.ping())
        except redis.AuthenticationError:
            return True
    return False
