"""Values written for people: durations, sizes, ids, and text that may hold anything. Pure."""

from __future__ import annotations

import json
import re

UNKNOWN = "-"


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


_SHORT = 8


_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


_PREFIXES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def harmless(text: str) -> str:
    """Return the text with everything that a terminal would obey or hide written out, like \\x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless_lines(text: str) -> str:
    """Return a text of several lines, each made harmless; a tab stays one."""
    if text.isprintable():
        return text
    return "\n".join("\t".join(map(harmless, line.split("\t"))) for line in text.split("\n"))


def harmless_json(text: str) -> str:
    """Return JSON with everything that a terminal would obey or hide as JSON escapes it, like \\u009b."""
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def one_line(text: str, most: int) -> str:
    """Return a text in one harmless line of at most so many characters."""
    line = harmless(" ".join(text[: most * 4].split()))
    return line if len(line) <= most else line[: most - 3] + "..."


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


def counted(count: int, noun: str) -> str:
    """Return a number of things, like `1 job` or `1,024 running jobs`; the noun's plural has an s."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def short_id(job_id: str) -> str:
    """Return the first characters of a UUID; an id that somebody chose comes back whole."""
    return job_id[:_SHORT] if _UUID.fullmatch(job_id) else job_id
