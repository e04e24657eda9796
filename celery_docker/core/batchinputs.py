"""The inputs of a batch: one `Row` for each path, array number or line of a manifest.

Owns what a source may look like, and what may stand between the braces of a template for each row. Its text is read by
the caller, who also makes relative paths absolute. Pure; a source with mistakes is refused whole, all of them named.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from celery_docker import errors
from celery_docker.core import jobfields, kinds, notoffered, textinput

MAX_ROWS = 1_000_000
INPUT_FIELD = "inputpath"
# A column sets a field of the job only under this prefix; any other column is data.
JOB_PREFIX = "job."

_ARRAY = re.compile(r"([^%]*)(?:%([0-9]{1,9}))?")
_SPAN = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9})(?::([0-9]{1,9}))?)?")
_ARRAY_FORM = "must be numbers and ranges like '1-100', '1,5,9-12' or '0-99:2', with '%8' at the end for 8 at once"
# A hidden file is all name: .profile has no extension.
_EXTENSION = re.compile(r"(?<=[^/])\.[^/.]+$")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|[\r\n])|[^\r\n]+")
_MOST_NAME = 128
_MOST_COLUMNS = 10_000
_BLANKS = " \t\r\n"
# What a spreadsheet of another country writes between its cells.
_OTHER_SEPARATORS = {";": "';'", "\t": "TAB"}


class Source(StrEnum):
    """The kind of list that a row comes from."""

    PATHS = "paths"
    ARRAY = "array"
    MANIFEST = "manifest"


@dataclass(frozen=True, slots=True)
class Row:
    """One input. `index` counts from 1, or is the array number; `line` is None where the source has no lines.

    `fields` has the text for each name that may stand in braces; `overrides` the job's fields that a manifest sets.
    """

    index: int
    source: Source
    fields: Mapping[str, str]
    line: int | None = None
    overrides: Mapping[str, Any] | None = None

    @property
    def place(self) -> str:
        """Where to look for it, as the beginning of an error message."""
        if self.line is not None:
            return f"line {self.line}"
        return f"array number {self.index}" if self.source is Source.ARRAY else f"input {self.index}"


def from_paths(paths: Iterable[str]) -> list[Row]:
    """Return a row for each path, in the order given."""
    return [Row(index, Source.PATHS, _of_path(path, index)) for index, path in enumerate(paths, 1)]


def from_path_list(text: str, absolute: Callable[[str], str] = str) -> list[Row]:
    """Return a row for each line that is not blank; for each piece between NULs if there is one (`find -print0`).

    `absolute` completes a relative path. Raises `BatchError`.
    """
    if "\0" in text:
        return _few(from_paths(absolute(path) for path in text.split("\0") if path))
    if textinput.has_old_line_ends(text):
        raise errors.BatchError(["the lines end with CR alone, as old Macs wrote them; save the list with LF"])
    numbered = ((number, line) for number, line in enumerate(textinput.lines(text), 1) if line.strip(_BLANKS))
    return _few(
        [
            Row(index, Source.PATHS, _of_path(absolute(path), index), number)
            for index, (number, path) in enumerate(numbered, 1)
        ]
    )


def _few(rows: list[Row]) -> list[Row]:
    if len(rows) > MAX_ROWS:
        raise errors.BatchError([f"{len(rows):,} inputs are too many; a batch has at most {MAX_ROWS:,} jobs"])
    return rows


def from_array(text: str) -> tuple[list[Row], int | None]:
    """Return the rows of an array like '1-100:2%8', and how many may run at once; None means: as many as can.

    The form is Slurm's: each number counts once, in ascending order. Raises `BatchError`.
    """
    match = _ARRAY.fullmatch(text)
    spans = [_SPAN.fullmatch(part) for part in match[1].split(",")] if match else [None]
    if match is None or None in spans:
        raise errors.BatchError([f"array: {text!r} {_ARRAY_FORM}"])
    limit = int(match[2]) if match[2] is not None else None
    if limit == 0:
        raise errors.BatchError([f"array: {text!r} allows none at once; the number after '%' must be at least 1"])
    numbers = _numbers([_range(span, text) for span in spans if span], text)
    return [Row(number, Source.ARRAY, {"": str(number), "#": str(number)}) for number in numbers], limit


def _range(span: re.Match[str], text: str) -> range:
    first = int(span[1])
    last = int(span[2] or first)
    step = int(span[3] or 1)
    if last < first:
        raise errors.BatchError([f"array: {span[0]!r} in {text!r} counts down; write {last}-{first}"])
    if step == 0:
        raise errors.BatchError([f"array: {span[0]!r} in {text!r} has step 0; it must be at least 1"])
    return range(first, last + 1, step)


def _numbers(ranges: Sequence[range], text: str) -> list[int]:
    if sum(len(span) for span in ranges) > MAX_ROWS:
        raise errors.BatchError([f"array: {text!r} is too long; a batch has at most {MAX_ROWS:,} jobs"])
    return sorted({number for span in ranges for number in span})


def from_csv(text: str) -> list[Row]:
    """Return a row for each record of a CSV text whose first line names the columns.

    Lines that are blank or hold nothing but commas, as a spreadsheet adds them, are left out. Raises `BatchError` that
    names line and column. Lines count as an editor shows them: a cell may span several.
    """
    records = _records(text)
    header, columns = next(records, (1, []))
    columns = [name.strip() for name in columns]
    problems = _header_problems(header, columns)
    if problems:
        raise errors.BatchError(problems)
    rows = []
    for index, (line, cells) in enumerate(records, 1):
        if len(cells) == len(columns):
            rows.append(_of_record(index, line, dict(zip(columns, cells, strict=True))))
        else:
            problems.append(_wrong_count(line, cells, columns))
    if problems:
        raise errors.BatchError(problems)
    return _few(rows)


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the number of the line on which it begins."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise errors.BatchError([f"line {line}: has a NUL byte, so the manifest is no text; export it anew as CSV"])
    lines = _Lines(text)
    reader = csv.reader(lines, strict=True)
    line = 1
    try:
        for cells in reader:
            if lines.last.strip(f",{_BLANKS}") or reader.line_num > line:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as exc:
        raise errors.BatchError([f'line {line}: {exc}; a cell with quotes is written "like ""this"""']) from exc


