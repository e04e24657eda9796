"""Output of a job that has not been sent to its readers yet: a bounded buffer between the job's slot and Redis.

Invariant: adding waits for nothing but a lock that nobody keeps. Where too much has gathered the oldest is dropped, and
shows to readers as a gap in the offsets, unless a reader is waited for: then `is_full` says that the slot has to wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock

from celery_docker.core.container import Frame, Stream
from celery_docker.core.output import LIVE_BYTES, PIECE_BYTES, Gap, Piece

# What a piece costs besides its bytes: programs that change the stream with each word make many.
_PIECE_COST = 64


class Outbox:
    """The last `LIVE_BYTES` that were not taken yet; one thread adds, any takes."""

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._pieces: deque[tuple[Stream, int, bytearray]] = deque()
        self._size = 0
        self._ends = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._sent = {Stream.STDOUT: 0, Stream.STDERR: 0}
        self._lock = Lock()
        # Held by whoever takes, sends and perhaps puts back.
        self.sending = Lock()

    def begin_after(self, sent: Mapping[Stream, int]) -> None:
        """Leave out the beginning of each stream, which an earlier process has sent."""
        self._sent.update(sent)

    def skip(self, gap: Gap) -> None:
        """Take note of output that is missing."""
        with self._lock:
            self._ends[gap.stream] += gap.size

    def add(self, frame: Frame, *, keep_all: bool = False) -> None:
        """Take note of a piece of output; `keep_all`: drop nothing for it."""
        stream, payload = frame.stream, frame.payload
        with self._lock:
            offset = self._ends[stream]
            self._ends[stream] = offset + len(payload)
            if self._sent[stream] > offset:
                payload = payload[self._sent[stream] - offset :]
                offset = self._sent[stream]
                if not payload:
                    return
            if self._pieces and self._pieces[-1][0] is stream and len(self._pieces[-1][2]) < PIECE_BYTES:
                self._pieces[-1][2].extend(payload)
                self._size += len(payload)
            else:
                self._put(len(self._pieces), stream, offset, payload)
            self._bound(keep_all=keep_all)

    @property
    def is_full(self) -> bool:
        """True if there is more than is kept of a job that nobody reads."""
        with self._lock:
            return self._size > LIVE_BYTES

    def take(self) -> list[Piece]:
        """Return what was added since the last time, in order, in pieces of at most `PIECE_BYTES`."""
        with self._lock:
            taken = list(self._pieces)
            self._pieces.clear()
            self._size = 0
        return [piece for stream, offset, data in taken for piece in self._cut(stream, offset, bytes(data))]

    def put_back(self, pieces: Sequence[Piece], *, keep_all: bool = False) -> None:
        """Give back what was taken and could not be sent."""
        with self._lock:
            for piece in reversed(pieces):
                self._put(0, piece.stream, piece.offset, piece.data)
            self._bound(keep_all=keep_all)

    def _put(self, place: int, stream: Stream, offset: int, data: bytes) -> None:
        self._pieces.insert(place, (stream, offset, bytearray(data)))
        self._size += len(data) + _PIECE_COST

    def _bound(self, *, keep_all: bool) -> None:
        # One piece is kept, however long: it is cut when it is taken, and Redis keeps the end of it.
        while not keep_all and self._size > LIVE_BYTES and len(self._pieces) > 1:
            self._size -= len(self._pieces.popleft()[2]) + _PIECE_COST

    def _cut(self, stream: Stream, offset: int, data: bytes) -> Iterator[Piece]:
        for start in range(0, len(data), PIECE_BYTES):
            yield Piece(stream, self._attempt, offset + start, data[start : start + PIECE_BYTES])
