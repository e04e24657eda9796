"""A machine with the package on it, in the words of an administrator and of a submitter."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.machines.machine import Machine
from tests.waiting import eventually

SETTINGS = "/etc/default/celery-worker"
NEXT = "9.0"
_MAKE_NEXT = """
cd /root
dpkg-deb --raw-extract celery-docker_*.deb next
sed -i "s/^Version: .*/Version: $1/" next/DEBIAN/control
cd next/opt/celery/venv/lib/python3*/site-packages
sed -i "s/^Version: .*/Version: $1/" celery_docker-*.dist-info/METADATA
mv celery_docker-*.dist-info "celery_docker-$1.dist-info"
cd /root/next
find * -type f ! -path 'DEBIAN/*' ! -path 'etc/*' -print0 | xargs -0 md5sum >DEBIAN/md5sums
dpkg-deb -Znone --build /root/next /root/next.deb
rm -r /root/next
"""
_SUBMIT = """
import json, sys
from celery import Celery
url = sys.argv[1]
app = Celery(broker=url, backend=url)
sent = app.send_task("tasks.run_docker", kwargs=json.loads(sys.argv[2]))
print(sent.id)
"""
_RESULT = """
import json, sys
from celery import Celery
url = sys.argv[1]
app = Celery(broker=url, backend=url)
sent = app.AsyncResult(sys.argv[2])
value = sent.get(timeout=float(sys.argv[3]), propagate=False)
print(json.dumps([sent.state, value if sent.state == "SUCCESS" else str(value)]))
"""


class Installed:
    """The package on a booted machine. `url` is the broker's as a client in the machine says it."""

    url = "redis://127.0.0.1:6379/0"

    def __init__(self, debian: Machine) -> None:
        self.debian = debian

    def add_plain_client(self, site_packages: Path) -> None:
        self.debian.run("python3", "-m", "venv", "--without-pip", "/opt/plain")
        self.debian.push(site_packages, "/opt/plain/site")
        self.debian.shell("mv /opt/plain/site/* /opt/plain/lib/python3*/site-packages/")

    def install(self, package: Path) -> None:
        self.debian.push(package, f"/root/{package.name}")
        self.debian.run("apt-get", "install", "--yes", f"/root/{package.name}", timeout_s=300)

    def make_next(self) -> str:
        """Make of the package in /root the next version of itself, NEXT, and return its path in the machine."""
        self.debian.shell(_MAKE_NEXT, NEXT)
        return "/root/next.deb"

    def configure(self, **settings: str | int) -> None:
        """Write the settings file as an administrator would, and restart the worker."""
        lines = [f"CELERY_DOCKER_{name}={value}\n" for name, value in settings.items()]
        self.debian.shell(f"cat >{SETTINGS}", input="".join(lines))
        self.debian.run("systemctl", "restart", "celery-worker")

    @property
    def is_active(self) -> bool:
        return self.debian.run("systemctl", "is-active", "celery-worker", check=False).stdout == "active\n"

    @property
    def status(self) -> str:
        """The line of `systemctl status` about the worker's slots."""
        return self.show("StatusText")

    def show(self, name: str, unit: str = "celery-worker") -> str:
        return self.debian.run("systemctl", "show", "--value", "-p", name, unit).stdout.strip()

    @property
    def log(self) -> str:
        return self.debian.journal("celery-worker")

    def send(self, **kwargs: Any) -> str:
        """Submit as a client that has nothing but Celery and the broker's URL; return the id."""
        return self.python(_SUBMIT, json.dumps(kwargs)).strip()

    def result(self, job_id: str, timeout_s: float = 60) -> tuple[str, Any]:
        """Wait for a result and return Celery's state and the receipt, or the error's line."""
        state, value = json.loads(self.python(_RESULT, job_id, str(timeout_s), timeout_s=timeout_s + 30))
        return state, value

    def queue_length(self) -> int:
        return int(self.debian.run("redis-cli", "llen", "celery").stdout)

    def containers(self, *options: str) -> list[str]:
        return self.debian.run("docker", "ps", "--format", "{{.Names}}", *options).stdout.split()

    def wait_until_ready(self) -> None:
        eventually(lambda: re.match(r"\d+ jobs? running", self.status), 60, "the worker to be ready")

    def python(self, script: str, *args: str, timeout_s: float = 60) -> str:
        """Run a script of a client that has nothing but Celery; return its output. Its first argument is the URL."""
        return self.debian.run("/opt/plain/bin/python", "-c", script, self.url, *args, timeout_s=timeout_s).stdout
