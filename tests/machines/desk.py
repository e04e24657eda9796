"""A second machine, of somebody who only submits: the package, and a cable to the host that has all the rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.machines import machine
from tests.machines.installed import Installed

USER = "alice"
PASSWORD = "sesame"  # noqa: S105  # guards nothing
_NOT_HERE = ("celery-worker.service", "docker.service", "docker.socket", "redis-server.service")


@contextmanager
def desk(host: Installed, package: Path, **settings: str | int) -> Iterator[machine.Machine]:
    """Boot it, with an ordinary user; the host's Redis gets a password, and its worker these settings."""
    with machine.Machine.boot("desk", machine.ready_image()) as debian:
        Installed(debian).install(package)
        debian.run("systemctl", "disable", "--now", *_NOT_HERE)
        debian.run("useradd", "--create-home", USER)
        address, _ = machine.connect(host.debian, debian)
        lines = f"bind 127.0.0.1 -::1 {address}\nrequirepass {PASSWORD}\n"
        host.debian.shell("cat >>/etc/redis/redis.conf && systemctl restart redis-server", input=lines)
        debian.write("/etc/celery-docker/client.conf", f"CELERY_DOCKER_BROKER_URL={_url(address)}\n")
        host.configure(BROKER_URL=_url("127.0.0.1"), **settings)
        host.wait_until_ready()
        yield debian


def _url(address: str) -> str:
    return f"redis://:{PASSWORD}@{address}:6379/0"
