"""The images that jobs want, as the removal of images asks for them: on a real Redis, in which jobs move meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.store import keys, redislink
from celery_docker.store.imagestore import ImageStore
from tests import servers

HOST = "node1"
# The places of a job that has a record, and how it comes into one and out of it.
COMMANDS: dict[str, tuple[str, str, str]] = {
    "blocked": ("ZADD", "ZREM", keys.BLOCKED),
    "delayed": ("ZADD", "ZREM", keys.DELAYED),
    "waiting": ("ZADD", "ZREM", keys.WAITING),
    "host": ("SADD", "SREM", keys.host_jobs(HOST)),
}
MOVES = (
    ("blocked", "waiting"),
    ("blocked", "delayed"),
    ("delayed", "waiting"),
    ("waiting", "delayed"),
    ("waiting", "host"),
    ("host", "delayed"),
    ("host", "waiting"),
)
# More than it takes.
MOST_COMMANDS = 30


@pytest.fixture
def client(redis_server: servers.RedisServer) -> Iterator[Any]:
    with redis_server.client(decode_responses=True) as client:
        yield client
        client.flushdb()


def put(client: Any, place: str) -> None:
    command, _, key = COMMANDS[place]
    client.execute_command(command, key, *(("1",) if command == "ZADD" else ()), "j1")


def remove(client: Any, place: str) -> None:
    client.execute_command(*COMMANDS[place][1:], "j1")


@pytest.mark.parametrize(("before", "after"), MOVES)
def test_a_job_that_moves_while_it_is_looked_for_is_found(
    before: str, after: str, client: Any, redis_server: servers.RedisServer, mocker: MockerFixture
) -> None:
    """Whichever command it was before."""
    client.hset(keys.job("j1"), mapping={"state": "queued", "image": "busybox:1"})
    client.zadd(keys.HOSTS, {HOST: 1})
    link = redislink.connect(redis_server.url)
    send: Callable[..., Any] = link.client.execute_command
    for moved_after in range(MOST_COMMANDS):
        remove(client, after)
        put(client, before)
        count = 0

        def sent(*words: Any, **options: Any) -> Any:
            nonlocal count
            answer = send(*words, **options)
            count += 1
            if count == moved_after:  # noqa: B023  # asked in this round only
                put(client, after)
                remove(client, before)
            return answer

        mocker.patch.object(link.client, "execute_command", sent)
        assert ImageStore(link).wanted() == {"busybox:1"}, f"moved after command {moved_after}"
    assert count < MOST_COMMANDS
    link.close()
