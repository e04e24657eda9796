"""The signature of a job: who submitted it, and that nobody has changed since what it runs, under which id, and where.

Owns the signed form (HMAC-SHA256) and its check; it travels as a header of Celery's message. Pure. Invariant: two
different sets of arguments never have the same bytes, so never the same digest.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery_docker import errors
from celery_docker.core import canvas, kinds
from celery_docker.core.access import Identity
from celery_docker.core.signingkeys import Keys, key_id
from celery_docker.core.timelimits import NO_LIMITS, Limits

HEADER = "celery-docker-signature"
# A job may wait for weeks, and for as long as the longest time that it can ask for; so nothing older is believed. What
# ends the belief in old messages earlier is to drop the key.
LONGEST_AGE_S = 31_536_000
# A signer's clock may be ahead by this; more would let a signature outlive its age.
MOST_AHEAD_S = 86_400
_VERSION = 1
_LATEST_S = 253_402_300_799
_MOST_GROUPS = 65_536
_MAC_CHARS = 64


@dataclass(frozen=True)
class Signature:
    """The fields of a signature; `digest` is that of the job's arguments, `mac` that of all the other fields.

    `at_s` is the time by the signer's clock, `not_after_s` the time by which the job has to start, in seconds since the
    epoch; None: it may start at any time.
    """

    key_id: str
    identity: Identity
    job_id: str
    queue: str
    digest: str
    at_s: int
    not_after_s: int | None
    mac: str

    def header(self) -> dict[str, Any]:
        """Return the signature as a message bears it."""
        return {**_fields(self), "mac": self.mac}


def digest(args: Sequence[Any], kwargs: Mapping[str, Any], follows: Mapping[str, Any], limits: Limits) -> str:
    """Return the digest of all that decides what a job runs: arguments, what follows it, and Celery's time limits."""
    limited = [limits.hard_s, limits.soft_s]
    return hashlib.sha256(canonical([list(args), dict(kwargs), dict(follows), limited])).hexdigest()


def sign(
    key: bytes,
    identity: Identity,
    job_id: str,
    queue: str,
    kwargs: Mapping[str, Any],
    now_s: float,
    not_after_s: int | None = None,
) -> Signature:
    """Return the signature of a new job with these keyword arguments, and with nothing that follows it."""
    sum_ = digest((), kwargs, canvas.EMPTY, NO_LIMITS)
    unsigned = Signature(key_id(key), identity, job_id, queue, sum_, int(now_s), not_after_s, "")
    return Signature(**{**vars(unsigned), "mac": _mac(key, unsigned)})


def verify(keys: Keys, signature: Signature, *, job_id: str, queue: str, digest: str, now_s: float) -> Identity:
    """Return who has signed the job with this id, queue and digest of its arguments.

    Raises `SignatureError` for a job that nobody may run, in one line. Raises `HostError` where only a clock is wrong:
    the job is sound, and may run later, or elsewhere.
    """
    key = keys.find(signature.key_id)
    if key is None:
        raise errors.SignatureError(
            f"signature: it is made with key {signature.key_id}, which this host does not have; submit the job "
            "again, and compare the keys of all hosts with: celery-docker key"
        )
    if not _are_equal(_mac(key, signature), signature.mac):
        raise errors.SignatureError(
            "signature: it is false: somebody else made it, or changed it; submit the job again"
        )
    if signature.job_id != job_id:
        raise errors.SignatureError(f"signature: it is that of job {signature.job_id}; submit the job again")
    if signature.queue != queue:
        raise errors.SignatureError(
            f"signature: the job was submitted to queue {kinds.shown(signature.queue)} and comes from "
            f"{kinds.shown(queue)}: somebody has moved it; submit it to the queue that is meant"
        )
    if not _are_equal(signature.digest, digest):
        raise errors.SignatureError("signature: the arguments were changed after it was made; submit the job again")
    _check_time(signature.at_s, now_s)
    return signature.identity


