"""Messages and records as chance damages them: bytes flipped, cut and doubled, values exchanged for odd ones."""

from __future__ import annotations

import base64
import copy
import json
from random import Random
from typing import Any

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 5, 2**31, 10**25, 1.5, 1e308, "", "x", "\x00", "a\nb", "\ud800", "\u202e", "all"),
    *([], {}, [[]], [None], {"": ""}, ["image"], {"task": []}, [1] * 50, "9" * 30, "x" * 300),
)


def message(random: Random, envelope: dict[str, Any]) -> bytes:
    """Return a damaged copy of a message: most can still be read in part."""
    damaged: Any = json.loads(json.dumps(envelope))
    for _ in range(random.randrange(1, 4)):
        place = random.random()
        if place < 0.4 and isinstance(damaged.get("headers"), dict):
            _exchange(random, damaged["headers"])
        elif place < 0.6 and isinstance(damaged.get("properties"), dict):
            _exchange(random, damaged["properties"])
        elif place < 0.8:
            damaged["body"] = base64.b64encode(_body(random)).decode()
        else:
            _exchange(random, damaged)
    text = json.dumps(damaged).encode()
    return bytes_of(random, text) if random.random() < 0.3 else text


def bytes_of(random: Random, text: bytes) -> bytes:
    """Return a text with some of its bytes flipped, cut out or doubled."""
    damaged = bytearray(text)
    for _ in range(random.randrange(1, 8)):
        first = random.randrange(len(damaged) + 1)
        last = min(len(damaged), first + random.randrange(20))
        action = random.randrange(3)
        if action == 0:
            damaged[first:last] = random.randbytes(last - first)
        elif action == 1:
            del damaged[first:last]
        else:
            damaged[first:first] = damaged[first:last]
    return bytes(damaged)


def record(random: Random, fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return new values for some fields of a record."""
    names = random.sample(sorted(fields), min(len(fields), random.randrange(1, 5)))
    return {name: _field(random, fields[name]) for name in names}


def _field(random: Random, value: bytes) -> bytes:
    if random.random() < 0.5:
        return bytes_of(random, value)
    return json.dumps(random.choice(ODD)).encode()


def _exchange(random: Random, table: dict[str, Any]) -> None:
    name = random.choice(sorted(table) or ["x"])
    if random.random() < 0.2:
        table.pop(name, None)
    else:
        table[name] = copy.deepcopy(random.choice(ODD))  # which may be exchanged in turn


def _body(random: Random) -> bytes:
    if random.random() < 0.3:
        return random.randbytes(random.randrange(200))
    kwargs: dict[str, Any] = {"image": "busybox", "command": "true", "retries": 0}
    _exchange(random, kwargs)
    parts: list[Any] = [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    if random.random() < 0.6:
        parts[random.randrange(3)] = random.choice(ODD)
    if random.random() < 0.1:
        return json.dumps(parts).encode().replace(b"busybox", b"no/such/image:ever")
    return json.dumps(parts).encode()
