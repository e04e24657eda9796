"""The output of a container as it arrives: Docker's framed byte stream, taken apart.

Owns the frame format of attach and logs (8 bytes: stream, three zeros, length as big-endian uint32). Must not import
docker; whoever opens the connection hands in what it reads. Invariants: memory is constant for output of any size; what
a container has left in Docker's pipes at its end is read within Docker's time for it, whatever keeps the reader.
"""

# The race that `read_ahead` wins:
#   reader     waits before it reads on: for somebody slow who reads the job's output, for Redis, for a disk
#   container  ends; up to 2.5 MB of its output are still in pipes and buffers of Docker
#   Docker     waits two seconds for whoever is attached, then throws the rest away, for its own log too, in silence

from __future__ import annotations

import itertools
import operator
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Self

from celery_docker.core import container
from celery_docker.engine.locallog import Records

PIECE_BYTES = 64 * 1024
_HEADER = struct.Struct(">BxxxL")
# Numbers 0 (stdin, echoed) and 3 (dockerd's own complaint about its log) are no output of a container.
_STREAMS = {int(stream): stream for stream in container.Stream}


class Demultiplexer:
    """Takes the framed stream apart, whatever the size of the chunks it comes in."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = 0
        self._left = 0

    def feed(self, chunk: bytes) -> Iterator[container.Frame]:
        """Yield what a chunk brings, adjacent payloads of one stream as one frame, so that short lines stay cheap."""
        return joined(self._pieces(chunk))

    def _pieces(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at < len(chunk):
            if self._left == 0:
                at = self._read_header(chunk, at)
                continue
            piece = chunk[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

    def _read_header(self, chunk: bytes, at: int) -> int:
        end = at + _HEADER.size - len(self._header)
        self._header += chunk[at:end]
        if len(self._header) == _HEADER.size:
            self._stream, self._left = _HEADER.unpack(self._header)
            self._header = b""
        return min(end, len(chunk))


def joined(pieces: Iterable[tuple[int, bytes]]) -> Iterator[container.Frame]:
    """Yield adjacent pieces of one stream as one frame; what is of neither stream is left out."""
    for number, neighbours in itertools.groupby(pieces, key=operator.itemgetter(0)):
        stream = _STREAMS.get(number)
        if stream is not None:
            yield container.Frame(stream, b"".join(piece for _, piece in neighbours))


class LogStream:
    """One pass over a container's output, frame by frame; a broken stream ends like a normal end.

    `chunks` yields at most `PIECE_BYTES` at a time; `connection` is what it reads from; `release` frees both.
    `records` takes apart what is framed in another way.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        connection: socket.socket,
        release: Callable[[], None],
        records: Records | None = None,
    ) -> None:
        self._chunks = chunks
        self._connection = connection
        self._release = release
        self._records = records
        self._reading = threading.Lock()
        self._closed = False
        # What was read ahead.
        self._kept: deque[bytes] = deque()
        self._is_over = False

    def __iter__(self) -> Iterator[container.Frame]:
        demultiplexer, records = Demultiplexer(), self._records
        while chunk := self._next_chunk():
            yield from demultiplexer.feed(chunk) if records is None else joined(records.feed(chunk))
        if records is not None:
            yield from joined(records.rest())

    def read_ahead(self) -> None:
        """Have the rest kept here until it is asked for: the container has ended. Returns at once, from any thread."""
        self._is_over = True
        # Whoever reads just now sees it as soon as it has read.
        if self._reading.acquire(blocking=False):
            self._reading.release()
            with suppress(RuntimeError):  # no thread is to be had: the rest is read when it is asked for
                threading.Thread(target=self._read_rest, daemon=True, name="rest of output").start()

    def _next_chunk(self) -> bytes:
        with self._reading:
            chunk = self._kept.popleft() if self._kept and not self._closed else self._read()
        if self._is_over:
            self._read_rest()
        return chunk

    def _read_rest(self) -> None:
        with self._reading:
            while chunk := self._read():
                self._kept.append(chunk)

    def _read(self) -> bytes:
        return b"" if self._closed else next(self._chunks, b"")

    def close(self) -> None:
        """End the iteration and free the connection; from any thread, as often as one likes."""
        # The order matters: the shutdown wakes a reader, and only then may the file descriptor go, since its number
        # may be somebody else's connection a moment later.
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._reading:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
