"""The live log: the end of each job's output in Redis, a stream of its own, for readers elsewhere.

Invariant: a byte of an attempt's stream is there once at most, however often it is sent; what was dropped shows as a
gap. For a reader that is attached and gives signs of life nothing is dropped. The receipt has the end of the output for
longer than this.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery_docker import errors
from celery_docker.core import output
from celery_docker.core.container import Stream
from celery_docker.core.output import Beginning, Chunk, Piece, Reply
from celery_docker.core.receipt import Receipt
from celery_docker.store import keys, redislink

BOTH = (Stream.STDOUT, Stream.STDERR)
# While a job runs; when it has ended, `store.LOG_KEPT_S` counts.
_KEPT_S = 1_382_400
_MOST_ENTRIES = 8192
# The same while they wait for a reader.
_MOST_UNREAD_ENTRIES = 32_768
# A sign of life is kept for this long. A job is listed as read for a minute after one, and forgotten after an hour.
_SIGN_KEPT_S = 3600
_LISTED_S = 60
# Every worker reads the signs of all of them each second.
_MOST_READERS = 256
# A reader gives one after this time, or after so many bytes: the job may have to wait for it.
_SIGN_S = 1.0
_SIGN_BYTES = output.UNREAD_BYTES // 4
# So many entries are read at once.
AT_ONCE = 32
_WAIT_S = 0.5
# Before the first entry of a stream.
_START = "0-0"
# The first number of a reply to a chunk.
_FULL = 2


def _nothing() -> None: ...


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

    def append(self, chunks: Sequence[Chunk]) -> list[Reply]:
        """Add to the logs of some jobs; it may be sent twice. Raises `StoreAway` or `StoreRefused`."""
        calls = [
            ([keys.job(chunk.job_id), keys.log(chunk.job_id), keys.log_readers(chunk.job_id)], _arguments(chunk))
            for chunk in chunks
        ]
        return [Reply(_pairs(signs), is_full=stored == _FULL) for stored, *signs in self.link.call_many("log", calls)]

    def beginning(self, job_id: str, attempt: int) -> Beginning:
        """Return who reads a job, and what the log has of this attempt. Raises `StoreAway` or `StoreRefused`."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hgetall(keys.log_readers(job_id))
            pipeline.hmget(keys.job(job_id), ("log_attempt", "log_1", "log_2"))
            signs, (newest, *ends) = pipeline.execute()
        is_current = newest is not None and int(newest) == attempt
        return Beginning(
            signs, {stream: int(end or 0) if is_current else 0 for stream, end in zip(BOTH, ends, strict=True)}
        )

    def readers(self) -> dict[str, dict[str, str]]:
        """Return the jobs that are read now, with the signs of life of their readers. Raises as `append` does."""
        args = [keys.LOG, keys.LOG_READERS_SUFFIX, _LISTED_S, _SIGN_KEPT_S]
        return {job_id: _pairs(signs) for job_id, *signs in self.link.call("readers", [keys.READ_JOBS], args)}


class LogSource(Protocol):
    """The calls that a reader makes. Each raises `StoreAway`, `StoreRefused` or `NoSuchJob`."""

    def entries(self, job_id: str, last_id: str, wait_s: float, most: int) -> tuple[str, list[Piece]]:
        """Return the last of up to `most` entries after one, and their pieces; wait a while if there is none."""

    def sign(self, job_id: str, reader: str, sign: str) -> None:
        """Give a reader's sign of life: the last entry that it has taken, and a number."""

    def detach(self, job_id: str, reader: str) -> None:
        """Let the job go on without a reader."""

    def receipt(self, job_id: str) -> Receipt | None:
        """Return the job's receipt, None while it has not ended. Raises `NoSuchJob` too."""


@dataclass(frozen=True)
class RedisLog:
    """The live log where a reader knows Redis. `link` answers in bytes."""

    link: redislink.Link

    def entries(self, job_id: str, last_id: str, wait_s: float, most: int) -> tuple[str, list[Piece]]:
        """Return the next pieces of a job's output, as `LogSource` says."""
        block = round(wait_s * 1000) or None
        with self.link.translated():
            answer = self.link.client.xread({keys.log(job_id): last_id}, count=most, block=block)
        if not answer:
            return last_id, []
        ((_, entries),) = answer
        read = (_piece(values) for _, values in entries)
        return entries[-1][0].decode(), [piece for piece in read if piece is not None]

    def sign(self, job_id: str, reader: str, sign: str) -> None:
        """Give a reader's sign of life. Raises `StoreRefused` where the job has too many readers."""
        touched = [keys.log_readers(job_id), keys.READ_JOBS]
        if not self.link.call("attach", touched, [job_id, reader, sign, _SIGN_KEPT_S, _MOST_READERS]):
            raise errors.StoreRefused(
                f"job {job_id} has {_MOST_READERS} readers of its output already; try again later"
            )

    def detach(self, job_id: str, reader: str) -> None:
        """Let the job go on without a reader."""
        touched = [keys.log_readers(job_id), keys.READ_JOBS, keys.job(job_id), keys.log(job_id)]
        self.link.call("detach", touched, [job_id, reader, output.LIVE_BYTES])

    def receipt(self, job_id: str) -> Receipt | None:
        """Return the job's receipt, None while it has not ended."""
        with self.link.translated(), self.link.client.pipeline(transaction=False) as pipeline:
            pipeline.hmget(keys.job(job_id), ("state", "receipt"))
            ((state, text),) = redislink.answers(pipeline, (None, None))
        if state is None:
            raise errors.NoSuchJob(f"no job has the id {job_id!r}; list the jobs with: celery-docker ps --all")
        return None if text is None else Receipt.from_dict(Receipt.of_text(job_id, text))