def parse(value: Any) -> Signature:
    """Return the signature in a header. Raises `ValueError` whose words go on after the header's name."""
    if not isinstance(value, dict):
        raise ValueError("is not a signature")
    version = value.get("version")
    if version != _VERSION or isinstance(version, bool | float):
        raise ValueError(f"is of another version than {_VERSION}; run the same package on all hosts")
    who = Identity(
        _text(value, "name", 256),
        _whole(value, "uid", kinds.MAX_ID),
        _whole(value, "gid", kinds.MAX_ID),
        _groups(value.get("groups")),
    )
    signature = Signature(
        _text(value, "key", 64),
        who,
        _text(value, "id", 128),
        _text(value, "queue", 1024),
        _text(value, "arguments", 64),
        _whole(value, "at", _LATEST_S),
        None if value.get("not_after") is None else _whole(value, "not_after", _LATEST_S),
        _text(value, "mac", _MAC_CHARS),
    )
    if value.keys() != signature.header().keys():
        raise ValueError("has other fields than a signature has")
    return signature


def canonical(value: Any) -> bytes:
    """Return the bytes of a JSON value: each kind has its letter, and each text and table says how long it is.

    Raises `TypeError` for what JSON cannot say.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: Any, parts: list[bytes]) -> None:
    # bool before int, whose kind it is too; 1 and 1.0 are two values, as they are for whoever reads the arguments.
    if isinstance(value, str):
        parts.append(_text_bytes(value))
    elif value is None or isinstance(value, bool):
        parts.append({None: b"n", True: b"t", False: b"f"}[value])
    elif isinstance(value, int):
        parts.append(b"i%d;" % value)
    elif isinstance(value, float):
        parts.append(b"d%b;" % value.hex().encode())
    elif isinstance(value, list | tuple):
        parts.append(b"l%d:" % len(value))
        for item in value:
            _write(item, parts)
    elif isinstance(value, Mapping):
        parts.append(b"m%d:" % len(value))
        # In the order of their code points, which is that of their UTF-8.
        for name in sorted(map(_name, value)):
            parts.append(_text_bytes(name))
            _write(value[name], parts)
    else:
        raise TypeError(f"{type(value).__name__} is nothing that JSON has")


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"a table in JSON has no {type(name).__name__} for a name")
    return name


def _text_bytes(value: str) -> bytes:
    text = value.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(text), text)


def _fields(signature: Signature) -> dict[str, Any]:
    who = signature.identity
    return {
        "version": _VERSION,
        "key": signature.key_id,
        "id": signature.job_id,
        "name": who.name,
        "uid": who.uid,
        "gid": who.gid,
        "groups": list(who.groups),
        "queue": signature.queue,
        "arguments": signature.digest,
        "at": signature.at_s,
        "not_after": signature.not_after_s,
    }


def _mac(key: bytes, signature: Signature) -> str:
    return hmac.new(key, b"celery-docker job\n" + canonical(_fields(signature)), hashlib.sha256).hexdigest()


def _are_equal(one: str, other: str) -> bool:
    """Compare in a time that tells nothing; as bytes, since text would have to be ASCII."""
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode("utf-8", "surrogatepass"))


def _check_time(at_s: int, now_s: float) -> None:
    at = datetime.fromtimestamp(at_s, UTC).isoformat(" ", "minutes")
    if at_s > now_s + MOST_AHEAD_S:
        raise errors.HostError(
            f"signature: it was made at {at}, more than a day ahead of this host's clock; set the clocks of both hosts"
        )
    if at_s < now_s - LONGEST_AGE_S:
        raise errors.SignatureError(
            f"signature: it was made at {at}, more than {LONGEST_AGE_S // 86_400} days ago by this host's clock; "
            "submit the job again"
        )


def _text(value: Mapping[str, Any], name: str, most: int) -> str:
    text = value.get(name)
    if not isinstance(text, str) or len(text) > most:
        raise ValueError(f"has no {name} that is a text of at most {most} characters")
    return text


def _whole(value: Mapping[str, Any], name: str, most: int) -> int:
    number = value.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number <= most:
        raise ValueError(f"has no {name} that is a number from 0 to {most}")
    return number


def _groups(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > _MOST_GROUPS:
        raise ValueError("has no list of groups")
    return tuple(_whole({"group": number}, "group", kinds.MAX_ID) for number in value)
