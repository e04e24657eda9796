"""The headers of a message as it comes out of Redis, whoever wrote it: each checked, and returned as a record keeps it.

Pure. Invariant: nothing is raised but `NotUsable`, whatever a header says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from celery_docker.core import jobfields, jobspec, kinds, signature, wording
from celery_docker.core.strictjson import NotUsable

# The header by which a worker remembers that it has refused a message whose job has an id.
REFUSED = "refused"
# What a record may bear, and a client can ask for; our keys have a colon.
_USABLE = re.compile(r"[ -9;-~]{1,128}", re.ASCII)
MOST_REASON = 500
_MOST_REPR = 1024


def is_usable_id(job_id: object) -> bool:
    """Return whether a client can ask for the result of this id, and a record bear it."""
    return isinstance(job_id, str) and _USABLE.fullmatch(job_id) is not None


def check_task(headers: Mapping[str, Any]) -> None:
    """Raise `NotUsable` where the task is not that of a job."""
    task = headers["task"]
    if task != jobspec.TASK_NAME:
        raise NotUsable(f"task: {kinds.shown(task)} is not known here; the only one is {jobspec.TASK_NAME!r}")


def checked(headers: Mapping[str, Any], *, is_from_client: bool) -> dict[str, Any]:
    """Return the headers that a record keeps; those of a client ask for no retries. Raises `NotUsable`."""
    values = {name: _header(name, headers, check) for name, check in _HEADERS.items()}
    if REFUSED in headers:
        values[REFUSED] = _refused(headers[REFUSED])
    if signature.HEADER in headers:
        values[signature.HEADER] = _header(signature.HEADER, headers, lambda value: signature.parse(value).header())
    values["id"] = _header("id", headers, _usable_id if REFUSED in headers else kinds.parse_job_id)
    if is_from_client and values["retries"]:
        raise NotUsable(
            f"header retries: {values['retries']} is refused; say how often to retry by the job's argument retries"
        )
    return values


def _refused(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise NotUsable("header refused: is of the worker's own")
    return wording.one_line(value, MOST_REASON)


def _header(name: str, headers: Mapping[str, Any], check: Callable[[Any], Any]) -> Any:
    try:
        return check(headers.get(name))
    except ValueError as exc:
        raise NotUsable(f"header {name}: {kinds.shown(headers.get(name))} {exc}") from exc


def _usable_id(value: Any) -> str:
    if not is_usable_id(value):
        raise ValueError("is not an id")
    return str(value)


def _text(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) > _MOST_REPR):
        raise ValueError(f"must be a string of at most {_MOST_REPR} characters")
    return value


def _words(value: Any) -> str:
    if value is not None and not isinstance(value, str):
        raise ValueError("must be a string")
    return (value or "")[:_MOST_REPR]


def _whole(value: Any) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**31):
        raise ValueError("must be a whole number")
    return value


def _flag(value: Any) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _limits(value: Any) -> list[float | None]:
    if value is None:
        return [None, None]
    if not isinstance(value, list) or len(value) != 2 or not all(_is_limit(limit) for limit in value):
        raise ValueError(f"must be two numbers of seconds, up to {jobfields.LONGEST_S:,}")
    hard, soft = value
    if hard and soft and soft > hard:
        raise ValueError("has a soft limit (the second) above the hard one")
    return value


def _is_limit(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= jobfields.LONGEST_S
    )


def _names(value: Any) -> list[str] | None:
    if value is not None and (not isinstance(value, list) or not all(isinstance(entry, str) for entry in value)):
        raise ValueError("must be a list of names")
    return value


def _stamps(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ValueError("must be a table")
    return value or {}


def _time(value: Any) -> str | None:
    kinds.moment(value)
    return None if value is None else str(value)


_HEADERS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("root_id", "parent_id", "group", "shadow"), _text),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "origin"), _words),
    **dict.fromkeys(("group_index", "retries", "replaced_task_nesting"), _whole),
    **dict.fromkeys(("eta", "expires"), _time),
    "timelimit": _limits,
    "ignore_result": _flag,
    "stamped_headers": _names,
    "stamps": _stamps,
}
