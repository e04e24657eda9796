"""Servers that are no Redis of our own kind, though they speak its protocol: which they are, in words, and the remedy.

Owns the judgement of whether a server can hold the queue. Pure: `redislink` asks, and hands over the answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_docker import errors

_CLUSTER = "belongs to a Redis Cluster, which is not supported: name a Redis that works alone"
_SENTINEL = "is a Sentinel, which is not supported: name the Redis itself"
_REPLICA = "is a read-only replica: name its primary in the URL, or promote it"
_DATABASE = "has no database of that number: name another in the URL"
_PLAIN = "does not speak TLS: write redis:// instead of rediss:// in the URL, or set tls-port there"
# The words by which a server shows what it is; the first that a text has decides.
_LASTING = {
    "CROSSSLOT": _CLUSTER,
    "MOVED ": _CLUSTER,
    "cluster mode": _CLUSTER,
    "Keys in request don't hash": _CLUSTER,
    "DB index is out of range": _DATABASE,
    "invalid DB index": _DATABASE,
    "WRONG_VERSION_NUMBER": _PLAIN,
    "wrong version number": _PLAIN,
    "record layer failure": _PLAIN,
}
_PASSING = ("READONLY", "read only replica", "read-only replica", "against a read only")


def of_info(info: Mapping[str, Any], where: str) -> errors.CeleryDockerError | None:
    """Return what is wrong with a server, from its answer to INFO; None if it can hold the queue."""
    mode = info.get("redis_mode") or info.get("server_mode")
    if mode == "cluster":
        return errors.StoreRefused(f"Redis at {where} {_CLUSTER}")
    if mode == "sentinel":
        return errors.StoreRefused(f"Redis at {where} {_SENTINEL}")
    if info.get("role") == "slave" and info.get("slave_read_only") in (1, "1", None):
        return errors.StoreAway(f"Redis at {where} {_REPLICA}")
    return None


def without_tls(where: str) -> errors.StoreRefused:
    """Return the error for a server that answers without TLS only."""
    return errors.StoreRefused(f"Redis at {where} {_PLAIN}")


def of_text(text: str, where: str) -> errors.CeleryDockerError | None:
    """Return what a server shows by its refusal; None if it shows nothing."""
    if any(phrase in text for phrase in _PASSING):
        return errors.StoreAway(f"Redis at {where} {_REPLICA}")
    reason = next((reason for phrase, reason in _LASTING.items() if phrase in text), None)
    return None if reason is None else errors.StoreRefused(f"Redis at {where} {reason}")
