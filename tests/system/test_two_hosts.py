"""A job on one host, followed from another: two booted Debian machines and a cable between them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.machines import desk
from tests.machines.installed import Installed
from tests.machines.machine import Machine
from tests.waiting import eventually

LINES = 100
FOLDER = "/srv/lines"
# It prints for five seconds at least, once it may.
PRINT = f"""
until [ -e /output/go ]; do sleep 0.05; done
i=1
while [ $i -le {LINES} ]; do
  echo "out $i"; echo "err $i" >&2
  [ $i = {LINES // 2} ] && touch /output/half
  i=$((i + 1)); sleep 0.05
done
"""


@pytest.fixture(scope="module")
def away(installed: Installed, package: Path) -> Iterator[Machine]:
    """A machine of its own, from which an ordinary user reaches the queue of the other."""
    with desk.desk(installed, package, LOG_LEVEL="INFO") as debian:
        yield debian


def test_each_line_of_a_job_on_another_host_is_shown_once(installed: Installed, away: Machine) -> None:
    """To somebody who follows it before it prints, in the middle of it, and after its end."""
    debian = installed.debian
    assert away.run("systemctl", "is-active", "docker", "redis-server", check=False).stdout == "inactive\n" * 2
    debian.run("install", "-d", "-m", "777", FOLDER)
    submit = ("celery-docker", "submit", "-o", FOLDER, "busybox", "sh", "-c", PRINT)
    job_id = away.run(*submit, user=desk.USER).stdout.strip()
    with ThreadPoolExecutor() as pool:

        def followed() -> Future[CompletedProcess[str]]:
            return pool.submit(away.run, "celery-docker", "logs", "-f", job_id, user=desk.USER, check=False)

        before = followed()
        eventually(lambda: "cmd=xread" in _clients(debian), 30, "somebody who waits for the first line")
        debian.run("touch", f"{FOLDER}/go")
        eventually(debian.path(f"{FOLDER}/half").exists, 60, "half of the lines")
        halfway = followed()
        readers = [before.result(), halfway.result()]
        readers.append(followed().result())
    for reader in readers:
        assert reader.returncode == 0
        assert reader.stdout.splitlines() == [f"out {number}" for number in range(1, LINES + 1)]
        assert reader.stderr.splitlines() == [f"err {number}" for number in range(1, LINES + 1)]
    away.run("celery-docker", "wait", job_id, user=desk.USER)


def _clients(debian: Machine) -> str:
    """Return Redis' list of those who are connected to it, and of their last commands."""
    return debian.run("redis-cli", "client", "list", env={"REDISCLI_AUTH": desk.PASSWORD}).stdout
