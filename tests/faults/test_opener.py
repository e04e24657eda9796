"""celery-docker-open is killed under load, alone and with the worker: nothing lost, nothing twice, no pin left."""

from __future__ import annotations

from tests import servers
from tests.faults.ledger import FULL
from tests.faults.single_host import Conclude, ledger_and_worker


def test_kill_of_what_opens_paths(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """SIGKILL; the next one comes a little later. Each second time the worker is killed with it."""
    kills = 20 if FULL else 4
    with ledger_and_worker(own_redis, dockerd) as (ledger, worker):
        with ledger.stream(10 * kills, 2.0, kills * 3.0):
            for number in range(kills):
                ledger.pause(0.2, 2.0)
                worker.opener.kill()
                if number % 2:
                    worker.kill()
                ledger.pause(0.1, 1.0)
                worker.opener.start()
                if number % 2:
                    worker.start()
                ledger.recover()
        conclude(ledger.settle(f"celery-docker-open kill -9, {kills} times, with the worker each second time"))
