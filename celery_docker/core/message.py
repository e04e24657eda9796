"""The message of a job as it lies in Redis: Celery's task protocol 2 in kombu's envelope.

Owns the format (docs.celeryq.dev, "Message Protocol", version 2; kombu's virtual transport wraps it). Pure. It is built
here and not by a Celery application so that a submitter needs nothing but Redis, and so that a record and its message
can be written in one step.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from celery_docker import errors
from celery_docker.core import jobspec, jobtexts

_PRIORITY_SEPARATOR = "\x06\x16"
_PRIORITY_STEPS = (0, 3, 6, 9)
# The most that a job's arguments may have, as JSON.
MOST_BYTES = 2**20
# As long as Celery's clients make it.
_MOST_SHOWN = 1024
_NO_CANVAS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def task_message(
    job_id: str,
    kwargs: Mapping[str, Any],
    *,
    queue: str,
    tag: str,
    origin: str,
    priority: int = 0,
    more_headers: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the envelope of a new job. `tag` is unique per delivery, `origin` says who sent it.

    Raises `SpecError` where the job's arguments have more than `MOST_BYTES`.
    """
    text = json.dumps([[], dict(kwargs), _NO_CANVAS])
    if len(text) > MOST_BYTES:
        raise errors.SpecError(
            f"the job's arguments have {len(text):,} bytes; {MOST_BYTES:,} are the most: pass a file as its input"
        )
    words = {**headers(job_id, origin), "argsrepr": "()", "kwargsrepr": _shown(kwargs), **(more_headers or {})}
    return envelope(words, _encoded(text), queue=queue, tag=tag, priority=priority)


def envelope(headers: Mapping[str, Any], body: str, *, queue: str, tag: str, priority: int) -> dict[str, Any]:
    """Return the envelope around a body."""
    return {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": dict(headers),
        "properties": {
            "correlation_id": headers["id"],
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": priority,
            "body_encoding": "base64",
            "delivery_tag": tag,
        },
    }


def _shown(kwargs: Mapping[str, Any]) -> str:
    """Return a job's arguments as Celery's monitors show them: shortened, and without what may be secret."""
    hidden = {**kwargs, **{name: "***" for name in jobtexts.NAMES if kwargs.get(name) is not None}}
    if isinstance(kwargs.get("env"), Mapping):
        hidden["env"] = dict.fromkeys(kwargs["env"], "***")
    text = repr(hidden)
    return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."


def body(args: Sequence[Any], kwargs: Mapping[str, Any], canvas: Mapping[str, Any]) -> str:
    """Return the body of a message: the job's arguments, and what Celery is to do after it."""
    return _encoded(json.dumps([list(args), dict(kwargs), dict(canvas)]))


def headers(job_id: str, origin: str) -> dict[str, Any]:
    """Return the headers of a new job's message."""
    return {
        "lang": "py",
        "task": jobspec.TASK_NAME,
        "id": job_id,
        "root_id": job_id,
        "parent_id": None,
        "group": None,
        "group_index": None,
        "shadow": None,
        "eta": None,
        "expires": None,
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "",
        "kwargsrepr": "",
        "origin": origin,
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def redelivery(envelope: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """Return the envelope for another delivery of the same job."""
    return {**envelope, "properties": {**envelope["properties"], "delivery_tag": tag}}


def timeless(envelope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the envelope without times of its own: from now on the record says when the job may run."""
    return {**envelope, "headers": {**envelope["headers"], "eta": None, "expires": None}}


def arguments(envelope: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the positional and keyword arguments in an envelope; none where they cannot be read."""
    try:
        args, kwargs, _canvas = json.loads(base64.b64decode(envelope["body"]))
    except (KeyError, TypeError, ValueError):
        return (), {}
    return args, kwargs


def canvas(envelope: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what an envelope that was read once asks Celery to do after its job."""
    embed: Mapping[str, Any] = json.loads(base64.b64decode(envelope["body"]))[2]
    return embed


def submission(envelope: Mapping[str, Any]) -> jobspec.Submission:
    """Return the queue and priority of an envelope; the defaults where it does not say them."""
    properties = envelope.get("properties") or {}
    queue = (properties.get("delivery_info") or {}).get("routing_key") or jobspec.DEFAULT_QUEUE
    return jobspec.Submission(queue=queue, priority=_number(properties.get("priority")))


def queue_key(queue: str, priority: object) -> str:
    """Return the Redis list that kombu reads messages of this priority from (0 is first, 9 is last).

    What is no number counts as 0, as it does for kombu.
    """
    number = _number(priority)
    step = max(s for s in _PRIORITY_STEPS if s <= number)
    return f"{queue}{_PRIORITY_SEPARATOR}{step}" if step else queue


def queue_keys(queue: str) -> list[str]:
    """Return the Redis lists of a queue, one for each priority that kombu knows, in the order they are served."""
    return [queue_key(queue, step) for step in _PRIORITY_STEPS]


def queue_name(key: str) -> str:
    """Return the queue that a Redis list belongs to."""
    return key.partition(_PRIORITY_SEPARATOR)[0]


def priority_of(key: str) -> int:
    """Return the priority that a Redis list of a queue serves."""
    return _number(key.partition(_PRIORITY_SEPARATOR)[2])


def job_id(text: str) -> str:
    """Return the id in a message as it lies in a list; empty where somebody has put something else there."""
    try:
        return str(json.loads(text)["headers"]["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _number(priority: object) -> int:
    try:
        return min(max(int(priority), 0), 9)  # type: ignore[call-overload, no-any-return]  # whatever a message says
    except (TypeError, ValueError):
        return 0


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
