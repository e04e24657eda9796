"""The end of a job's output, kept in constant memory for the result; and its pieces for the live log. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from celery_docker.core.container import Frame, Stream

TAIL_BYTES = 64 * 1024
# JSON writes six bytes and more for what is not ASCII; a result must stay small all the same.
JSON_BYTES = 80 * 1024
_LAST_LINE_CHARS = 200
_STDERR_BYTES = 4096
# How much of a running job's output can be watched from elsewhere, and in pieces of which size.
LIVE_BYTES = 256 * 1024
PIECE_BYTES = 16 * 1024
# How much waits in Redis for readers at most; one chunk may go beyond.
UNREAD_BYTES = 2 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an attempt's output; `offset` is that of its first byte in the attempt's stream."""

    stream: Stream
    attempt: int
    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """The offset of what follows."""
        return self.offset + len(self.data)

    def after(self, count: int) -> Piece:
        """Return the piece without its first bytes."""
        return Piece(self.stream, self.attempt, self.offset + count, self.data[count:])


@dataclass(frozen=True)
class Gap:
    """Output that is missing in the log that Docker keeps of a container, before byte `at` of that stream in it."""

    stream: Stream
    at: int
    size: int


@dataclass(frozen=True)
class Break:
    """The end of a Docker process while a container's output was read: when, and how much of it had come."""

    went_at: float
    byte_counts: Mapping[Stream, int]


class Tail:
    """The last `TAIL_BYTES` of both streams in the order they came, and how many bytes each stream had."""

    def __init__(self) -> None:
        self._end = bytearray()
        self._stderr_end = bytearray()
        self.byte_counts = {Stream.STDOUT: 0, Stream.STDERR: 0}

    def add(self, frame: Frame) -> None:
        """Take note of a piece of output."""
        self.byte_counts[frame.stream] += len(frame.payload)
        self._end += frame.payload
        # Cutting at twice the size copies each byte at most once.
        if len(self._end) > 2 * TAIL_BYTES:
            del self._end[:-TAIL_BYTES]
        if frame.stream is Stream.STDERR:
            self._stderr_end += frame.payload[-_STDERR_BYTES:]
            del self._stderr_end[:-_STDERR_BYTES]

    def skip(self, gap: Gap) -> None:
        """Take note of output that is missing."""
        self.byte_counts[gap.stream] += gap.size

    @property
    def last_stderr_line(self) -> str | None:
        """The last line of the standard error, shortened; None if nothing came there.

        It is kept apart because nobody can tell in which order a line on each of two streams was written.
        """
        return last_line(bytes(self._stderr_end).decode("utf-8", errors="replace")) or None

    @property
    def truncated(self) -> bool:
        """True if `text` is not all there was."""
        return self._has_lost or len(self.text()) < len(self._decoded())

    def text(self) -> str:
        """Return the kept output as text; bytes that are not UTF-8 become U+FFFD, a cut character is left out."""
        text = self._decoded()
        while len(json.dumps(text)) > JSON_BYTES:
            text = text[len(text) // 8 + 1 :]
        return text

    @property
    def _has_lost(self) -> bool:
        return sum(self.byte_counts.values()) > TAIL_BYTES

    def _decoded(self) -> str:
        data = bytes(self._end[-TAIL_BYTES:])
        return (_without_cut_character(data) if self._has_lost else data).decode("utf-8", errors="replace")


def placed(frames: Iterable[Frame], gaps: Sequence[Gap]) -> Iterator[Frame | Gap]:
    """Yield a replay from the beginning with its gaps at their places."""
    waiting = sorted(gaps, key=lambda gap: gap.at)
    ends = dict.fromkeys(Stream, 0)
    for frame in frames:
        payload = frame.payload
        for gap in [gap for gap in waiting if gap.stream is frame.stream and gap.at < ends[gap.stream] + len(payload)]:
            before = gap.at - ends[gap.stream]
            if before:
                yield Frame(frame.stream, payload[:before])
            yield gap
            waiting.remove(gap)
            payload, ends[gap.stream] = payload[before:], gap.at
        yield Frame(frame.stream, payload)
        ends[frame.stream] += len(payload)
    yield from (gap for gap in waiting if gap.at <= ends[gap.stream])


def after(items: Iterable[Frame | Gap], byte_counts: Mapping[Stream, int]) -> Iterator[Frame | Gap]:
    """Yield what a replay from the beginning has beyond the first bytes of each stream."""
    rest = dict(byte_counts)
    for item in items:
        size = item.size if isinstance(item, Gap) else len(item.payload)
        passed = min(rest[item.stream], size)
        rest[item.stream] -= passed
        if passed < size:
            if isinstance(item, Gap):
                yield replace(item, size=size - passed)
            else:
                yield Frame(item.stream, item.payload[passed:])


def new_gaps(logged: Mapping[Stream, int], gaps: Sequence[Gap], byte_counts: Mapping[Stream, int]) -> list[Gap]:
    """Return what Docker's log lacks of the first bytes of each stream, once that Docker process has gone.

    `logged` is the size of the log up to then. A Docker that goes forgets the line that it has passed on but not logged
    because it had no end yet.
    """
    missing = {stream: sum(gap.size for gap in gaps if gap.stream is stream) for stream in Stream}
    sizes = {stream: byte_counts[stream] - missing[stream] - logged[stream] for stream in Stream}
    return [Gap(stream, logged[stream], size) for stream, size in sizes.items() if size > 0]


def last_lines(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """Return the last `count` lines of the pieces; the last line may be without its end."""
    last: list[Piece] = []
    remaining = count
    for piece in reversed(pieces):
        # The line break at the very end begins no line.
        end = len(piece.data) - (not last and piece.data.endswith(b"\n"))
        while remaining > 0 and (end := piece.data.rfind(b"\n", 0, end)) >= 0:
            remaining -= 1
        if remaining <= 0:
            last += [piece.after(end + 1)] if count else []
            break
        last.append(piece)
    return [piece for piece in reversed(last) if piece.data]


def last_line(text: str) -> str:
    """Return the last line that is not blank, shortened; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[-_LAST_LINE_CHARS:] if lines else ""


def _without_cut_character(data: bytes) -> bytes:
    for start in range(min(4, len(data))):
        if data[start] & 0xC0 != 0x80:
            return data[start:]
    return data


@dataclass(frozen=True)
class Chunk:
    """The output of a job since the last chunk, sent by the host that owns it.

    `gone` are the readers that are not waited for any more.
    """

    job_id: str
    host: str
    fence: int
    pieces: Sequence[Piece]
    gone: Sequence[str] = ()


@dataclass(frozen=True)
class Reply:
    """The answer to a chunk: the signs of life of the job's readers; `is_full`: nothing was stored, they are behind."""

    signs: Mapping[str, str]
    is_full: bool = False


@dataclass(frozen=True)
class Beginning:
    """The readers of a job before its first output, and how much of each stream an earlier process has sent."""

    signs: Mapping[str, str]
    sent: Mapping[Stream, int]
