"""The last line that a job has printed, for lists: of its standard error once it has ended, of the latest before. Pure.

Invariant: a line is short, and has nothing that a terminal or a page would obey.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker.core import output, wording
from celery_docker.core.container import Stream

_MOST_CHARS = 120
_STDERR, _OUTPUT, _OUTPUT_END = '"last_stderr_line":', '"output":"', '","output_truncated":'
# A character that is cut may have begun so many before.
_LONGEST_ESCAPE = 12


@dataclass(frozen=True)
class LastLine:
    """A line of a stream; None where nobody knows which stream it was."""

    text: str
    stream: Stream | None


def of_receipt(end: str) -> LastLine | None:
    """Return the line in the end of a receipt's text; None where it has none, or is one of another version."""
    _, begins, rest = end.rpartition(_STDERR)
    line = _string(rest.lstrip()) if begins else None
    if line:
        return _line(line, Stream.STDERR)
    before, ends, _ = end.rpartition(_OUTPUT_END)
    # Inside of a text JSON has no quote of its own.
    return _line(_end_of_string(before.rpartition(_OUTPUT)[2]), None) if ends else None


def of_entries(entries: Sequence[tuple[Any, bytes]]) -> LastLine | None:
    """Return the last line of entries of a live log, the latest first, as stream and data."""
    known = [(Stream(stream), data) for stream, data in entries if stream in {*Stream}]
    latest = next((stream for stream, data in known if data.strip()), None)
    if latest is None:
        return None
    data = b"".join(data for stream, data in reversed(known) if stream is latest)
    return _line(data.decode("utf-8", "replace"), latest)


def _line(text: str, stream: Stream | None) -> LastLine | None:
    line = wording.one_line(output.last_line(text), _MOST_CHARS)
    return LastLine(line, stream) if line else None


def _string(text: str) -> str | None:
    """Return the text that JSON begins with; None where that is no text."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def _end_of_string(text: str) -> str:
    """Return the end of a text from inside its quotes in JSON; its beginning may be cut anywhere."""
    for begin in range(min(_LONGEST_ESCAPE, len(text))):
        value = _string(f'"{text[begin:]}"')
        if value is not None:
            return value
    return ""
