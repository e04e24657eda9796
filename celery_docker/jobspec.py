"""The job as its submitter asked for it: parsed once, at the edge, into a frozen value.

Owns the wire contract of the task `tasks.run_docker`: which arguments it takes, in which order, and what each may be.
Pure: whether a path exists or an image can be pulled is not known here. A new field is one line in `FIELDS`.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from celery_docker import errors

TASK_NAME = "tasks.run_docker"
DEFAULT_QUEUE = "celery"
CONTAINER_INPUT = "/input"
CONTAINER_OUTPUT = "/output"

# The grammar of github.com/distribution/reference, which is what Docker itself parses names with.
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?/)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_DOMAIN}{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_USER = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?(?::[0-9]+)?", re.ASCII)
_MAX_ID = 2**31 - 1
# Docker names and keys are built from it; Celery's own ids are UUIDs.
_JOB_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class JobSpec:
    """What to run, as submitted. `None` means: not asked for.

    `command` is the argument vector. `retries` overrides the worker's setting for container failures;
    `retry_on` limits those retries to the given exit codes. `timeout` bounds each run, in seconds. `stop_signal` is
    what the container gets when it is to end, and `stop_grace` how many seconds it then has before KILL.
    """

    image: str
    command: tuple[str, ...] | None = None
    user: str | None = None
    logoutfile: str | None = None
    logerrfile: str | None = None
    inputpath: str | None = None
    outputpath: str | None = None
    retries: int | None = None
    retry_on: tuple[int, ...] | None = None
    timeout: int | None = None
    stop_signal: str | None = None
    stop_grace: int | None = None

    def to_kwargs(self) -> dict[str, Any]:
        """Return the JSON-ready keyword arguments that parse back to this spec; what is not set is left out."""
        pairs = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: list(v) if isinstance(v, tuple) else v for name, v in pairs if v is not None}


@dataclass(frozen=True)
class _Field:
    name: str
    parse: Callable[[Any], Any]
    positional: bool = False


def parse(args: Sequence[Any], kwargs: Mapping[str, Any]) -> JobSpec:
    """Return the spec that a task's arguments describe.

    Raises `SpecError` with one line that names each bad field, its value and what is allowed.
    """
    if not isinstance(args, list | tuple) or not isinstance(kwargs, Mapping):
        raise errors.SpecError("a job's arguments must be a list and a table of keywords")
    given, problems = _bind(args, kwargs)
    values: dict[str, Any] = {}
    for field in FIELDS:
        value = given.get(field.name)
        if value is None:
            continue
        try:
            values[field.name] = field.parse(value)
        except ValueError as exc:
            problems.append(f"{field.name}: {_shown(value)} {exc}")
    if given.get("image") is None:
        problems.append("image: is missing; name the image to run, like 'busybox'")
    problems += _conflicts(values)
    if problems:
        raise errors.SpecError("; ".join(problems))
    return JobSpec(**values)


def check_job_id(job_id: str) -> str:
    """Return the id; raises `SpecError` where it could not become part of a container's name."""
    if not _JOB_ID.fullmatch(job_id):
        raise errors.SpecError(f"id: {_shown(job_id)} must be letters, digits, '_', '.' or '-', at most 128 of them")
    return job_id


def _bind(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    names = [field.name for field in FIELDS if field.positional]
    problems = []
    if len(args) > len(names):
        problems.append(f"{len(args)} positional arguments are too many; they are {', '.join(names)}")
    given = dict(zip(names, args, strict=False))
    known = {field.name for field in FIELDS}
    for name, value in kwargs.items():
        if name not in known:
            problems.append(f"{_shown(name)} is not an argument; known are {', '.join(f.name for f in FIELDS)}")
        elif name in given:
            problems.append(f"{name}: was given twice, by position and by keyword")
        else:
            given[name] = value
    return given, problems


def _conflicts(values: Mapping[str, Any]) -> list[str]:
    path = values.get("inputpath")
    if path is not None and path == values.get("outputpath"):
        return [f"outputpath: {_shown(path)} is the inputpath too; they must differ: /input is read-only"]
    return []


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError("must not contain a NUL byte")
    if _has_lone_surrogate(value):
        raise ValueError("must be valid Unicode")
    return value


def _has_lone_surrogate(value: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in value)


def _image(value: Any) -> str:
    text = _text(value)
    if len(text) > 512 or not _IMAGE.fullmatch(text):
        raise ValueError("is not an image name; one looks like 'busybox' or 'registry:5000/group/name:tag'")
    return text


def _command(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple):
        return tuple(_words(value)) or None
    try:
        return tuple(shlex.split(_text(value))) or None
    except ValueError as exc:
        if str(exc).startswith("must"):
            raise
        raise ValueError(f"cannot be split into words ({exc}); close the quote or pass a list") from exc


def _words(value: Sequence[Any]) -> list[str]:
    if not all(isinstance(word, str) for word in value):
        raise ValueError("must be a string or a list of strings")
    return [_text(word) for word in value]


def _user(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = _text(value)
    if not _USER.fullmatch(text) or any(p.isdigit() and int(p) > _MAX_ID for p in text.split(":")):
        raise ValueError("must be a user's name, a uid, or uid:gid")
    return text


def _path(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise ValueError("must be an absolute path on the worker's host")
    return text if text == "/" else text.rstrip("/") or "/"


def _number(low: int, high: int) -> Callable[[Any], int]:
    def parse_number(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return parse_number


def _signal(value: Any) -> str:
    name = _text(value).upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise ValueError("must be the name of a signal, like 'SIGINT'")
    return name


def _exit_codes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(_is_exit_code(code) for code in value):
        raise ValueError("must be a list of exit codes from 1 to 255")
    return tuple(value)


def _is_exit_code(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255


FIELDS = (
    _Field("image", _image, positional=True),
    _Field("command", _command, positional=True),
    _Field("user", _user, positional=True),
    _Field("logoutfile", _path, positional=True),
    _Field("logerrfile", _path, positional=True),
    _Field("inputpath", _path, positional=True),
    _Field("outputpath", _path, positional=True),
    _Field("retries", _number(0, 1000)),
    _Field("retry_on", _exit_codes),
    _Field("timeout", _number(1, 31_536_000)),
    _Field("stop_signal", _signal),
    _Field("stop_grace", _number(0, 300)),
)
