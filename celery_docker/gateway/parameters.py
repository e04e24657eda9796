"""The parameters that several routes take, and what each may be. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from celery_docker.core import kinds
from celery_docker.core.lifecycle import State
from celery_docker.gateway.routing import Parameter

MOST_ROWS = 500
_ROWS = 100
_LONGEST = 128
_MOST_NAMES = 50
_MOST_AGE_S = 10**8


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return parse


def ids(most: int) -> Callable[[str], list[str]]:
    """Return a parser of job ids with commas between."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        if len(words) > most:
            raise ValueError(f"must be at most {most} ids; ask for the others in a request of their own")
        return [kinds.parse_job_id(word) for word in words]

    return parse


def _states(text: str) -> list[State]:
    states = [State(word) for word in text.split(",")]
    if not all(state.is_known for state in states):
        raise ValueError(f"must be some of {', '.join(State)}, with commas between")
    return states


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= MOST_WAIT_S:
        raise ValueError(f"must be seconds from 0 to {MOST_WAIT_S}")
    return value


def _names(text: str) -> list[str]:
    names = text.split(",")
    if not all(name.isidentifier() for name in names) or len(names) > _MOST_NAMES:
        raise ValueError(f"must be up to {_MOST_NAMES} names, with commas between")
    return names


def _yes(text: str) -> bool:
    if text != "1":
        raise ValueError("must be 1; leave it out for all")
    return True


def _env(text: str) -> str:
    if text != "names":
        raise ValueError("must be names; leave it out for the values too")
    return text


def _order(text: str) -> str:
    if text != "number":
        raise ValueError("must be number; leave it out for the highest first")
    return text


def _text(text: str) -> str:
    if not 1 <= len(text) <= _LONGEST or not text.isprintable():
        raise ValueError(f"must be 1 to {_LONGEST} printable characters")
    return text


def _ids_schema(most: int) -> Mapping[str, Any]:
    return {"type": "array", "items": {"type": "string"}, "maxItems": most}


# A request that waits holds a thread.
MOST_WAIT_S = 2
STATE = Parameter("state", "only jobs in one of these states", _states, {"type": "array", "items": {"type": "string"}})
NAME = Parameter("name", "only jobs of this name", _text)
BATCH = Parameter("batch", "only jobs of this batch", kinds.parse_job_id)
ORDER = Parameter("order", "number: the jobs of a batch from the lowest number on", _order, {"const": "number"})
HOST = Parameter("host", "only jobs that this host has or had", _text)
IN_QUEUE = Parameter("queue", "only jobs of this queue", _text)
MINE = Parameter("mine", "1: only one's own jobs, also for who sees all", _yes, {"const": 1})
SINCE = Parameter(
    "since",
    "only jobs that were submitted within so many seconds",
    whole(1, _MOST_AGE_S),
    {"type": "integer", "minimum": 1, "maximum": _MOST_AGE_S},
)
FIELDS = Parameter(
    "fields",
    "only these names in each row",
    _names,
    {"type": "array", "items": {"type": "string"}, "maxItems": _MOST_NAMES},
)
BEFORE = Parameter("before", "go on where the page before ended: the value of its `next`", _text)
LIMIT = Parameter(
    "limit",
    f"at most so many, up to {MOST_ROWS}; default: {_ROWS}",
    whole(1, MOST_ROWS),
    {"type": "integer", "minimum": 1, "maximum": MOST_ROWS, "default": _ROWS},
)
HOSTS_LIMIT = Parameter(
    "limit",
    f"at most so many, up to {MOST_ROWS}; default: all",
    whole(1, MOST_ROWS),
    {"type": "integer", "minimum": 1, "maximum": MOST_ROWS},
)
STATE_IDS = Parameter("ids", "the jobs, with commas between", ids(MOST_ROWS), _ids_schema(MOST_ROWS))
# Rows, lines and receipts may be large, and all of them are in memory.
IDS = Parameter("ids", "the jobs, up to 100, with commas between", ids(100), _ids_schema(100))
ENV = Parameter("env", "names: of the environment only the names of its variables", _env, {"const": "names"})
WORD = Parameter("id", "an id, or the beginning of one", _text)
QUEUE = Parameter("queue", "a queue that is to be among them", kinds.QUEUE.parse)
AFTER = Parameter("after", "go on behind this entry: the value of `last` in the answer before", _text)
WAIT = Parameter("wait", f"wait so many seconds for output, up to {MOST_WAIT_S}", _seconds, {"type": "number"})
ENTRIES = Parameter("entries", "at most so many entries of the log", whole(1, 32), {"type": "integer"})


def limit(query: Mapping[str, Any]) -> int:
    """Return how many rows a page is to have."""
    return int(query.get(LIMIT.name, _ROWS))
