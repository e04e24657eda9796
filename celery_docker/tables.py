"""What a terminal shows: aligned tables, and values as people read them.

Owns widths (wide characters count two, combining marks none), colours by state, and how durations, sizes and ids are
written. Pure: the width comes in as an argument. Nothing from a cell reaches the terminal as a control sequence.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from celery_docker import errors
from celery_docker.lifecycle import State

GAP = "  "
ELLIPSIS = "…"
UNKNOWN = "-"

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHORT = 8
_RESET = "\x1b[0m"
_RED, _GREEN, _YELLOW, _BLUE = ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[34m")
_COLOURS: Mapping[str, str] = {
    State.STARTING: _BLUE,
    State.RUNNING: _BLUE,
    State.SUCCEEDED: _GREEN,
    State.FAILED: _RED,
    State.TIMED_OUT: _RED,
    State.EXPIRED: _RED,
    State.CANCELLED: _YELLOW,
    State.REJECTED: _RED,
    State.ERROR: _RED,
    State.LOST: _RED,
}
_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
# Vowels and final consonants of Hangul join the syllable before them, as macOS writes them in file names.
_JOINING_JAMO = range(0x1160, 0x1200)


class Align(StrEnum):
    """On which side of its column a cell stands."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True)
class Column:
    """One column. Only one that `may_shrink` is ever cut, and never below `min_width`."""

    header: str
    align: Align = Align.LEFT
    min_width: int = 1
    may_shrink: bool = False


def render(
    columns: Sequence[Column], rows: Iterable[Sequence[str]], width: int | None, *, colour: bool = False
) -> list[str]:
    """Return the lines of a table, the header first; a `width` of None means that nothing is cut.

    Columns that may not shrink are shown whole, even where the line then becomes longer than `width`.
    """
    headers = [column.header.upper() for column in columns]
    cells = [[harmless(cell) for cell in row] for row in rows]
    widths = [max(map(display_width, column)) for column in zip(headers, *cells, strict=True)]
    if width is not None:
        widths = _shrunk(columns, widths, width)
    header = _line(columns, headers, widths, colour=False)
    return [header, *(_line(columns, row, widths, colour=colour) for row in cells)]


def _shrunk(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Take what is too much from the widest column that may shrink, again and again."""
    widths = [
        min(wide, max(width, column.min_width)) if column.may_shrink else wide
        for wide, column in zip(natural, columns, strict=True)
    ]
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for _ in range(excess):
        room = [i for i, column in enumerate(columns) if column.may_shrink and widths[i] > max(column.min_width, 1)]
        if not room:
            break
        widths[max(room, key=lambda i: widths[i])] -= 1
    return widths


def _line(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], *, colour: bool) -> str:
    shown = (_cell(*one, colour=colour) for one in zip(columns, cells, widths, strict=True))
    return GAP.join(shown).rstrip()


def _cell(column: Column, text: str, width: int, *, colour: bool) -> str:
    cut = truncate(text, width)
    blanks = " " * (width - display_width(cut))
    painted = paint(cut) if colour else cut
    return blanks + painted if column.align is Align.RIGHT else painted + blanks


def paint(text: str) -> str:
    """Return the name of a state in its colour; any other text comes back as it is."""
    colour = _COLOURS.get(text)
    return f"{colour}{text}{_RESET}" if colour else text


def harmless(text: str) -> str:
    """Return the text with everything that a terminal would obey or hide written out, like \\x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def display_width(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me") or ord(character) in _JOINING_JAMO:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def truncate(text: str, width: int) -> str:
    """Return the text cut to `width` columns, with an ellipsis as the last of them where something is missing."""
    if display_width(text) <= width:
        return text
    if width < 1:
        return ""
    kept, taken = 0, 0
    for character in text:
        taken += _width(character)
        if taken > width - 1:
            break
        kept += 1
    return text[:kept] + ELLIPSIS


def duration(seconds: float | None) -> str:
    """Return a length of time in its two largest units, like `1d 2h` or `3m 4s`; below 10 s with a tenth."""
    if seconds is None:
        return UNKNOWN
    tenths = round(max(0.0, seconds), 1)
    if tenths < 10:
        return f"{tenths:g}s"
    whole = round(max(0.0, seconds))
    place = next(i for i, (_, unit_s) in enumerate(_UNITS) if whole >= unit_s)
    unit, unit_s = _UNITS[place]
    count, rest = divmod(whole, unit_s)
    smaller, smaller_s = _UNITS[min(place + 1, len(_UNITS) - 1)]
    return f"{count}{unit} {rest // smaller_s}{smaller}" if rest >= smaller_s else f"{count}{unit}"


def ago(seconds: float | None) -> str:
    """Return how long ago something was, in its largest unit, like `3m ago`."""
    if seconds is None:
        return UNKNOWN
    whole = int(max(0.0, seconds))
    return next((f"{whole // unit_s}{unit} ago" for unit, unit_s in _UNITS if whole >= unit_s), "now")


def size(count: int | None) -> str:
    """Return a number of bytes in powers of 1024, like `1.5 GiB`."""
    if count is None:
        return UNKNOWN
    value = float(count)
    for prefix in _PREFIXES[:-1]:
        # What would be rounded up to 1024 belongs to the next unit.
        if round(value, 1) < 1024:
            return f"{round(value, 1):g} {prefix}"
        value /= 1024
    return f"{value:.1f} {_PREFIXES[-1]}".replace(".0 ", " ")


def short_id(job_id: str) -> str:
    """Return the first characters of a UUID; an id that somebody chose comes back whole."""
    return job_id[:_SHORT] if _UUID.fullmatch(job_id) else job_id


def resolve_prefix(prefix: str, ids: Iterable[str]) -> str:
    """Return the id that is meant; raises `NoSuchJob` or `AmbiguousId`. A whole id is never ambiguous."""
    found = sorted({job_id for job_id in ids if job_id.startswith(prefix)}) if prefix else []
    if prefix in found:
        return prefix
    if not found:
        raise errors.NoSuchJob(
            f"no job has an id that begins with {prefix!r}; list the jobs with: celery-docker ps --all"
        )
    if len(found) > 1:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise errors.AmbiguousId(f"{prefix!r} is the beginning of {len(found)} ids ({some}); type more of it")
    return found[0]
