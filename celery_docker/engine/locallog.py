"""Docker's log driver `local`: the line ends that Docker 20.10 leaves out of a replay.

A part of the engine: owns the rule by which Docker cuts a line into records, and the format of a record. Docker logs a
line in records of exactly 16 KiB, the last one shorter, if need be empty, and stamps all of them with the time of the
first. Docker 20.10 gives back no line end behind a line of several records, and of an empty record only its stamp;
later ones end every line. Must not import docker.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

DRIVER = "local"
API_WITHOUT_LINE_ENDS = "1.41"
RECORD_BYTES = 16 * 1024
_HEADER = struct.Struct(">BxxxL")
# As in "2026-11-26T10:00:00.000000000Z ".
_STAMP_BYTES = 31
_LENGTH = struct.Struct(">L")
_NEWLINE = b"\n"
_SOURCES = {b"stdout": 1, b"stderr": 2}
# The numbers of the fields of a record, and of the one in its field `metadata` that says: the last of its line.
_SOURCE, _METADATA, _LAST = 1, 5, 1
_VARINT, _BYTES = 0, 2
_MOST_RECORDS = 100_000


class Records:
    """Takes a replay with stamps apart, each frame being one record, and puts back the line ends that are missing.

    A record that goes on with a line and ends without a line end is either the last of its line or, where the stream
    ended without one, the rest. Another record behind it tells; behind the last of all only the log itself does, which
    Docker gives to nobody but those who may read its folder. `log` is its path if the container has ended; where it
    cannot be read the line is taken for whole, as most are.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._log = log
        self._unread = bytearray()
        # By stream: the stamp of a line that goes on, and whether a line end is missing if another record follows.
        self._stamps: dict[int, bytes] = {}
        self._open: set[int] = set()

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield stream and bytes of each whole record."""
        self._unread += chunk
        at = 0
        while at + _HEADER.size <= len(self._unread):
            stream, size = _HEADER.unpack_from(self._unread, at)
            end = at + _HEADER.size + size
            if end > len(self._unread):
                break
            yield stream, self._record(stream, bytes(self._unread[at + _HEADER.size : end]))
            at = end
        del self._unread[:at]

    def rest(self) -> Iterator[tuple[int, bytes]]:
        """Yield the line end of each stream that ended without one by Docker's mistake."""
        if self._log is not None:
            yield from ((stream, _NEWLINE) for stream in sorted(self._open) if _is_whole(self._log, stream))

    def _record(self, stream: int, frame: bytes) -> bytes:
        stamp, record = frame[:_STAMP_BYTES], frame[_STAMP_BYTES:]
        missing = _NEWLINE if stream in self._open else b""
        self._open.discard(stream)
        goes_on = self._stamps.pop(stream, None) == stamp
        if not record.endswith(_NEWLINE):
            if len(record) == RECORD_BYTES:
                self._stamps[stream] = stamp
            elif goes_on:
                self._open.add(stream)
        return missing + record


def path_of(docker_folder: str, container_id: str) -> Path:
    """Return where Docker keeps a container's log."""
    return Path(docker_folder, "containers", container_id, "local-logs", "container.log")


def _is_whole(log: Path, stream: int) -> bool:
    """Return whether the last record of a stream is the end of a line; True where that cannot be read."""
    try:
        with log.open("rb") as file:
            end = file.seek(0, 2)
            for _ in range(_MOST_RECORDS):
                file.seek(end - _LENGTH.size)
                (size,) = _LENGTH.unpack(file.read(_LENGTH.size))
                end -= size + 2 * _LENGTH.size
                file.seek(end + _LENGTH.size)
                fields = dict(_fields(file.read(size)))
                if _SOURCES.get(bytes(fields[_SOURCE])) == stream:
                    return bool(dict(_fields(fields[_METADATA])).get(_LAST))
    except (OSError, ValueError, KeyError, IndexError, struct.error, TypeError):
        return True
    return True


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each field of a protocol buffer; of a number only that it is not 0."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, b"\1" if value else b""
        elif kind == _BYTES:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        else:
            raise ValueError(kind)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if byte < 0x80:
            return value, at
