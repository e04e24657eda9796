"""Single values of a job: what each may be, how it is stored, its JSON schema, and how a flag's text becomes one.

Pure; knows no field by name. Invariant: a parser takes whatever JSON can say, and takes what it has returned once more.
It raises `ValueError` with words that go on after the value ("must be ..."); a kind that is not `shown` names what it
complains about itself.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import sizes

NETWORKS = ("bridge", "none")
PULLS = ("missing", "always", "never")
DEFAULT_PULL = "missing"

# The grammar of github.com/distribution/reference, which is what Docker itself parses names with.
_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*(?::[0-9]+)?/)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"{_DOMAIN}{_PART}(?:/{_PART})*(?::[\w][\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?", re.ASCII)
_MAX_IMAGE = 512
_USER = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]*\$?(?::[0-9]+)?", re.ASCII)
MAX_ID = 2**31 - 1
# Docker names and keys are built from it; Celery's own ids are UUIDs.
_JOB_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
# A queue is a key in Redis of that name; ours have a colon, and so has no queue.
_QUEUE = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.@-]{0,127}", re.ASCII)
_MAX_NAME = 128
# The kernel starts nothing that has a longer word among its arguments or variables (MAX_ARG_STRLEN, with its NUL).
MOST_WORD_BYTES = 128 * 1024 - 1
_MOST_PATH_BYTES = 4095

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,18})?", re.ASCII)
# The kernel gives no less, and has no more.
_LEAST_CPUS, _MOST_CPUS = 0.01, 8192
_DURATION = re.compile(r"([0-9]{1,18})([smhd]?)", re.ASCII)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class Kind:
    """A kind of value: `parse` checks a JSON value, `from_text` makes one of a flag's text.

    `metavar` stands for that text in a help, `schema` is the rule as JSON Schema. Where it is not `shown`, a complaint
    must not print the value.
    """

    metavar: str
    parse: Callable[[Any], Any]
    schema: Mapping[str, Any]
    from_text: Callable[[str], Any] = str
    shown: bool = True


def shown(value: object) -> str:
    """Return a value as a complaint prints it: in one line, shortened."""
    try:
        text = repr(_beginning(value))
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"this {type(value).__name__}"
    return text if len(text) <= 120 else text[:117] + "..."


def _beginning(value: object) -> object:
    """Return enough of a value to complain about: a text of megabytes is not written out first."""
    return value[:200] if isinstance(value, str | bytes | list | tuple) else value


def parse_job_id(value: Any) -> str:
    """Return a job's id; raises `ValueError` where it could not become part of a container's name."""
    if not isinstance(value, str) or not _JOB_ID.fullmatch(value):
        raise ValueError("must be letters, digits, '_', '.' or '-', at most 128 of them")
    return value


def moment(value: Any) -> float | None:
    """Return a time that Celery has written, in seconds since the epoch; raises `ValueError`. None is none."""
    if value is None:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError("must be a time like '2030-01-31T12:00:00+00:00'") from exc


def number(low: int, high: int) -> Kind:
    """Return the kind of a whole number within bounds."""

    def parse_number(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return value

    return Kind("N", parse_number, {"type": "integer", "minimum": low, "maximum": high}, _integer)


def duration(low: int, high: int) -> Kind:
    """Return the kind of a time in whole seconds; a flag also takes minutes, hours and days (`90s`, `5m`, `2h`)."""
    seconds = number(low, high)
    return Kind("N[s|m|h|d]", seconds.parse, seconds.schema, _seconds)


def choice(*options: str) -> Kind:
    """Return the kind that is one of these words."""

    def parse_choice(value: Any) -> str:
        if value not in options:
            raise ValueError(f"must be {' or '.join(map(repr, options))}")
        return str(value)

    return Kind("|".join(options), parse_choice, {"enum": list(options)})


def path(where: str) -> Kind:
    """Return the kind of an absolute path; `where` says to people in which tree."""

    def parse_path(value: Any) -> str:
        text = parse_text(value)
        if not text.startswith("/"):
            raise ValueError(f"must be an absolute path {where}")
        if len(text.encode()) > _MOST_PATH_BYTES:
            raise ValueError(f"is longer than a path can be, {_MOST_PATH_BYTES:,} bytes")
        return text.rstrip("/") or "/"

    return Kind("PATH", parse_path, {"type": "string", "pattern": "^/"})


def parse_text(value: Any) -> str:
    """Return a text that can be an argument or a variable of a program; raises `ValueError` for any other value."""
    if not isinstance(value, str):
        raise ValueError(f"must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise ValueError("must not contain a NUL byte")
    check_unicode(value)
    check_length(value)
    return value


def check_unicode(text: str) -> None:
    """Raise `ValueError` for a text with half a pair of UTF-16, which has no UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("must be valid Unicode") from exc


