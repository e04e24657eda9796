"""Messages that wait in a queue, each made three of."""

from __future__ import annotations

import json
import uuid
from random import Random

from tests import servers

KINDS = ("same tag", "own tags", "one of each kind")


def make_three_of_each(server: servers.RedisServer, random: Random, kind: str) -> None:
    """Put two copies of each message around the others; a copy bears its message's delivery tag or one of its own."""
    with server.client(decode_responses=True) as client:
        waiting: list[str] = client.lrange("celery", 0, -1)
        copies = [_copy(text, number, kind) for text in waiting for number in range(2)]
        copies = random.sample(copies, len(copies))
        client.lpush("celery", *copies[::2])
        client.rpush("celery", *copies[1::2])


def _copy(text: str, number: int, kind: str) -> str:
    envelope = json.loads(text)
    if kind == "own tags" or (kind == "one of each kind" and number):
        envelope["properties"]["delivery_tag"] = str(uuid.uuid4())
    return json.dumps(envelope)
