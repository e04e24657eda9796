"""The body of a message as it comes out of Redis, whoever wrote it: decoded, unpacked, taken apart.

Pure. Invariant: nothing is raised but `NotUsable`, whatever the bytes, and no more than `MOST_BYTES` are unpacked.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from celery_docker.core import kinds, message, wording
from celery_docker.core.strictjson import NotUsable

# The most that a message's body may have, unpacked.
MOST_BYTES = message.MOST_BYTES
_MOST_UNPACKING_BYTES = 64 * 2**20


def arguments(value: Any) -> tuple[list[Any], dict[str, Any], Any]:
    """Return arguments, keywords and what is to follow, of a body of protocol 2. Raises `NotUsable`."""
    if not isinstance(value, list) or len(value) != 3:
        raise NotUsable("its body is not [args, kwargs, what follows], as Celery's protocol 2 has it")
    args, kwargs, embed = value
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise NotUsable("its arguments are not a list and a table of keywords")
    return args, kwargs, embed


def unpacked(envelope: Mapping[str, Any], headers: Mapping[str, Any]) -> bytes:
    """Return the bytes of a message's body, at most `MOST_BYTES`. Raises `NotUsable`."""
    body, properties = envelope.get("body"), envelope.get("properties")
    coding = properties.get("body_encoding") if isinstance(properties, dict) else None
    if not isinstance(body, str):
        raise NotUsable("it has no body")
    if envelope.get("content-encoding", "utf-8") not in ("utf-8", "UTF-8", "us-ascii", None):
        raise NotUsable(f"content-encoding: {kinds.shown(envelope['content-encoding'])} is refused; send UTF-8")
    if coding not in (None, "base64"):
        raise NotUsable(f"body_encoding: {kinds.shown(coding)} is refused; only 'base64' is read")
    try:
        data = body.encode() if coding is None else base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise NotUsable("its body is not base64") from exc
    data = _decompressed(data, headers.get("compression"))
    if len(data) > MOST_BYTES:
        raise NotUsable(f"its arguments have more than {wording.size(MOST_BYTES)}, which is the most; pass a file")
    return data


def _decompressed(data: bytes, compression: Any) -> bytes:
    """Return at most one byte more than is allowed, so that a small message never becomes a large one."""
    if compression is None:
        return data
    unpack = _COMPRESSIONS.get(compression) if isinstance(compression, str) else None
    if unpack is None:
        names = ", ".join(_COMPRESSIONS)
        raise NotUsable(f"compression: {kinds.shown(compression)} is not known; known are {names}")
    try:
        return unpack(data)
    except (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, MemoryError) as exc:
        raise NotUsable(f"its body cannot be unpacked as {compression}") from exc


_COMPRESSIONS: Mapping[str, Callable[[bytes], bytes]] = {
    # kombu calls it gzip; it is zlib.
    "application/x-gzip": lambda data: zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data, MOST_BYTES + 1),
    "application/x-bz2": lambda data: bz2.BZ2Decompressor().decompress(data, MOST_BYTES + 1),
    "application/x-lzma": lambda data: lzma.LZMADecompressor(memlimit=_MOST_UNPACKING_BYTES).decompress(
        data, MOST_BYTES + 1
    ),
}
