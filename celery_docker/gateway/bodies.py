"""The bodies of requests, parsed once into frozen values; every complaint names the place. Pure.

Raises `SpecError` for a body that cannot be used.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.core import jobspec, kinds, wording

MOST_JOBS = 1000
# As many as a job document of 1 MiB may have, and a thousand jobs of the usual kind.
MOST_VALUES = 300_000
_MOST_BATCH = 1_000_000
_MOST_REASON = 300
# An id that a client chooses is a UUID as we make them: nobody else's job has it.
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.ASCII)
# What is stored with a batch for those who look for it later.
FACTS = ("template", "skip_done")
_UUID_SCHEMA = {"type": "string", "format": "uuid"}


@dataclass(frozen=True)
class BatchPart:
    """A batch, or a further part of one: the number of each job, and of all that it is to have."""

    batch_id: str | None
    name: str | None
    limit: int | None
    size: int
    indexes: Sequence[int]
    about: Mapping[str, str]


@dataclass(frozen=True)
class Submission:
    """Job documents to be queued; `ids` are those that the client has chosen, None where it has not."""

    documents: Sequence[Mapping[str, Any]]
    job_ids: Sequence[str | None]
    batch: BatchPart | None
    is_single: bool = False


def submission(body: Any) -> Submission:
    """Return the jobs that a body asks for: a job document, or a table with `jobs`, `ids` and `batch`."""
    table = _table(body, "the body")
    if "jobs" not in table:
        return Submission([table], [None], None, is_single=True)
    _check_names(table, ("jobs", "ids", "batch"), "the body")
    documents = _list(table["jobs"], "jobs", MOST_JOBS)
    if not documents:
        raise errors.SpecError("jobs: is empty; name at least one job document")
    job_ids = _chosen(table, "ids", documents)
    part = None if table.get("batch") is None else _batch(_table(table["batch"], "batch"), documents)
    return Submission(documents, job_ids, part)


def _chosen(table: Mapping[str, Any], name: str, others: Sequence[Any]) -> list[str | None]:
    """Return the ids that a client has chosen for as many jobs, None for each where it has not."""
    if table.get(name) is None:
        return [None] * len(others)
    ids = [uuid4(value, f"{name}[{place}]") for place, value in enumerate(_parallel(table[name], name, others))]
    _check_different(ids, name)
    return [*ids]


def _batch(table: Mapping[str, Any], documents: Sequence[Any]) -> BatchPart:
    _check_names(table, ("id", "name", "limit", "size", "indexes", *FACTS), "batch")
    count = len(documents)
    indexes = list(range(1, count + 1))
    if table.get("indexes") is not None:
        given = _parallel(table["indexes"], "batch.indexes", documents)
        indexes = [_whole(value, f"batch.indexes[{place}]", 0, 2**31 - 1) for place, value in enumerate(given)]
        _check_different(indexes, "batch.indexes")
    name, limit, size = (table.get(key) for key in ("name", "limit", "size"))
    return BatchPart(
        batch_id=None if table.get("id") is None else uuid4(table["id"], "batch.id"),
        name=None if name is None else _parsed(kinds.NAME, name, "batch.name"),
        limit=None if limit is None else _whole(limit, "batch.limit", 1, _MOST_BATCH),
        size=count if size is None else _whole(size, "batch.size", count, _MOST_BATCH),
        indexes=indexes,
        about={key: _parsed(kinds.NAME, table[key], f"batch.{key}") for key in FACTS if key in table},
    )


def job_ids(body: Any) -> list[str]:
    """Return the jobs that a body names in `ids`, up to a thousand."""
    table = _table(body, "the body")
    if "ids" not in table:
        raise errors.SpecError("ids: is missing; name the jobs in a list")
    values = _list(table["ids"], "ids", MOST_JOBS)
    return list(dict.fromkeys(_job_id(value, f"ids[{place}]") for place, value in enumerate(values)))


def retries(body: Any) -> tuple[list[str], list[str | None]]:
    """Return the jobs that a body wants to run again, and the new id of each, None where the client has chosen none."""
    job_ids_ = job_ids(body)
    _check_names(body, ("ids", "new_ids"), "the body")
    return job_ids_, _chosen(body, "new_ids", job_ids_)


def token(body: Any) -> str:
    """Return the token that a body shows. No complaint repeats it."""
    table = _table(body, "the body")
    _check_names(table, ("token",), "the body")
    text = table.get("token")
    if not isinstance(text, str) or not text.strip():
        raise errors.SpecError("token: must be a text; the administrator makes one with: celery-docker token add")
    return text.strip()


def expected(body: Any) -> int:
    """Return the number of jobs that somebody has confirmed."""
    table = _table(body, "the body")
    _check_names(table, ("expected",), "the body")
    if "expected" not in table:
        raise errors.SpecError("expected: is missing; give the number of jobs that are to run again")
    return _whole(table["expected"], "expected", 0, _MOST_BATCH)


def reason(body: Any) -> str:
    """Return the reason that a body gives, empty without one."""
    if body is None:
        return ""
    table = _table(body, "the body")
    _check_names(table, ("reason", "ids"), "the body")
    text = table.get("reason")
    if text is None:
        return ""
    if not isinstance(text, str) or len(text) > _MOST_REASON:
        raise errors.SpecError(f"reason: {kinds.shown(text)} must be a text of at most {_MOST_REASON} characters")
    return text


def sign(body: Any) -> str:
    """Return a reader's sign of life: the last entry that it has taken, and a number."""
    table = _table(body, "the body")
    _check_names(table, ("taken", "number"), "the body")
    taken, number = table.get("taken"), _whole(table.get("number"), "number", 0, 2**31 - 1)
    if not is_entry(taken):
        raise errors.SpecError(f"taken: {kinds.shown(taken)} must be the value of `last` in an answer before, or 0-0")
    return f"{taken} {number}"


