"""The worker's host has no space for a log, and somebody sets its clock: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pytest

from tests import servers
from tests.conftest import require
from tests.faults.ledger import FULL, Entry, Ledger
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.faults.wallclock import WallClock
from tests.waiting import eventually
from tests.workers.worker import Worker

_HOUR_S = 3600


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file system with 256 KiB, below /tmp as the policy of these tests wants it."""
    folder = tmp_path_factory.mktemp("small-disk")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "cdt-small", str(folder)], check=True, timeout=60)
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=60)


@pytest.mark.only_in_full
def test_no_space_for_a_log_in_mid_job(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, small_disk: Path
) -> None:
    """The job ends as an error that names the reason and its container is stopped; the other jobs go on."""
    with ledger_and_worker(own_redis, dockerd) as (ledger, _):
        talks = "while :; do head -c 8192 /dev/zero | tr '\\0' x; echo; sleep 0.05; done"
        filling = [ledger.add(talks, ends=False, logoutfile=str(small_disk / f"{number}.log")) for number in range(2)]
        ledger.submit(20, 1, 3)
        row = ledger.settle("no space for a log in mid-job")
        for entry in filling:
            receipt = ledger.receipt(entry)
            assert (receipt["state"], receipt["reason"]) == ("error", "cannot write the log: No space left on device")
            assert len(receipt["attempts"]) == 1
        assert {ledger.status(entry) for entry in ledger.entries[2:]} == {"SUCCESS"}
    conclude(row)


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    """The wall clock of the worker alone."""
    require("docker", WallClock.missing())
    return WallClock(tmp_path)


@pytest.mark.parametrize("then", ["worker handed over", pytest.param("worker runs on", marks=pytest.mark.only_in_full)])
def test_the_clock_is_set_by_an_hour(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude, clock: WallClock, then: str
) -> None:
    """Forward, then back by two hours: timeouts and retries come neither early nor late."""
    delay_s = 10 if FULL else 2
    variables = {"CELERY_DOCKER_RETRY_DELAY": str(delay_s), **clock.environ}
    with ledger_and_worker(own_redis, dockerd, **variables) as (ledger, worker):
        expected: dict[Entry, str] = {}
        retried: list[Entry] = []
        for off_s in (_HOUR_S, -_HOUR_S):
            hung = ledger.add("sleep 600", ends=False, timeout=delay_s)
            patient = ledger.add(f"sleep {delay_s + 3}", timeout=60)
            retried.append(ledger.add("[ -e $F.again ] || { touch $F.again; exit 1; }"))
            expected |= {hung: "timed_out", patient: "succeeded", retried[-1]: "succeeded"}
            eventually(lambda: ledger.status(retried[-1]) == "RETRY", 30, "the retry to be planned")
            ledger.under_load(2)
            clock.set_off(off_s)
            if then == "worker handed over":
                _hand_over(ledger, worker)
            with suppress(AssertionError):
                eventually(lambda: ledger.ended() == len(ledger.entries), 30, "the end of all jobs")
        row = ledger.settle(f"clock set forward by 1 h, then back by 2 h, {then}", due=("exit code 1",), within_s=30)
        conclude(row)
        assert {entry: ledger.receipt(entry)["state"] for entry in expected} == expected
        assert min(_waited_s(ledger, entry) for entry in retried) >= delay_s - 1


def _hand_over(ledger: Ledger, worker: Worker) -> None:
    worker.hand_over()
    assert worker.wait() == 0
    unattended = ledger.unattended()
    worker.start()
    ledger.adopted(unattended, worker.started_s)


def _waited_s(ledger: Ledger, entry: Entry) -> float:
    """Return the seconds between a job's first and second attempt by Docker's clock, which nobody set."""
    first, second = ledger.receipt(entry)["attempts"]
    return (datetime.fromisoformat(second["started_at"]) - datetime.fromisoformat(first["finished_at"])).total_seconds()
