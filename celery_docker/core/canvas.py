"""The work that a message asks Celery to do after its job: callbacks, the rest of a chain, the body of a chord.

Owns what of it is allowed. Pure. Invariant: what passes sends jobs of ours to queues of ours, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from celery_docker.core import jobspec, kinds
from celery_docker.core.strictjson import NotUsable

EMPTY: Mapping[str, Any] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_GROUPS = {"chain": "celery.chain", "group": "celery.group", "chord": "celery.chord"}
_FIELDS = {"task", "args", "kwargs", "options", "subtask_type", "immutable", "chord_size", "app"}

_OptionCheck = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return value is None or (isinstance(value, str) and len(value) <= kinds.MOST_WORD_BYTES)


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_whole(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool))


def _is_flag(value: Any) -> bool:
    return value is None or isinstance(value, bool)


def _is_table(value: Any) -> bool:
    return value is None or isinstance(value, dict)


def _is_names(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(entry, str) for entry in value))


def is_moment(value: Any) -> bool:
    """Return whether a value is a time as Celery writes it, or none."""
    try:
        return value is None or kinds.moment(value) is not None
    except ValueError:
        return False


_OPTIONS: Mapping[str, _OptionCheck] = {
    **dict.fromkeys(("task_id", "group_id", "root_id", "parent_id", "correlation_id", "reply_to", "shadow"), _is_text),
    **dict.fromkeys(("argsrepr", "kwargsrepr", "origin", "compression"), _is_text),
    **dict.fromkeys(("countdown", "time_limit", "soft_time_limit"), _is_number),
    **dict.fromkeys(("priority", "group_index", "replaced_task_nesting", "delivery_mode", "retries"), _is_whole),
    **dict.fromkeys(("ignore_result", "retry", "add_to_parent", "immutable_stamps"), _is_flag),
    **dict.fromkeys(("headers", "stamps"), _is_table),
    "stamped_headers": _is_names,
    "eta": is_moment,
    "expires": lambda value: _is_number(value) or is_moment(value),
    "serializer": lambda value: value in (None, "json"),
}
_QUEUES = ("queue", "routing_key", "exchange")
_SIGNATURES = ("link", "link_error", "chain")


def check(embed: Any, is_own_queue: Callable[[str], bool]) -> dict[str, Any]:
    """Return what a message's body says of what follows its job, which takes no result. Raises `NotUsable`."""
    if not isinstance(embed, dict):
        raise NotUsable("must be a table")
    for name in ("callbacks", "errbacks", "chain"):
        _each(embed.get(name), name, is_own_queue)
    if embed.get("chord") is not None:
        _signature(embed["chord"], "chord", is_own_queue)
    return {name: embed.get(name) for name in EMPTY}


def _each(value: Any, name: str, is_own_queue: Callable[[str], bool]) -> None:
    if value is None:
        return
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list):
        raise NotUsable(f"{name} must be a list of signatures")
    for signature in value:
        _signature(signature, name, is_own_queue)


def _signature(value: Any, name: str, is_own_queue: Callable[[str], bool]) -> None:
    if not isinstance(value, dict) or not value.keys() <= _FIELDS:
        raise NotUsable(f"{name} has what is no signature of Celery's")
    kind, kwargs = value.get("subtask_type"), value.get("kwargs") or {}
    if not isinstance(kind, str | None) or value.get("task") != (_GROUPS.get(kind) if kind else jobspec.TASK_NAME):
        raise NotUsable(f"{name} calls {kinds.shown(value.get('task'))}; only {jobspec.TASK_NAME} may follow a job")
    if not isinstance(value.get("args") or [], list) or not isinstance(kwargs, dict):
        raise NotUsable(f"{name} has arguments that are no list and no table")
    if not _is_flag(value.get("immutable")) or not _is_whole(value.get("chord_size")):
        raise NotUsable(f"{name} has what is no signature of Celery's")
    if kind is None and value.get("immutable") is not True:
        raise NotUsable(f"{name} passes the job's result on, and no job takes one: write .si() for it instead of .s()")
    if kind is not None:
        _group(kind, kwargs, value.get("args") or [], name, is_own_queue)
    _options(value.get("options") or {}, name, is_own_queue)


def _group(kind: str, kwargs: Mapping[str, Any], args: Sequence[Any], name: str, own: Callable[[str], bool]) -> None:
    inside = ("header", "body") if kind == "chord" else ("tasks",)
    if args or not isinstance(kwargs.get(inside[0]), list | dict):
        raise NotUsable(f"{name} has a {kind} without its tasks")
    tasks = kwargs[inside[0]]
    _each(tasks, name, own)
    if kind == "chord":
        _signature(kwargs.get("body"), name, own)
    _options(kwargs.get("options") or {}, name, own)


def _options(options: Any, name: str, is_own_queue: Callable[[str], bool]) -> None:
    if not isinstance(options, dict):
        raise NotUsable(f"{name} has options that are no table")
    stamps = options.get("stamped_headers")
    free = set(stamps) if _is_names(stamps) and stamps else set()
    for option, value in options.items():
        if option in _QUEUES:
            _queue(option, value, name, is_own_queue)
        elif option in _SIGNATURES:
            _each(value, name, is_own_queue)
        elif option == "chord":
            if value is not None:
                _signature(value, name, is_own_queue)
        elif option not in free and not _OPTIONS.get(option, _never)(value):
            raise NotUsable(f"{name} has the option {kinds.shown(option)}, which is not allowed, or with a bad value")


def _queue(option: str, value: Any, name: str, is_own_queue: Callable[[str], bool]) -> None:
    if value is None or (option == "exchange" and value == ""):
        return
    if not isinstance(value, str) or not is_own_queue(value):
        raise NotUsable(f"{name} writes to {kinds.shown(value)}, which no worker of this Redis serves")


def _never(_: Any) -> bool:
    return False