@dataclass
class Reader:
    """The reading side, of one job.

    Between `attach` and `detach` the job waits for this reader if need be; whoever takes its output calls `keep_alive`
    as long as it gets on, several times in ten seconds.
    """

    source: LogSource
    job_id: str
    streams: Collection[Stream] = BOTH
    # The output came from the receipt, which does not tell the streams apart.
    is_of_receipt: bool = False
    _has_begun: bool = False
    _last_id: str = _START
    _ends: dict[tuple[int, Stream], int] = field(default_factory=dict)
    _reader: str = ""
    # The last entry that was taken, and when and how many bytes ago the job was told.
    _taken_id: str = _START
    _unsigned_bytes: int = 0
    _signed_s: float = 0.0
    _signs: int = 0

    def attach(self) -> None:
        """Have the job keep all output until it is read here. Raises `StoreAway` or `StoreRefused`."""
        self._reader = self._reader or uuid.uuid4().hex
        self._sign()

    def keep_alive(self) -> None:
        """Give a sign of life if one is due; without Redis, later."""
        is_due = time.monotonic() - self._signed_s >= _SIGN_S or self._unsigned_bytes >= _SIGN_BYTES
        if self._reader and is_due:
            with contextlib.suppress(errors.StoreAway):
                self._sign()

    def detach(self) -> None:
        """Let the job go on without this reader; where Redis forbids to say so, it does after a while."""
        if self._reader:
            with contextlib.suppress(errors.StoreAway, errors.StoreRefused, errors.NoSuchJob):
                self.source.detach(self.job_id, self._reader)
        self._reader = ""

    def wait(self, timeout_s: float) -> None:
        """Return once there is more to read, or after a time. Raises `StoreAway` or `StoreRefused`."""
        self.source.entries(self.job_id, self._last_id, timeout_s, 1)

    def follow(self, *, lines: int | None = None, while_silent: Callable[[], object] = _nothing) -> Iterator[Output]:
        """Yield what the job prints, each byte once, until it has ended; of what there is, the last `lines` only.

        While it prints nothing, `while_silent` is called about twice a second; it may raise to end the wait.

        Raises `NoSuchJob`, `StoreAway` or `StoreRefused`; asked again, it goes on where it was.
        """
        yield from self.so_far(lines=lines)
        has_ended = self._receipt() is not None
        while True:
            pieces = self._read(wait=not has_ended)
            yield from self._outputs(pieces)
            self.keep_alive()
            if pieces:
                continue
            if has_ended:
                return
            while_silent()
            has_ended = self._receipt() is not None

    def so_far(self, *, lines: int | None = None) -> Iterator[Output]:
        """Yield what there is now. Of a job that ended long ago, that is what its receipt has.

        Raises `NoSuchJob`, `StoreAway` or `StoreRefused`.
        """
        receipt = self._receipt()
        before = self._last_id
        if lines is not None and not self._has_begun:
            pieces = output.last_lines(self._all(), lines)
            self._ends |= {(piece.attempt, piece.stream): piece.offset for piece in reversed(pieces)}
            self._has_begun = True
            yield from self._outputs(pieces)
        self._has_begun = True
        while pieces := self._read(wait=False):
            yield from self._outputs(pieces)
        # Output that was read before is not repeated from the receipt.
        if receipt is not None and before == self._last_id == _START:
            pieces = _of_receipt(receipt, self.streams)
            self.is_of_receipt = bool(pieces)
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
        self._taken_id = self._last_id
        while True:
            before = self._last_id
            self._last_id, read = self.source.entries(self.job_id, before, _WAIT_S if wait else 0, AT_ONCE)
            if self._last_id == before:
                return []
            pieces = [piece for piece in read if piece.stream in self.streams]
            self._unsigned_bytes += sum(len(piece.data) for piece in pieces)
            if pieces:
                return pieces

    def _sign(self) -> None:
        self._signs += 1
        self.source.sign(self.job_id, self._reader, f"{self._taken_id} {self._signs}")
        self._signed_s, self._unsigned_bytes = time.monotonic(), 0

    def _receipt(self) -> Receipt | None:
        """Return the job's receipt, None while it has not ended."""
        return self.source.receipt(self.job_id)


def _arguments(chunk: Chunk) -> list[Any]:
    attempt = chunk.pieces[0].attempt
    args: list[Any] = [chunk.host, chunk.fence, attempt, output.LIVE_BYTES, _MOST_ENTRIES, _KEPT_S]
    args += [output.UNREAD_BYTES, _MOST_UNREAD_ENTRIES, ",".join(chunk.gone)]
    for piece in chunk.pieces:
        args += [int(piece.stream), piece.offset, piece.data]
    return args


def _pairs(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


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
