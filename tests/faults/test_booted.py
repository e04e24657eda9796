"""Reload, upgrade, stop and reboot of a machine under running jobs, and a power cut: nothing lost, doubled or left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.booted import OUTPUT, Booted, booted
from tests.faults.ledger import FULL, Entry, Ledger, in_words
from tests.faults.single_host import DOCKER_WENT_DOWN, STOPPED, Conclude
from tests.system import machine
from tests.system.installed import SETTINGS, Installed
from tests.waiting import eventually

_GO = "go"
_STEADY = f"i=0; until [ -e /output/{_GO} ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo $i >$F.lines"
_UPGRADE = "apt-get install --yes --reinstall /root/celery-docker_*.deb"


@pytest.fixture(scope="module")
def host(package: Path) -> Iterator[Booted]:
    """A machine for all tests here, with the package installed."""
    with machine.Machine.boot("faults", machine.ready_image()) as debian:
        machine.import_busybox(debian)
        installed = Installed(debian)
        installed.install(package)
        with booted(installed) as prepared:
            yield prepared
    assert machine.leftovers() == []


def test_reload_under_a_running_job(host: Booted, conclude: Conclude) -> None:
    """Over two minutes, in full: one container from start to end, and its log is complete."""
    times, apart_s = (10, 8) if FULL else (1, 0)
    with host.ledger() as ledger:
        entry = _steady_job(ledger)
        container = eventually(host.docker.running, 10, "Docker to list the container")
        for _ in range(times):
            ledger.pause(apart_s, apart_s)
            left = ledger.left()
            host.new_worker("systemctl", "reload", "celery-worker")
            ledger.adopted(left)
            assert host.docker.running() == container
        _let_it_end(ledger, entry)
        row = ledger.settle(f"systemctl reload, {in_words(times)}, under a job with steady output")
        _log_is_complete(entry)
    conclude(row)


def test_upgrade_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """apt returns although a job runs until then, the new process takes over what runs, and the settings are kept."""
    with host.ledger() as ledger:
        entry = _steady_job(ledger)
        ledger.submit(20 if FULL else 3, 2, 6 if FULL else 4)
        ledger.under_load(4)
        left = ledger.left()
        took_s = host.new_worker("sh", "-c", _UPGRADE)
        ledger.adopted(left)
        assert "CONCURRENCY=4" in host.debian.read(SETTINGS)
        _let_it_end(ledger, entry)
        row = ledger.settle(f"package upgrade, apt returned after {took_s:.0f} s")
        _log_is_complete(entry)
    conclude(row)


def test_kill_of_the_worker_under_systemd(host: Booted, conclude: Conclude) -> None:
    """systemd starts it again in two seconds, and it takes over what ran on."""
    times = 5 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(60 if FULL else 4, 1, 5 if FULL else 4)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            left = ledger.left()
            host.new_worker("systemctl", "kill", "-s", "KILL", "celery-worker")
            ledger.adopted(left)
            ledger.recover()
        conclude(ledger.settle(f"systemctl kill -s KILL celery-worker, {in_words(times)}"))


def test_restart_of_redis_under_systemd(host: Booted, conclude: Conclude) -> None:
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(40 if FULL else 4, 0, 3)
        for _ in range(times):
            ledger.under_load()
            host.restart_redis()
            ledger.recover()
        conclude(ledger.settle(f"systemctl restart redis-server (AOF), {in_words(times)}"))


def test_restart_of_docker_under_systemd(host: Booted, conclude: Conclude) -> None:
    """As Debian ships it, without live-restore: what ran runs again, and nothing else does."""
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(*((40, 0, 4) if FULL else (4, 2, 3)), retries=0)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            host.restart_docker()
            ledger.recover()
        conclude(ledger.settle(f"systemctl restart docker, {in_words(times)}", due=DOCKER_WENT_DOWN))


def test_restart_of_docker_with_live_restore(host: Booted, conclude: Conclude) -> None:
    """What runs goes on, what ends meanwhile has ended: nothing runs again."""
    times = 3 if FULL else 1
    with host.live_restore(), host.ledger() as ledger:
        ledger.submit(*((40, 0, 4) if FULL else (6, 1, 3)), retries=0)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            host.restart_docker()
            ledger.recover()
        conclude(ledger.settle(f"systemctl restart docker with live-restore, {in_words(times)}"))


def test_systemctl_stop_waits_for_jobs(host: Booted, conclude: Conclude) -> None:
    """Those that end in time end; what is queued runs after the next start."""
    with host.ledger() as ledger:
        ledger.submit(20 if FULL else 5, 1, 4 if FULL else 2)
        ledger.under_load()
        host.debian.run("systemctl", "stop", "celery-worker")
        assert host.docker.containers() == []
        assert 0 < ledger.ended() == ledger.started()
        host.debian.run("systemctl", "start", "celery-worker")
        ledger.recover()
        row = ledger.settle("systemctl stop that waits for its jobs")
        assert {len(ledger.receipt(entry)["attempts"]) for entry in ledger.entries} == {1}
    conclude(row)


def test_reboot_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """Nobody waits two hours: the containers are stopped and their jobs run again, retries untouched."""
    with host.ledger() as ledger:
        ledger.submit(*((20, 4, 7) if FULL else (4, 4, 5)), retries=0)
        ledger.under_load(4)
        host.reboot()
        ledger.recover()
        row = ledger.settle("reboot of the machine", due=STOPPED)
        _retries_are_untouched(ledger)
    conclude(row)


def test_power_cut_under_running_jobs(host: Booted, conclude: Conclude) -> None:
    """Every process dies at once; Redis writes each change down before it answers.

    Docker may not have written down the end of a container that was just ending: it says 255, and its job runs again.
    """
    times = 3 if FULL else 1
    with host.ledger() as ledger:
        ledger.submit(20 if FULL else 4, 3, 5, retries=0)
        for _ in range(times):
            ledger.under_load(4)
            ledger.pause(0, 2)
            host.lose_power()
            ledger.recover()
        conclude(
            ledger.settle(
                f"power cut of the machine, {in_words(times)}", due=DOCKER_WENT_DOWN, unseen=("(exit code 255)",)
            )
        )


def test_systemctl_stop_at_its_deadline(host: Booted, conclude: Conclude) -> None:
    """What outlasts it is queued again, retries untouched."""
    with host.ledger(SYSTEMD_TIMEOUT=1) as ledger:
        ledger.submit(20 if FULL else 4, 3, 4, retries=0)
        ledger.under_load()
        host.debian.run("systemctl", "stop", "celery-worker")
        assert host.docker.containers() == []
        host.debian.run("systemctl", "start", "celery-worker")
        ledger.recover()
        row = ledger.settle("systemctl stop with a deadline of 1 s", due=STOPPED)
        _retries_are_untouched(ledger)
    conclude(row)


def _steady_job(ledger: Ledger) -> Entry:
    (ledger.seen / _GO).unlink(missing_ok=True)
    entry = ledger.add(_STEADY, logoutfile=f"{OUTPUT}/steady.log", retries=0)
    ledger.under_load(1)
    return entry


def _let_it_end(ledger: Ledger, entry: Entry) -> None:
    assert entry.lines() == ["start"]
    (ledger.seen / _GO).touch()


def _log_is_complete(entry: Entry) -> None:
    """The log has every line from the first to the one that the job itself counted last."""
    last = int(entry.file.with_suffix(".lines").read_text())
    lines = (entry.file.parent / "steady.log").read_text().splitlines()
    assert lines == [f"line {number}" for number in range(1, last + 1)]


def _retries_are_untouched(ledger: Ledger) -> None:
    again = [entry for entry in ledger.entries if len(ledger.receipt(entry)["attempts"]) > 1]
    assert again
    for record in map(ledger.record, again):
        assert (record["exits"], record["host_faults"]) == ("0", "0")