class _Lines:
    """The lines of a CSV text with their ends; `last` is the one that was read last."""

    def __init__(self, text: str) -> None:
        self._matches = _LINE.finditer(text.removeprefix("\ufeff"))
        self.last = ""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        self.last = next(self._matches)[0]
        return self.last


def _header_problems(line: int, columns: Sequence[str]) -> list[str]:
    if not columns:
        return [f"line {line}: is missing; the first line must name the columns"]
    if columns[0].lower() in ("sep=", "sep=;", "sep=\t"):
        return [f"line {line}: {columns[0]!r} is for a spreadsheet; remove it, and separate the columns by commas"]
    if len(columns) == 1 and (separator := next((c for c in _OTHER_SEPARATORS if c in columns[0]), "")):
        return [
            f"line {line}: has {_OTHER_SEPARATORS[separator]} and no comma; export the table with commas between its"
            " columns"
        ]
    if len(columns) > _MOST_COLUMNS:
        return [f"line {line}: has {len(columns):,} columns; {_MOST_COLUMNS:,} are the most"]
    problems = []
    for position, name in enumerate(columns, 1):
        first = columns.index(name) + 1
        if not name:
            problems.append(f"line {line}, column {position}: has no name; name it or remove it")
        elif first < position:
            problems.append(
                f"line {line}, column {position}: {kinds.shown(name)} is the name of column {first} too; rename one"
            )
        elif problem := _name_problem(name):
            problems.append(f"line {line}, column {position}: {problem}")
    return problems


def _name_problem(column: str) -> str:
    """Return the problem of a column's name, empty where it is good."""
    if len(column) > _MOST_NAME or not column.isprintable():
        return f"{kinds.shown(column)} is no name for a column: it must have at most {_MOST_NAME} printable characters"
    return _prefix_problem(column)


def _prefix_problem(column: str) -> str:
    """Return the problem of a column that asks for a field of the job; empty if there is none."""
    prefix, field = column[: len(JOB_PREFIX)], column[len(JOB_PREFIX) :]
    if prefix.lower() != JOB_PREFIX or (prefix == JOB_PREFIX and field in _JOB_FIELDS):
        return ""
    if field.lower() in _JOB_FIELDS:
        return f"{column!r} must be written {JOB_PREFIX}{field.lower()}"
    reason = notoffered.of_key(field, {name: f"{JOB_PREFIX}{name}" for name in _JOB_FIELDS})
    if reason is not None:
        return f"{column!r} is not a field of a job: {reason}"
    return f"{column!r} is not a field of a job; known are {', '.join(JOB_PREFIX + name for name in _JOB_FIELDS)}"