def check_length(word: str) -> None:
    """Raise `ValueError` where the kernel would not start a program with this word."""
    if len(word) > MOST_WORD_BYTES or len(word.encode()) > MOST_WORD_BYTES:
        raise ValueError(f"has more than {MOST_WORD_BYTES:,} bytes, with which no program can be started; pass a file")


def _words(value: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(word, str) for word in value):
        raise ValueError("must be a string or a list of strings")
    return tuple(parse_text(word) for word in value)


def _image(value: Any) -> str:
    text = parse_text(value)
    if len(text) > _MAX_IMAGE or not _IMAGE.fullmatch(text):
        raise ValueError("is not an image name; one looks like 'busybox' or 'registry:5000/group/name:tag'")
    return text


def _command(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list | tuple):
        return _words(value) or None
    text = parse_text(value)
    try:
        return tuple(shlex.split(text)) or None
    except ValueError as exc:
        raise ValueError(f"cannot be split into words ({exc}); close the quote or pass a list") from exc


def _entrypoint(value: Any) -> tuple[str, ...]:
    """Return the words before the command; none at all takes the image's own away."""
    if isinstance(value, list | tuple):
        return _words(value)
    word = parse_text(value)
    return (word,) if word else ()


def _user(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    text = parse_text(value)
    if not _USER.fullmatch(text) or any(p.isdigit() and int(p[:11]) > MAX_ID for p in text.split(":")):
        raise ValueError("must be a user's name, a uid, or uid:gid")
    return text


def _name(value: Any) -> str:
    text = parse_text(value)
    if not 1 <= len(text) <= _MAX_NAME or not text.isprintable():
        raise ValueError(f"must be 1 to {_MAX_NAME} printable characters in one line")
    return text


def _queue(value: Any) -> str:
    text = parse_text(value)
    if not _QUEUE.fullmatch(text):
        raise ValueError("must be letters, digits, '_', '.', '@' or '-', at most 128 of them")
    return text


def _cpus(value: Any) -> float:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not _LEAST_CPUS <= value <= _MOST_CPUS:
        raise ValueError(f"must be a number of CPUs from {_LEAST_CPUS} to {_MOST_CPUS}, like 2 or 0.5")
    return float(value)


def _signal(value: Any) -> str:
    name = parse_text(value).upper()
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


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _job_ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list of job ids")
    return tuple(parse_job_id(job_id) for job_id in value)


def _integer(text: str) -> int | str:
    """Return the number; what is none goes on as it is, to be refused with the bounds."""
    return int(text) if _INTEGER.fullmatch(text) else text


def _seconds(text: str) -> int:
    match = _DURATION.fullmatch(text)
    if not match:
        raise ValueError("must be seconds, or a number with s, m, h or d, like '90' or '2h'")
    return int(match[1]) * _SECONDS[match[2]]


def _listed_integers(text: str) -> list[int | str]:
    return [_integer(part.strip()) for part in text.split(",")]


STRINGS = {"type": "array", "items": {"type": "string"}}

TEXT = Kind("TEXT", parse_text, {"type": "string"})
IMAGE = Kind("IMAGE", _image, {"type": "string", "maxLength": _MAX_IMAGE, "pattern": f"^{_IMAGE.pattern}$"})
COMMAND = Kind("ARGS", _command, {"anyOf": [{"type": "string"}, STRINGS]})
ENTRYPOINT = Kind("WORD", _entrypoint, {"anyOf": [{"type": "string"}, STRINGS]})
USER = Kind(
    "NAME|UID[:GID]",
    _user,
    {"type": ["string", "integer"], "pattern": f"^{_USER.pattern}$", "minimum": 0, "maximum": MAX_ID},
)
NAME = Kind("TEXT", _name, {"type": "string", "minLength": 1, "maxLength": _MAX_NAME})
QUEUE = Kind("NAME", _queue, {"type": "string", "pattern": f"^{_QUEUE.pattern}$"})
MEMORY = Kind("N[b|k|m|g]", sizes.parse_memory, sizes.MEMORY_SCHEMA)
CPUS = Kind(
    "N",
    _cpus,
    {"type": ["number", "string"], "minimum": _LEAST_CPUS, "maximum": _MOST_CPUS, "pattern": f"^{_DECIMAL.pattern}$"},
)
SIGNAL = Kind("SIGNAL", _signal, {"type": "string", "pattern": "^[A-Za-z0-9]+$"})
EXIT_CODES = Kind(
    "N,...",
    _exit_codes,
    {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 255}},
    _listed_integers,
)
BOOLEAN = Kind("", _boolean, {"type": "boolean"})
JOB_IDS = Kind("ID", _job_ids, {"type": "array", "items": {"type": "string", "pattern": f"^{_JOB_ID.pattern}$"}})
