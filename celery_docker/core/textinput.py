"""Text that people hand in: the bytes of a file or of the standard input become text, or a complaint. Pure.

The one decoder of job documents, env files, manifests, lists of paths, settings and policies. A line ends at LF, a CR
before it belongs to the end, and no other character ends one. A complaint is a `ValueError`, with words that go on
after the file's name.
"""

from __future__ import annotations

import json
from typing import Any

from celery_docker.core import strictjson

# As much as the message of a job may have.
MAX_BYTES = 2**20
MAX_ROWS_BYTES = 256 * 2**20

_TOO_LONG = "is longer than {} MiB"
_BOM = "\ufeff"
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_UNICODE = "text, as Windows writes 'Unicode'; save it as UTF-8"
_NO_TEXT = {
    b"PK\x03\x04": "is a spreadsheet or another zip archive; export it as CSV in UTF-8",
    b"\xd0\xcf\x11\xe0": "is a document of an old Office; export it as CSV in UTF-8",
    b"\x1f\x8b": "is compressed; unpack it",
}


def text(data: bytes) -> str:
    """Return the text of a file in which no NUL can be meant; a byte order mark is left out."""
    decoded = _decoded(data, MAX_BYTES)
    if "\0" in decoded:
        line = decoded.count("\n", 0, decoded.index("\0")) + 1
        raise ValueError(f"is not text: it has a NUL byte in line {line}")
    if has_old_line_ends(decoded):
        raise ValueError("has lines that end with CR alone, as old Macs wrote them; save it with LF")
    return decoded


def verbatim(data: bytes) -> str:
    """Return the text of a file as it is, with all marks and line ends."""
    if len(data) > MAX_BYTES:
        raise ValueError(_TOO_LONG.format(MAX_BYTES // 2**20))
    try:
        return data.decode()
    except UnicodeDecodeError as exc:
        raise ValueError(
            f"is not UTF-8 text, at byte {exc.start}; a job takes other data from a file that it mounts"
        ) from exc


def rows(data: bytes) -> str:
    """Return the text of a manifest or a list of paths, which may have NULs between the paths."""
    return _decoded(data, MAX_ROWS_BYTES)


def lines(text: str) -> list[str]:
    """Return the lines of a text without their ends."""
    return [line.removesuffix("\r") for line in text.removeprefix(_BOM).split("\n")]


def has_old_line_ends(text: str) -> bool:
    """Return True where CR stands between lines, and LF nowhere."""
    return "\n" not in text and "\r" in text.strip("\r")


def strict_json(text: str) -> Any:
    """Return the value that a JSON text describes, as strictly as one that comes from Redis is read.

    Raises `json.JSONDecodeError` with the place, and `ValueError` for what is JSON and not usable.
    """
    try:
        return strictjson.parse(text.removeprefix(_BOM))
    except strictjson.NotUsable as exc:
        if isinstance(exc.__cause__, json.JSONDecodeError):
            raise exc.__cause__ from None
        raise


def _decoded(data: bytes, most_bytes: int) -> str:
    if len(data) > most_bytes:
        raise ValueError(_TOO_LONG.format(most_bytes // 2**20))
    if data.startswith(_UTF_32):
        raise ValueError(f"is UTF-32 {_UNICODE}")
    if data.startswith(_UTF_16) or _is_wide(data):
        raise ValueError(f"is UTF-16 {_UNICODE}")
    for beginning, complaint in _NO_TEXT.items():
        if data.startswith(beginning):
            raise ValueError(complaint)
    try:
        return data.decode().removeprefix(_BOM)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ValueError(f"is not UTF-8 text, at byte {exc.start} in line {line}; save it as UTF-8") from exc


def _is_wide(data: bytes) -> bool:
    """Return True for lines of UTF-16 without a mark: each second byte is NUL. Names between NULs have no line ends."""
    first, second = data[0::2], data[1::2]
    return len(first) == len(second) and (
        (b"\n" in first and not second.strip(b"\0")) or (b"\n" in second and not first.strip(b"\0"))
    )