def _wrong_count(line: int, cells: Sequence[str], columns: Sequence[str]) -> str:
    if len(cells) < len(columns):
        missing = columns[len(cells)]
        return f"line {line}, column {missing}: is missing; the line has {len(cells)} of {len(columns)} cells"
    return (
        f"line {line}, column {len(columns) + 1}: {kinds.shown(cells[len(columns)])} is a cell too many"
        f" (the header names {len(columns)}); put quotes around a cell with a comma"
    )


def _of_record(index: int, line: int, cells: dict[str, str]) -> Row:
    overrides = {name: _cell(name, text) for name, text in _job_columns(cells).items() if text.strip()}
    return Row(index, Source.MANIFEST, _of_columns(cells, overrides, index), line, overrides)


def _job_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the columns with the prefix, by the names of the job's fields."""
    return {name.removeprefix(JOB_PREFIX): value for name, value in values.items() if name.startswith(JOB_PREFIX)}


def _cell(name: str, text: str) -> Any:
    """Return a cell as its job field takes it: the text itself, as JSON (a number, a list), or as a flag's value.

    Text that is none of these is left for `jobspec` to refuse, with its own words.
    """
    field = _JOB_FIELDS[name]
    for read in (str, textinput.strict_json, field.from_text, lambda value: [field.from_text(value)]):
        try:
            field.parse(value := read(text))
        except ValueError:
            continue
        return value
    return text


def from_jsonl(text: str) -> list[Row]:
    """Return a row for each line of JSON text that is not blank; each must be an object. Null means: not there.

    Raises `BatchError` that names every bad line and, where JSON tells it, the column.
    """
    rows: list[Row] = []
    problems = []
    for line, record in enumerate(textinput.lines(text), 1):
        if not record.strip(_BLANKS):
            continue
        try:
            rows.append(_of_object(len(rows) + 1, line, _object(record)))
        except json.JSONDecodeError as exc:
            problems.append(f"line {line}, column {exc.colno}: {exc.msg}; each line must be one JSON object")
        except ValueError as exc:
            problems.append(f"line {line}: {exc}")
    if problems:
        raise errors.BatchError(problems)
    return _few(rows)


def _object(record: str) -> dict[str, Any]:
    value = textinput.strict_json(record)
    if not isinstance(value, dict):
        raise ValueError(f'must be a JSON object like {{"sample": "a"}}, not {record.strip()[:40]!r}')
    if len(value) > _MOST_COLUMNS:
        raise ValueError(f"has {len(value):,} keys; {_MOST_COLUMNS:,} are the most")
    if "" in value:
        raise ValueError("has a key without a name; name it or remove it")
    problems = [problem for name in value if (problem := _name_problem(name))]
    if problems:
        raise ValueError("; ".join(problems[:3]))
    return {name: cell for name, cell in value.items() if cell is not None}


def _of_object(index: int, line: int, values: dict[str, Any]) -> Row:
    overrides = _job_columns(values)
    texts = {name: v if isinstance(v, str) else json.dumps(v, ensure_ascii=False) for name, v in values.items()}
    return Row(index, Source.MANIFEST, _of_columns(texts, overrides, index), line, overrides)


def _of_columns(texts: dict[str, str], overrides: Mapping[str, Any], index: int) -> dict[str, str]:
    path = overrides.get(INPUT_FIELD)
    return texts | (_of_path(path, index) if isinstance(path, str) else {"#": str(index)})


def _of_path(path: str, index: int) -> dict[str, str]:
    """Return GNU parallel's replacements for a path. A folder's closing slash is not part of its name."""
    bare = path.rstrip("/") or path[:1]
    folder, slash, name = bare.rpartition("/")
    return {
        "": path,
        "/": name or bare,
        ".": _EXTENSION.sub("", bare),
        "/.": _EXTENSION.sub("", name or bare),
        "//": folder or slash or ".",
        "#": str(index),
    }


_JOB_FIELDS = {field.name: field for field in jobfields.DOCUMENT}