def is_entry(text: object) -> bool:
    """Tell whether a text is the name of an entry in a log."""
    return isinstance(text, str) and re.fullmatch(r"[0-9]{1,19}-[0-9]{1,19}", text, re.ASCII) is not None


def uuid4(value: Any, place: str) -> str:
    """Return an id that a client has chosen."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise errors.SpecError(f"{place}: {kinds.shown(value)} must be a random UUID (version 4) in small letters")
    return value


def _job_id(value: Any, place: str) -> str:
    try:
        return kinds.parse_job_id(value)
    except ValueError as exc:
        raise errors.SpecError(f"{place}: {kinds.shown(value)} {exc}") from exc


def _parsed(kind: kinds.Kind, value: Any, place: str) -> str:
    try:
        return str(kind.parse(value))
    except ValueError as exc:
        raise errors.SpecError(f"{place}: {kinds.shown(value)} {exc}") from exc


def _table(value: Any, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise errors.SpecError(f'{place} must be a table in JSON, like {{"image": "busybox"}}')
    return value


def _list(value: Any, place: str, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise errors.SpecError(f"{place}: must be a list")
    if len(value) > most:
        count = f"has a length of {len(value):,}, and a request may have {most:,}"
        raise errors.SpecError(f"{place}: {count}; send the others in another")
    return value


def _parallel(value: Any, place: str, others: Sequence[Any]) -> list[Any]:
    entries = _list(value, place, len(others))
    if len(entries) != len(others):
        raise errors.SpecError(
            f"{place}: has a length of {len(entries):,}; give one for each of {wording.counted(len(others), 'job')}"
        )
    return entries


def _check_different(values: Sequence[str] | Sequence[int], place: str) -> None:
    if len(set(values)) < len(values):
        twice = next(value for value in values if list(values).count(value) > 1)
        raise errors.SpecError(f"{place}: {kinds.shown(twice)} is there twice; give each job another")


def _whole(value: Any, place: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise errors.SpecError(f"{place}: {kinds.shown(value)} must be a whole number from {low} to {high:,}")
    return value


def _check_names(table: Mapping[str, Any], names: Sequence[str], place: str) -> None:
    for name in table:
        if name not in names:
            raise errors.SpecError(f"{place}: {kinds.shown(name)} is not known there; known are {', '.join(names)}")


_JOB = {key: value for key, value in jobspec.json_schema().items() if key != "$schema"}
_INTEGER = {"type": "integer", "minimum": 1}
JOBS = {"type": "array", "items": _JOB, "minItems": 1, "maxItems": MOST_JOBS}
IDS = {"type": "array", "items": {"type": "string"}, "maxItems": MOST_JOBS}
CHOSEN_IDS = {"type": "array", "items": _UUID_SCHEMA, "maxItems": MOST_JOBS}
REASON = {"type": "string", "maxLength": _MOST_REASON}


def table_of(required: Sequence[str], **properties: Any) -> dict[str, Any]:
    """Return the schema of a table that has these names and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


BATCH = table_of(
    (),
    id=_UUID_SCHEMA,
    name={"type": "string"},
    limit=_INTEGER,
    size=_INTEGER,
    indexes={"type": "array", "items": {"type": "integer"}, "maxItems": MOST_JOBS},
    template={"type": "string"},
    skip_done={"type": "string"},
)
SUBMISSION = {"oneOf": [_JOB, table_of(("jobs",), jobs=JOBS, ids=CHOSEN_IDS, batch=BATCH)]}
CANCEL = table_of((), reason=REASON)
CANCEL_MANY = table_of(("ids",), ids=IDS, reason=REASON)
RETRY_MANY = table_of(("ids",), ids=IDS, new_ids=CHOSEN_IDS)
RETRY_FAILED = table_of(("expected",), expected={"type": "integer", "minimum": 0, "maximum": _MOST_BATCH})
LOGIN = table_of(("token",), token={"type": "string"})
SIGN = table_of(("taken", "number"), taken={"type": "string"}, number={"type": "integer", "minimum": 0})
