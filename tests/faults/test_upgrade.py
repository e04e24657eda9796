"""An upgrade that stands still between unpacking and configuring, as dpkg does while it asks about a changed file.

The old process runs on over new files meanwhile, and has to do everything. CELERY_DOCKER_TEST_OLD_DEB names the package
from which the upgrade starts; without it that is the package under test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.booted import Booted, booted
from tests.faults.ledger import FULL, HELD, Entry, Ledger, in_words
from tests.faults.single_host import Conclude
from tests.machines import machine
from tests.machines.installed import Installed
from tests.waiting import eventually

# Fails in the first run, and succeeds in the second.
_FAILS_ONCE = "if [ $(grep -c start $F) -lt 2 ]; then sleep 0.2; exit 1; fi; sleep 0.5"


@pytest.fixture(scope="module")
def old_package(package: Path) -> Path:
    """The package that is there before the upgrade."""
    return Path(os.environ.get("CELERY_DOCKER_TEST_OLD_DEB") or package)


@pytest.fixture(scope="module")
def host(old_package: Path, package: Path) -> Iterator[Booted]:
    """A machine with the old package, and the new one at hand."""
    with machine.Machine.boot("upgrade", machine.ready_image()) as debian:
        machine.import_busybox(debian)
        for file, name in ((old_package, "old.deb"), (package, "new.deb")):
            debian.push(file, f"/root/{name}")
        debian.run("apt-get", "install", "--yes", "/root/old.deb", timeout_s=300)
        with booted(Installed(debian)) as prepared:
            yield prepared
    assert machine.leftovers() == []


def test_upgrade_that_stands_still_half_done(host: Booted, conclude: Conclude) -> None:
    """Jobs end, fail, are retried and cancelled under the old process; then the new one adopts what runs."""
    times = 5 if FULL else 1
    with host.ledger(CONCURRENCY=8) as ledger:
        for number in range(times):
            _upgrade(host, ledger, is_first=number == 0)
        row = ledger.settle(
            f"package upgrade that stands still half done, {in_words(times)}", due=("exit code 1",), within_s=120
        )
    conclude(row)


def _upgrade(host: Booted, ledger: Ledger, *, is_first: bool) -> None:
    if not is_first:
        host.debian.run("dpkg", "--force-confold", "--install", "/root/old.deb", timeout_s=300)
        host.new_worker("systemctl", "restart", "celery-worker")
    ledger.hold()
    held = ledger.add(HELD, retries=0)
    cancelled = [ledger.add("sleep 600", ends=False, retries=0) for _ in range(2)]
    eventually(lambda: all(entry.lines() for entry in (held, *cancelled)), 60, "all of them to run")
    container_id = _container_id(host, held)
    host.debian.run("dpkg", "--unpack", "/root/new.deb", timeout_s=300)
    ledger.submit(4, 0, 1)
    for _ in range(3):
        ledger.add(_FAILS_ONCE, retries=3)
    ledger.cancel(cancelled[0])
    eventually(lambda: ledger.status(cancelled[0]) == "REVOKED", 60, "the old process to cancel a job")
    before = ledger.ended()
    ledger.submit(4, 0, 1)
    eventually(lambda: ledger.ended() >= before + 4, 60, "jobs to end under the old process")
    host.new_worker("dpkg", "--force-confold", "--configure", "-a", timeout_s=300)
    ledger.cancel(cancelled[1])
    eventually(lambda: ledger.status(cancelled[1]) == "REVOKED", 60, "the new process to cancel a job")
    assert _container_id(host, held) == container_id
    assert held.lines() == ["start"]
    ledger.let_go()
    eventually(lambda: ledger.ended() == len(ledger.entries), 60, "the end of all jobs")


def _container_id(host: Booted, entry: Entry) -> str:
    _, answer = host.docker.request("GET", f"/containers/run-{entry.job_id}/json")
    return str(json.loads(answer)["Id"])
