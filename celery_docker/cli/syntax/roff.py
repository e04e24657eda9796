"""Text as man(7) macros. Pure; knows no page."""

from __future__ import annotations

from collections.abc import Sequence

_HEADINGS = (".SH", ".SS")
_PARAGRAPH = ".PP\n"


def page(parts: Sequence[str]) -> str:
    """Return a page of these parts."""
    before = ["", *parts]
    # Behind a heading a paragraph begins by itself.
    kept = [
        part.removeprefix(_PARAGRAPH) if last.startswith(_HEADINGS) else part
        for last, part in zip(before, parts, strict=False)
    ]
    return "\n".join(kept) + "\n"


def title(name: str, section: int, *, date: str, source: str, manual: str) -> str:
    """Return the first line of a page."""
    words = (_escaped(name.upper()), str(section), date, _escaped(source), _escaped(manual))
    return ".TH " + " ".join(f'"{word}"' for word in words)


def section(name: str) -> str:
    """Return the heading of a section."""
    return f".SH {_line(name)}"


def subsection(name: str) -> str:
    """Return the heading of a part of a section."""
    return f".SS {_line(name)}"


def paragraph(text: str) -> str:
    """Return a paragraph; what stands between *asterisks* is bold."""
    return f"{_PARAGRAPH}{_inline(text)}"


def item(tag: str, text: str) -> str:
    """Return an entry of a list: a bold tag, and a paragraph beside it."""
    return f".TP\n\\fB{_escaped(tag)}\\fR\n{_inline(text)}"


def example(lines: Sequence[str]) -> str:
    """Return lines that are shown as they are."""
    return "\n".join([".PP", ".RS 4", ".EX", *(_line(line) for line in lines), ".EE", ".RE"])


def _inline(text: str) -> str:
    parts = text.split("*")
    shown = [f"\\fB{_escaped(part)}\\fR" if number % 2 else _escaped(part) for number, part in enumerate(parts)]
    return _protected("".join(shown))


def _line(text: str) -> str:
    return _protected(_escaped(text))


def _escaped(text: str) -> str:
    # A plain "-" becomes a hyphen that nobody can copy to a shell; quotes and carets change their looks.
    names = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}
    return "".join(names.get(character, character) for character in text)


def _protected(text: str) -> str:
    """Keep a line that begins with a dot from being taken for a macro."""
    return f"\\&{text}" if text.startswith(".") else text
