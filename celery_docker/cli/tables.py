"""Aligned tables for a terminal.

Owns widths (wide characters count two, combining marks none) and the colours of states. Pure: the width is an argument.
Nothing from a cell reaches the terminal as a control sequence.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from celery_docker.core.lifecycle import State
from celery_docker.core.wording import harmless

GAP = "  "
ELLIPSIS = "…"

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
    texts = (_cell(*parts, colour=colour) for parts in zip(columns, cells, widths, strict=True))
    return GAP.join(texts).rstrip()


def _cell(column: Column, text: str, width: int, *, colour: bool) -> str:
    cut = truncate(text, width)
    blanks = " " * (width - display_width(cut))
    painted = paint(cut) if colour else cut
    return blanks + painted if column.align is Align.RIGHT else painted + blanks


def paint(text: str) -> str:
    """Return the name of a state in its colour; any other text comes back as it is."""
    colour = _COLOURS.get(text)
    return f"{colour}{text}{_RESET}" if colour else text


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
    length, width_so_far = 0, 0
    for character in text:
        width_so_far += _width(character)
        if width_so_far > width - 1:
            break
        length += 1
    return text[:length] + ELLIPSIS
