"""Redis restarts, hangs, fills up and goes away under load: nothing lost, nothing twice, nothing left."""

from __future__ import annotations

import pytest

from tests import servers
from tests.faults.ledger import FULL
from tests.faults.single_host import Conclude, ledger_and_worker
from tests.waiting import eventually


@pytest.mark.only_in_full
def test_restart_of_redis(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """With its append-only file, as Debian's administrators are told to have it."""
    times = 3
    with ledger_and_worker(own_redis, dockerd) as (ledger, _):
        ledger.submit(60)
        for _ in range(times):
            ledger.pause(0.5, 2.0)
            own_redis.restart()
            ledger.recover()
        conclude(ledger.settle(f"Redis restart (AOF), {times} times"))


def test_redis_drops_every_connection(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    times = 20 if FULL else 5
    with ledger_and_worker(own_redis, dockerd) as (ledger, _), own_redis.client() as client:
        ledger.submit(80 if FULL else 8)
        for _ in range(times):
            ledger.pause(0.1, 1.5)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        ledger.recover()
        conclude(ledger.settle(f"Redis: CLIENT KILL of everything, {times} times"))


@pytest.mark.only_in_full
def test_redis_hangs(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """SIGSTOP: connections stay, no answer comes; for longer than a call may take."""
    seconds = 30
    with ledger_and_worker(own_redis, dockerd) as (ledger, _):
        ledger.submit(30)
        ledger.under_load()
        own_redis.pause()
        ledger.pause(seconds, seconds)
        own_redis.resume()
        ledger.recover()
        conclude(ledger.settle(f"Redis: SIGSTOP for {seconds} s"))


def test_redis_is_out_of_memory(dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude) -> None:
    """It answers and refuses every write, while jobs end and while others wait in its list."""
    seconds = 30 if FULL else 3
    with ledger_and_worker(own_redis, dockerd) as (ledger, _), own_redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        ledger.submit(40 if FULL else 8)
        ledger.under_load()
        client.config_set("maxmemory", "1")
        ledger.pause(seconds, seconds)
        client.config_set("maxmemory", "0")
        ledger.recover()
        conclude(ledger.settle(f"Redis out of memory for {seconds} s"))


@pytest.mark.only_in_full
def test_redis_is_gone_while_jobs_end(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """Every container that ran ends meanwhile; its end is told when Redis is back."""
    seconds = 120
    with ledger_and_worker(own_redis, dockerd) as (ledger, _):
        ledger.submit(30, 1, 3)
        ledger.under_load()
        own_redis.end()
        ledger.pause(seconds, seconds)
        eventually(lambda: not dockerd.running(), 30, "the end of what ran")
        own_redis.start()
        ledger.recover()
        conclude(ledger.settle(f"Redis gone for {seconds} s while jobs end"))
