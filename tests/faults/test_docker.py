"""Docker restarts and hangs under load: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests import servers
from tests.faults.ledger import Row
from tests.faults.single_host import DOCKER_WENT_DOWN, Conclude, ledger_and_worker


@pytest.mark.only_in_full
def test_restart_of_docker(own_dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """Docker takes the containers along: they run again, and nothing else does."""
    conclude(_restarted(own_redis, own_dockerd, "dockerd restart", due=DOCKER_WENT_DOWN))


@pytest.mark.only_in_full
def test_restart_of_docker_with_live_restore(
    live_dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """The containers run on or end by themselves, and nothing is run again."""
    conclude(_restarted(own_redis, live_dockerd, "dockerd restart with live-restore"))


def _restarted(redis: servers.RedisServer, dockerd: servers.Dockerd, fault: str, due: Sequence[str] = ()) -> Row:
    times = 3
    with ledger_and_worker(redis, dockerd) as (ledger, _):
        ledger.submit(40, 0, 4, retries=0)
        for _ in range(times):
            ledger.under_load()
            ledger.pause(0, 1)
            dockerd.restart()
            ledger.recover()
        return ledger.settle(f"{fault}, {times} times", due=due)


@pytest.mark.only_in_full
def test_docker_hangs(own_dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    seconds = 60
    with ledger_and_worker(own_redis, own_dockerd) as (ledger, _):
        ledger.submit(30, retries=0)
        ledger.under_load()
        own_dockerd.pause()
        ledger.pause(seconds, seconds)
        own_dockerd.resume()
        ledger.recover()
        conclude(ledger.settle(f"dockerd: SIGSTOP for {seconds} s"))
