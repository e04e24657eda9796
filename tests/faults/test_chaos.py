"""Everything at once: two hosts under load, and faults of all kinds, one after another at random.

What the other files do one at a time, in good order, meets here in orders that nobody thought of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests import servers
from tests.faults.ledger import FULL, Ledger
from tests.faults.single_host import DOCKER_WENT_DOWN, STOPPED, Conclude
from tests.faults.test_two_hosts import NEVER_LOST, two_hosts
from tests.workers.worker import Worker

_FAULTS = 40 if FULL else 6
# Enough for the slots of both hosts, and some that wait.
_WAITING = 12


@dataclass(frozen=True)
class Victims:
    """The things that a fault may break: the Redis of all, and one host's worker and Docker."""

    redis: servers.RedisServer
    worker: Worker
    dockerd: servers.Dockerd
    ledger: Ledger

    def worker_is_killed(self) -> None:
        self.worker.kill()
        self.ledger.pause(0, 2)
        self.worker.start()

    def worker_is_handed_over(self) -> None:
        self.worker.hand_over()
        self.worker.wait()
        self.worker.start()

    def worker_is_stopped(self) -> None:
        self.worker.terminate()
        self.worker.wait()
        self.worker.start()

    def docker_is_restarted(self) -> None:
        self.dockerd.restart()

    def docker_hangs(self) -> None:
        self.dockerd.pause()
        self.ledger.pause(1, 8)
        self.dockerd.resume()

    def redis_is_restarted(self) -> None:
        self.redis.restart()

    def redis_is_killed(self) -> None:
        self.redis.kill()
        self.ledger.pause(0, 4)
        self.redis.start()

    def redis_hangs(self) -> None:
        self.redis.pause()
        self.ledger.pause(1, 12)
        self.redis.resume()

    def redis_drops_every_connection(self) -> None:
        with self.redis.client() as client:
            for kind in ("normal", "pubsub"):
                client.execute_command("CLIENT", "KILL", "TYPE", kind)

    def redis_is_out_of_memory(self) -> None:
        with self.redis.client() as client:
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
            self.ledger.pause(0.5, 4)
            client.config_set("maxmemory", "0")

    def redis_hangs_and_dies_with_the_worker(self) -> None:
        self.redis.pause()
        self.worker.kill()
        self.ledger.pause(0, 1)
        self.redis.kill()
        self.redis.start()
        self.worker.start()

    def docker_is_restarted_without_the_worker(self) -> None:
        self.worker.kill()
        self.dockerd.restart()
        self.worker.start()

    def a_job_is_cancelled(self) -> None:
        job_id = self.ledger.random.choice(self.ledger.entries).job_id
        self.ledger.plain.control.revoke(job_id)


_KINDS: tuple[Callable[[Victims], None], ...] = (
    Victims.worker_is_killed,
    Victims.worker_is_handed_over,
    Victims.worker_is_stopped,
    Victims.docker_is_restarted,
    Victims.docker_hangs,
    Victims.redis_is_restarted,
    Victims.redis_is_killed,
    Victims.redis_hangs,
    Victims.redis_drops_every_connection,
    Victims.redis_is_out_of_memory,
    Victims.redis_hangs_and_dies_with_the_worker,
    Victims.docker_is_restarted_without_the_worker,
    Victims.a_job_is_cancelled,
)


def test_faults_of_all_kinds_at_random(
    own_redis: servers.RedisServer, own_dockerd: servers.Dockerd, live_dockerd: servers.Dockerd, conclude: Conclude
) -> None:
    """A job runs again only where Docker went down under it, or a stop came to its deadline."""
    dockerds = [own_dockerd, live_dockerd]
    with two_hosts(own_redis, dockerds, **NEVER_LOST, CELERY_DOCKER_SYSTEMD_TIMEOUT="2") as (ledger, *workers):
        hosts = [Victims(own_redis, *host, ledger) for host in zip(workers, dockerds, strict=True)]
        for worker in workers:
            worker.start()
        for _ in range(_FAULTS):
            while len(ledger.entries) - ledger.ended() < _WAITING:
                ledger.submit(2, 0, 4, retries=0)
            ledger.pause(0, 3)
            ledger.random.choice(_KINDS)(ledger.random.choice(hosts))
        ledger.recover()
        conclude(ledger.settle(f"two hosts, {_FAULTS} faults of all kinds", due=(*DOCKER_WENT_DOWN, *STOPPED)))
