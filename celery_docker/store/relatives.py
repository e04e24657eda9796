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
_FULL = "has no memory left for anything new: raise maxmemory in redis.conf, or keep results for less long"
_UNSAVED = "takes nothing new, since it cannot write to its disk: make room there; its log says more"
_ALONE = "takes nothing new without its replicas: start them, or lower min-replicas-to-write there"
_STARTING = "still reads its data after its start: wait a while"
_DATABASE = "has no database of that number: name another in the URL"
_PLAIN = "does not speak TLS: write redis:// instead of rediss:// in the URL, or set tls-port there"
_PROTECTED = (
    "is in protected mode, so that it answers its own host only: set requirepass there, and the password in the URL"
)
_UNTRUSTED = "certificate verify failed: "
_TLS = "speaks TLS: write rediss:// instead of redis:// in the URL"
# The words by which a server shows what it is; the first that a text has decides.
_LASTING = {
    "CROSSSLOT": _CLUSTER,
    "MOVED ": _CLUSTER,
    "cluster mode": _CLUSTER,
    "Keys in request don't hash": _CLUSTER,
    "DB index is out of range": _DATABASE,
    "invalid DB index": _DATABASE,
    "DENIED Redis is running in protected mode": _PROTECTED,
}
# The same where it may be another server's turn, or the same one's, after a while.
_PASSING = {
    "READONLY": _REPLICA,
    "read only replica": _REPLICA,
    "read-only replica": _REPLICA,
    "against a read only": _REPLICA,
    "used memory > 'maxmemory'": _FULL,
    "MISCONF": _UNSAVED,
    "NOREPLICAS": _ALONE,
    "loading the dataset": _STARTING,
}


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


def of_answer(speaks_tls: bool, answer: bytes, where: str) -> errors.CeleryDockerError | None:
    """Return the error for a server that a client could not speak with, from its answer to PING without TLS.

    None if that shows nothing. Only the URL can be wrong where it is a Redis; another server may be in its place for a
    while.
    """
    is_redis = answer.startswith((b"+", b"-"))
    if where.startswith("rediss:") and is_redis:
        return errors.StoreRefused(f"Redis at {where} {_PLAIN}")
    if where.startswith("redis:") and speaks_tls:
        return errors.StoreRefused(f"the server at {where} {_TLS}")
    if not answer or is_redis:
        return None
    first = answer.decode(errors="replace").split("\n")[0].strip()
    kind = "a web server" if first.startswith(("HTTP/", "<")) else f"not Redis but something that says {first!r}"
    return errors.StoreAway(f"at {where} answers {kind}; correct host and port in the URL")


def of_login(where: str, *, has_password: bool) -> errors.StoreRefused:
    """Return the error for a server that lets nobody in without a login, or not with this one."""
    if has_password:
        return errors.StoreRefused(
            f"Redis at {where} refuses the login: no such user, or another password; "
            "check the user and password in the URL"
        )
    return errors.StoreRefused(
        f"Redis at {where} refuses the login: it wants a password, and the URL has none; "
        "write redis://:PASSWORD@HOST, or redis://USER:PASSWORD@HOST"
    )


def of_text(text: str, where: str) -> errors.CeleryDockerError | None:
    """Return what a server shows by its refusal; None if it shows nothing."""
    passing = next((reason for phrase, reason in _PASSING.items() if phrase in text), None)
    if passing is not None:
        return errors.StoreAway(f"Redis at {where} {passing}")
    if _UNTRUSTED in text:
        why = text.partition(_UNTRUSTED)[2].partition(" (_ssl")[0].rstrip(".")
        return errors.StoreAway(
            f"the certificate of Redis at {where} is not trusted: {why}; "
            "correct the host in the URL, or name the CA with ssl_ca_certs"
        )
    reason = next((reason for phrase, reason in _LASTING.items() if phrase in text), None)
    return None if reason is None else errors.StoreRefused(f"Redis at {where} {reason}")
