"""One template and many rows become many jobs.

Owns the placeholders (GNU parallel's, and the columns of a manifest), what a batch adds to each job's environment, and
the name under which a job is remembered as done. Pure. A value that was put in is never read as a placeholder again.
`Literal` text is none of the template, nor is that of a script: nothing is filled in there.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.core import jobfields, jobspec, jobtexts
from celery_docker.core.batchinputs import INPUT_FIELD, JOB_PREFIX, Row, Source

BATCH_ID = "CELERY_DOCKER_BATCH_ID"
BATCH_INDEX = "CELERY_DOCKER_BATCH_INDEX"
BATCH_SIZE = "CELERY_DOCKER_BATCH_SIZE"

# What a job document says about its submission; the container's part is `jobspec`'s.
OPTION_KEYS = tuple(field.name for field in jobfields.OPTIONS)

# ${name} belongs to the shell, whether there is a column of that name or not.
_BRACES = re.compile(r"(?<!\$)\{([^{}]*)\}")
_HASH_CHARS = 16
# As many columns are named to somebody who has used another.
_MOST_SHOWN = 12
_FIELDS = {line.name: line for line in jobfields.DOCUMENT}


class Literal(str):
    """Text in a template that nobody typed as one: braces in it stay as they are."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Expanded:
    """One job of a batch: `kwargs` as the task takes them, `options` for its submission."""

    row: Row
    kwargs: dict[str, Any]
    options: dict[str, Any]

    @property
    def marker(self) -> str:
        """The name of its done marker. An array's job may tell itself apart by nothing but its number."""
        return marker_of(self.kwargs, self.row.index if self.row.source is Source.ARRAY else None)


def expand(
    template: Mapping[str, Any], rows: Sequence[Row], absolute: Callable[[str], str] | None = None
) -> list[Expanded]:
    """Return a job for each row, its placeholders replaced, checked by `jobspec.parse`.

    `template` is a job document: the task's keyword arguments and the submission's `OPTION_KEYS`. A column of a
    manifest named `job.memory` sets the field `memory`; any other column is data. `absolute` completes relative paths
    of the worker's host once they are filled in. Raises `BatchError` with the problems of all rows.
    """
    prepared = _with_words(template)
    columns = _columns_used(prepared, rows)
    expanded: list[Expanded] = []
    problems: list[str] = []
    for row in rows:
        missing = [name for name in columns if name not in row.fields]
        if missing:
            problems += [f"{row.place}, column {name}: is missing, and the job uses {{{name}}}" for name in missing]
            continue
        try:
            expanded.append(_expand_one(prepared, row, absolute))
        except errors.SpecError as exc:
            problems.append(_located(row, str(exc), prepared))
    if problems:
        raise errors.BatchError(problems)
    return expanded


def literal(value: Any) -> Any:
    """Return a value of a job document in which nothing is to be filled in."""
    if isinstance(value, str):
        return Literal(value)
    if isinstance(value, Mapping):
        return {name: literal(part) for name, part in value.items()}
    return [literal(part) for part in value] if isinstance(value, list | tuple) else value


def unused_field_columns(template: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return the columns that are called like a field of the job, set none, and are not used as data either."""
    if not rows or rows[0].source is not Source.MANIFEST:
        return []
    columns = {name for row in rows for name in row.fields}
    used = {
        *_placeholders(template),
        *(name.removeprefix(JOB_PREFIX) for name in columns if name.startswith(JOB_PREFIX)),
    }
    return [name for name in _FIELDS if name in columns and name not in used]


def with_default_input(template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of a batch over paths: where none says what becomes of the path, it is the job's input.

    Only `{}` says it; the others name what comes out of it, like `/output/{/.}.txt`.
    """
    if template.get(INPUT_FIELD) is None and not any(name == "" for name in _placeholders(template)):
        return {**template, INPUT_FIELD: "{}"}
    return dict(template)


def with_batch_env(kwargs: Mapping[str, Any], batch_id: str, index: int, size: int) -> dict[str, Any]:
    """Return a job's arguments with its place in the batch in its environment; what the job says itself is kept."""
    place = {BATCH_ID: batch_id, BATCH_INDEX: str(index), BATCH_SIZE: str(size)}
    return {**kwargs, "env": {**(kwargs.get("env") or {}), **place}}


def spec_hash(kwargs: Mapping[str, Any]) -> str:
    """Return a short name for what a job does: the same in every batch, another as soon as an argument differs."""
    env = {name: v for name, v in (kwargs.get("env") or {}).items() if name not in (BATCH_ID, BATCH_INDEX, BATCH_SIZE)}
    # Who is told of the end does nothing in the job.
    rest = {name: value for name, value in kwargs.items() if name not in ("env", "notify") and value is not None}
    return _hash({**rest, "env": env})


def _hash(value: Mapping[str, Any]) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:_HASH_CHARS]


