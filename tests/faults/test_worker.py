"""The worker is killed, handed over and stopped under load: nothing lost, nothing twice, nothing left.

`CELERY_DOCKER_FAULTS=full` runs this folder in the size that docs/RELIABILITY.md reports; the seed of a run is printed,
and CELERY_DOCKER_FAULTS_SEED repeats it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import servers
from tests.faults.ledger import FULL
from tests.faults.single_host import STOPPED, Conclude, ledger_and_worker
from tests.outputs import OUTPUTS


@pytest.mark.only_in_full
def test_kill_of_the_worker_at_random_moments(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """SIGKILL, started again at once: containers run on, each is taken over by the next process."""
    kills = 20
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        with ledger.stream(200, 5.0, kills * 3.0):
            for _ in range(kills):
                ledger.pause(0.2, 3.0)
                worker.kill()
                unattended = ledger.unattended()
                worker.start()
                ledger.adopted(unattended, worker.started_s)
                ledger.recover()
        conclude(ledger.settle(f"worker kill -9, {kills} times"))


def test_output_that_is_not_utf8_under_kills_of_the_worker(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """Each job prints random bytes or Latin-1, slowly; its log file has them, byte for byte."""
    kills = 20 if FULL else 4
    outputs = {name: OUTPUTS[name] for name in ("random bytes", "Latin-1", "a last line of 100 kB without its end")}
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        logs: dict[Path, bytes] = {}
        for number in range(4 * kills):
            name = ledger.random.choice(list(outputs))
            source, log = ledger.folder / name.replace(" ", "-"), ledger.folder / f"{number}.log"
            source.write_bytes(outputs[name])
            parts, size = ledger.random.randint(5, 40), len(outputs[name])
            step = f"dd if=/output/{source.name} bs={size // parts + 1} skip=$n count=1 2>/dev/null"
            loop = f"n=0; while [ $n -lt {parts} ]; do {step}; sleep 0.05; n=$((n + 1)); done"
            ledger.add(loop, logoutfile=str(log))
            logs[log] = outputs[name]
        for _ in range(kills):
            ledger.pause(0.2, 2.0)
            worker.kill()
            unattended = ledger.unattended()
            worker.start()
            ledger.adopted(unattended, worker.started_s)
            ledger.recover()
        row = ledger.settle(f"output that is not UTF-8 under kill -9 of the worker, {kills} times")
        wrong = [log.name for log, expected in logs.items() if log.read_bytes() != expected]
        assert wrong == []
    conclude(row)


@pytest.mark.only_in_full
def test_handover_under_load(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """SIGHUP, which is what reload and upgrade send."""
    times = 10
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        with ledger.stream(100, 3.0, times * 4.0):
            for _ in range(times):
                ledger.pause(0.2, 2.0)
                worker.hand_over()
                assert worker.wait() == 0
                unattended = ledger.unattended()
                worker.start()
                ledger.adopted(unattended, worker.started_s)
                ledger.recover()
        conclude(ledger.settle(f"handover (SIGHUP), {times} times"))


@pytest.mark.only_in_full
def test_stop_with_jobs_that_end_in_time(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """The worker waits for them and takes no other; what is queued runs after the next start."""
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        ledger.submit(20, 1, 5)
        for _ in range(3):
            ledger.under_load()
            worker.terminate()
            assert worker.wait() == 0
            assert dockerd.containers() == []
            assert ledger.started() == ledger.ended()
            worker.start()
            ledger.recover()
        row = ledger.settle("stop that waits for its jobs")
        assert {len(ledger.receipt(entry)["attempts"]) for entry in ledger.entries} == {1}
    conclude(row)


@pytest.mark.only_in_full
def test_stop_with_jobs_that_outlast_the_deadline(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """They are queued again, retries untouched, and run a second time: only they, and only for this reason."""
    with ledger_and_worker(own_redis, dockerd, CELERY_DOCKER_SYSTEMD_TIMEOUT="1") as (ledger, worker):
        ledger.submit(20, 0.2, 8, retries=0)
        for _ in range(3):
            ledger.under_load()
            worker.terminate()
            assert worker.wait() == 0
            assert dockerd.containers() == []
            worker.start()
            ledger.recover()
        row = ledger.settle("stop with a deadline of 1 s", due=STOPPED)
        for entry in ledger.entries:
            reasons = [attempt["reason"] for attempt in ledger.receipt(entry)["attempts"][:-1]]
            assert len(entry.lines()) == len(reasons) + 2, (entry.lines(), reasons)
    conclude(row)
