"""The end of a job's output, kept in constant memory for the result. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from celery_docker.container import Frame, Stream

TAIL_BYTES = 64 * 1024
# JSON writes six bytes and more for what is not ASCII; a result must stay small all the same.
JSON_BYTES = 80 * 1024
_LAST_LINE_CHARS = 200


class Tail:
    """The last `TAIL_BYTES` of both streams in the order they came, and how many bytes each stream had."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self.byte_counts = {Stream.STDOUT: 0, Stream.STDERR: 0}

    def add(self, frame: Frame) -> None:
        """Take note of a piece of output."""
        self.byte_counts[frame.stream] += len(frame.payload)
        self._kept += frame.payload
        # Cutting at twice the size copies each byte at most once.
        if len(self._kept) > 2 * TAIL_BYTES:
            del self._kept[:-TAIL_BYTES]

    @property
    def truncated(self) -> bool:
        """True if `text` is not all there was."""
        return self._has_lost or len(self.text()) < len(self._decoded())

    def text(self) -> str:
        """Return what was kept as text; bytes that are not UTF-8 become U+FFFD, a cut character is left out."""
        text = self._decoded()
        while len(json.dumps(text)) > JSON_BYTES:
            text = text[len(text) // 8 + 1 :]
        return text

    @property
    def _has_lost(self) -> bool:
        return sum(self.byte_counts.values()) > TAIL_BYTES

    def _decoded(self) -> str:
        kept = bytes(self._kept[-TAIL_BYTES:])
        return (_without_cut_character(kept) if self._has_lost else kept).decode("utf-8", errors="replace")


def after(frames: Iterable[Frame], byte_counts: Mapping[Stream, int]) -> Iterator[Frame]:
    """Yield what a replay from the beginning has beyond the first bytes of each stream."""
    left = dict(byte_counts)
    for frame in frames:
        passed = min(left[frame.stream], len(frame.payload))
        left[frame.stream] -= passed
        if passed < len(frame.payload):
            yield Frame(frame.stream, frame.payload[passed:])


def last_line(text: str) -> str:
    """Return the last line that is not blank, shortened; empty if there is none."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip()[-_LAST_LINE_CHARS:] if lines else ""


def _without_cut_character(kept: bytes) -> bytes:
    for start in range(min(4, len(kept))):
        if kept[start] & 0xC0 != 0x80:
            return kept[start:]
    return kept