def template_id(template: Mapping[str, Any], source: Source) -> str:
    """Return a short name for what a batch was made of: the same for the same command line over other inputs."""
    return _hash(
        {name: value for name, value in template.items() if name not in OPTION_KEYS} | {"source": source.value}
    )


def marker_of(kwargs: Mapping[str, Any], number: int | None = None) -> str:
    """Return the name of the file that says that a job with these arguments has succeeded; `number` of an array."""
    facts = kwargs if number is None else {**kwargs, BATCH_INDEX: number}
    return f".celery-docker-done-{spec_hash(facts)}"


def _with_words(template: Mapping[str, Any]) -> dict[str, Any]:
    """Split a command before anything is put in, so that a path with blanks or quotes stays one word."""
    command = template.get("command")
    if not isinstance(command, str):
        return dict(template)
    try:
        words = shlex.split(command)
        return {**template, "command": literal(words) if isinstance(command, Literal) else words}
    except ValueError as exc:
        problem = f"command: {command!r} cannot be split into words ({exc}); close the quote or pass a list"
        raise errors.BatchError([problem]) from exc


def _columns_used(template: Mapping[str, Any], rows: Sequence[Row]) -> list[str]:
    """Return the columns that a template needs of each row; a word that is the name of none is taken for a typo."""
    if not rows or rows[0].source is not Source.MANIFEST:
        return []
    words = list(dict.fromkeys(name for name in _placeholders(template) if name.isidentifier()))
    columns = {name: None for row in rows for name in row.fields}
    known_columns = ", ".join(f"{{{name}}}" for name in list(columns)[:_MOST_SHOWN])
    unknown = [name for name in words if name not in columns]
    if unknown:
        remedy = "with blanks inside the braces it is left as it is"
        raise errors.BatchError(
            [f"{{{name}}} is not a column; there are {known_columns}; {remedy}" for name in unknown]
        )
    return words


def _expand_one(template: Mapping[str, Any], row: Row, absolute: Callable[[str], str] | None) -> Expanded:
    document = {
        name: value if name in jobtexts.NAMES else _typed(name, value, _filled(value, row.fields))
        for name, value in template.items()
    }
    for name in jobfields.HOST_PATHS:
        if absolute is not None and name in document:
            document[name] = jobfields.completed(name, document[name], absolute)
    document |= row.overrides or {}
    kwargs = {name: value for name, value in document.items() if name not in OPTION_KEYS}
    options = {name: value for name, value in document.items() if name in OPTION_KEYS}
    return Expanded(row, jobspec.parse((), kwargs).to_kwargs(), options)


def _typed(name: str, template: Any, filled: Any) -> Any:
    """Return a filled text as its field takes it: where a number or a list belongs, it is read as a flag's value."""
    field = _FIELDS.get(name)
    if field is None or not isinstance(template, str) or filled == template:
        return filled
    try:
        value = field.from_text(filled)
    except ValueError as exc:
        raise errors.SpecError(f"{name}: {filled!r} {exc}") from exc
    return [value] if field.repeated and not isinstance(value, list) else value


def _filled(value: Any, fields: Mapping[str, str]) -> Any:
    if isinstance(value, Literal):
        return str(value)
    if isinstance(value, str):
        return _BRACES.sub(lambda match: fields.get(match[1], match[0]), value) if "{" in value else value
    if isinstance(value, Mapping):
        return {name: _filled(part, fields) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(part, fields) for part in value]
    return value


def _placeholders(template: Mapping[str, Any]) -> Iterator[str]:
    """Yield what stands between braces where something is filled in."""
    return _names({name: value for name, value in template.items() if name not in jobtexts.NAMES})


def _names(value: Any) -> Iterator[str]:
    """Yield what stands between braces anywhere in a value of a template."""
    if isinstance(value, Literal):
        return
    if isinstance(value, str):
        yield from (match[1] for match in _BRACES.finditer(value))
    elif isinstance(value, Mapping):
        yield from (name for part in value.values() for name in _names(part))
    elif isinstance(value, list | tuple):
        yield from (name for part in value for name in _names(part))


def _located(row: Row, problem: str, template: Mapping[str, Any]) -> str:
    """Return a problem with its place: the line, and the column if its value came from one."""
    name = problem.partition(":")[0]
    if name in (row.overrides or {}):
        return f"{row.place}, column {JOB_PREFIX}{problem}"
    columns = [c for c in _names(template.get(name)) if row.source is Source.MANIFEST and c in row.fields]
    return f"{row.place}, column {columns[0]}: {problem}" if len(columns) == 1 else f"{row.place}: {problem}"
