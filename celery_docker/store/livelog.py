"""The live log: the end of each job's output in Redis, a stream of its own, for readers elsewhere.

Invariant: a byte of an attempt's stream is there once at most, however often it is sent; what was dropped shows as a
gap. The receipt has the end of the output for longer than this.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.core import output
from celery_docker.core.container import Stream
from celery_docker.core.output import Chunk, Piece
from celery_docker.core.receipt import Receipt
from celery_docker.store import keys, redislink

BOTH = (Stream.STDOUT, Stream.STDERR)
# While a job runs; when it has ended, `store.LOG_KEPT_S` counts.
_KEPT_S = 1_382_400
_MOST_ENTRIES = 8192
_AT_ONCE = 256
_WAIT_MS = 500
# Before the first entry of a stream.
_START = "0-0"


@dataclass(frozen=True)
class Output:
    """A piece of output as it is read; `gap_bytes` of its stream before it are missing."""

    stream: Stream
    attempt: int
    data: bytes
    gap_bytes: int


@dataclass(frozen=True)
class LiveLog:
    """The writing side, of a worker."""

    link: redislink.Link

    def append(self, chunks: Sequence[Chunk]) -> None:
        """Add to the logs of some jobs; it may be sent twice. Raises `StoreAway` or `StoreRefused`."""
        self.link.call_many(
            "log", [([keys.job(chunk.job_id), keys.log(chunk.job_id)], _arguments(chunk)) for chunk in chunks]
        )


@dataclass
class Reader:
    """The reading side, of one job. `link` answers in bytes."""

    link: redislink.Link
    job_id: str
    streams: Collection[Stream] = BOTH
    # The output came from the receipt, which does not tell the streams apart.
    is_of_receipt: bool = False
    _has_begun: bool = False
    _last_id: str = _START
    _ends: dict[tuple[int, Stream], int] = field(default_factory=dict)

    def follow(self, *, lines: int | None = None) -> Iterator[Output]:
        """Yield what the job prints, each byte once, until it has ended; of what there is, the last `lines` only.

        Raises `NoSuchJob`, `StoreAway` or `StoreRefused`; asked again, it goes on where it was.
        """
        yield from self.so_far(lines=lines)
        has_ended = self._receipt() is not None
        while True:
            pieces = self._read(wait=not has_ended)
            yield from self._outputs(pieces)
            if pieces:
                continue
            if has_ended:
                return
            has_ended = self._receipt() is not None

    def so_far(self, *, lines: int | None = None) -> Iterator[Output]:
        """Yield what there is now. Of a job that ended long ago, that is what its receipt has.

        Raises `NoSuchJob`, `StoreAway` or `StoreRefused`.
        """
        receipt = self._receipt()
        pieces = self._all()
        # Output that was read before is not repeated from the receipt.
        if receipt is not None and not pieces and self._last_id == _START:
            pieces = _of_receipt(receipt, self.streams)
            self.is_of_receipt = bool(pieces)
        if lines is not None and not self._has_begun:
            pieces = output.last_lines(pieces, lines)
            self._ends |= {(piece.attempt, piece.stream): piece.offset for piece in reversed(pieces)}
        self._has_begun = True
        yield from self._outputs(pieces)

    def _all(self) -> list[Piece]:
        pieces: list[Piece] = []
        last_id = self._last_id
        try:
            while more := self._read(wait=False):
                pieces += more
        except errors.CeleryDockerError:
            self._last_id = last_id  # what was read has not been yielded
            raise
        return pieces

    def _outputs(self, pieces: Sequence[Piece]) -> Iterator[Output]:
        for piece in pieces:
            end = self._ends.get((piece.attempt, piece.stream), 0)
            self._ends[piece.attempt, piece.stream] = piece.end
            yield Output(piece.stream, piece.attempt, piece.data, piece.offset - end)

    def _read(self, *, wait: bool) -> list[Piece]:
        """Return what comes next of the streams that are wanted; none if there was nothing at all."""
        while True:
            with self.link.translated():
                answer = self.link.client.xread(
                    {keys.log(self.job_id): self._last_id}, count=_AT_ONCE, block=_WAIT_MS if wait else None
                )
            if not answer:
                return []
            ((_, entries),) = answer
            self._last_id = entries[-1][0].decode()
            read = (_piece(values) for _, values in entries)
            pieces = [piece for piece in read if piece is not None and piece.stream in self.streams]
            if pieces:
                return pieces

    def _receipt(self) -> Receipt | None:
        """Return the job's receipt, None while it has not ended."""
        with self.link.translated():
            state, text = self.link.client.hmget(keys.job(self.job_id), ("state", "receipt"))
        if state is None:
            raise errors.NoSuchJob(f"no job has the id {self.job_id!r}; list the jobs with: celery-docker ps --all")
        return None if text is None else Receipt.from_dict(Receipt.of_text(self.job_id, text))


def _arguments(chunk: Chunk) -> list[Any]:
    attempt = chunk.pieces[0].attempt
    args: list[Any] = [chunk.host, chunk.fence, attempt, output.LIVE_BYTES, _MOST_ENTRIES, _KEPT_S]
    for piece in chunk.pieces:
        args += [int(piece.stream), piece.offset, piece.data]
    return args


def _piece(values: Mapping[bytes, bytes]) -> Piece | None:
    """Return a piece of output; None for an entry that no worker of this version has written."""
    try:
        stream, attempt, offset = (int(values[name]) for name in (b"stream", b"attempt", b"offset"))
        return Piece(Stream(stream), attempt, offset, values[b"data"])
    except (KeyError, ValueError):
        return None


def _of_receipt(receipt: Receipt, streams: Collection[Stream]) -> list[Piece]:
    """Return the end of both streams, which a receipt does not tell apart: as the one that is all of it, or stdout."""
    sizes = {Stream.STDOUT: receipt.stdout_bytes or 0, Stream.STDERR: receipt.stderr_bytes or 0}
    stream = Stream.STDOUT if sizes[Stream.STDOUT] else Stream.STDERR
    if not receipt.output or stream not in streams:
        return []
    data = receipt.output.encode()
    missing = sum(sizes.values()) - len(data) if receipt.output_truncated else 0
    return [Piece(stream, len(receipt.attempts), max(0, missing), data)]
