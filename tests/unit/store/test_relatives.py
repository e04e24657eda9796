"""Servers that are no Redis of our kind, by their own words."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker import errors
from celery_docker.store import relatives

CLUSTER = "Redis at db belongs to a Redis Cluster, which is not supported: name a Redis that works alone"
REPLICA = "Redis at db is a read-only replica: name its primary in the URL, or promote it"
FULL = "Redis at db has no memory left for anything new: raise maxmemory in redis.conf, or keep results for less long"
UNSAVED = "Redis at db takes nothing new, since it cannot write to its disk: make room there; its log says more"
DATABASE = "Redis at db has no database of that number: name another in the URL"


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, None),
        ({"redis_mode": "standalone", "role": "master"}, None),
        # Valkey says its mode under both names.
        ({"redis_mode": "standalone", "server_mode": "standalone", "server_name": "valkey"}, None),
        ({"server_mode": "cluster"}, CLUSTER),
        ({"redis_mode": "cluster"}, CLUSTER),
        ({"redis_mode": "sentinel"}, "Redis at db is a Sentinel, which is not supported: name the Redis itself"),
        ({"role": "slave", "slave_read_only": 1}, REPLICA),
        ({"role": "slave", "slave_read_only": 0}, None),
    ],
)
def test_what_a_server_says_of_itself(info: dict[str, Any], expected: str | None) -> None:
    problem = relatives.of_info(info, "db")
    assert (None if problem is None else str(problem)) == expected


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("You can't write against a read only replica.", errors.StoreAway, REPLICA),
        (
            "READONLY You can't write against a read only replica. script: 1, on @user_script:3.",
            errors.StoreAway,
            REPLICA,
        ),
        # As the library brings it, as a script of Redis 6 says it, and by Redis 7.
        ("command not allowed when used memory > 'maxmemory'.", errors.StoreAway, FULL),
        (
            "Error running script (call to f_1): @user_script:3: @user_script: 3: -OOM command not allowed when used "
            "memory > 'maxmemory'.",
            errors.StoreAway,
            FULL,
        ),
        ("MISCONF Errors writing to the AOF file: No space left on device", errors.StoreAway, UNSAVED),
        (
            "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
            errors.StoreAway,
            UNSAVED,
        ),
        (
            "NOREPLICAS Not enough good replicas to write.",
            errors.StoreAway,
            "Redis at db takes nothing new without its replicas: start them, or lower min-replicas-to-write there",
        ),
        (
            "Redis is loading the dataset in memory",
            errors.StoreAway,
            "Redis at db still reads its data after its start: wait a while",
        ),
        ("CROSSSLOT Keys in request don't hash to the same slot", errors.StoreRefused, CLUSTER),
        ("MOVED 5798 127.0.0.1:7001", errors.StoreRefused, CLUSTER),
        ("SELECT is not allowed in cluster mode", errors.StoreRefused, CLUSTER),
        ("DB index is out of range", errors.StoreRefused, DATABASE),
        ("invalid DB index", errors.StoreRefused, DATABASE),
        (
            "DENIED Redis is running in protected mode because protected mode is enabled and no password is set …",
            errors.StoreRefused,
            "Redis at db is in protected mode, so that it answers its own host only: set requirepass there, "
            "and the password in the URL",
        ),
        (
            "Error 1 connecting to db:6379. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname "
            "mismatch, certificate is not valid for 'db'. (_ssl.c:992)",
            errors.StoreAway,
            "the certificate of Redis at db is not trusted: Hostname mismatch, certificate is not valid for 'db'; "
            "correct the host in the URL, or name the CA with ssl_ca_certs",
        ),
    ],
)
def test_what_a_server_shows_by_a_refusal(text: str, kind: type[Exception], expected: str) -> None:
    """One that may be promoted is waited for; for one that never fits, a restart is no remedy."""
    problem = relatives.of_text(text, "db")
    assert type(problem) is kind
    assert str(problem) == expected


@pytest.mark.parametrize("text", ["", "BUSY Redis is busy running a script", "TRYAGAIN Multiple keys request"])
def test_any_other_refusal_shows_nothing(text: str) -> None:
    assert relatives.of_text(text, "db") is None
