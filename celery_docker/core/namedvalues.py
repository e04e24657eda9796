"""Names with values: the environment variables and the labels of a job.

Pure. Takes a table, or a list of NAME=value as docker run has them. Invariant: no complaint has a value in it, since
passwords are passed in variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_docker.core import container, kinds

# A list may have five hundred jobs, and has the labels of all.
_MOST_LABELS_BYTES = 16_384


def _environment(value: Any) -> dict[str, str] | None:
    variables = {}
    for name, text in _pairs(value):
        if text is None:
            raise ValueError(
                f"{kinds.shown(name)} has no value; write NAME=value, for the worker's host is not asked for it"
            )
        variables[name] = _named(name, text)
    return variables or None


def _labels(value: Any) -> dict[str, str] | None:
    labels = {}
    for name, text in _pairs(value):
        if name.startswith(container.LABEL_PREFIX):
            raise ValueError(
                f"{kinds.shown(name)} is the queue's own; a label must not begin with {container.LABEL_PREFIX}"
            )
        labels[name] = _named(name, "" if text is None else text)  # a bare label is an empty one, as in docker run
    if sum(len(word.encode()) for pair in labels.items() for word in pair) > _MOST_LABELS_BYTES:
        raise ValueError(f"have more than {_MOST_LABELS_BYTES:,} bytes in all; lists of jobs show them: pass a file")
    return labels or None


def _pairs(value: Any) -> list[tuple[str, Any]]:
    """Return names and values of a mapping or of a list of NAME=value; the value of a bare name is None."""
    if isinstance(value, Mapping):
        pairs: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        pairs = [(name, text if equals else None) for name, equals, text in (item.partition("=") for item in value)]
    else:
        raise ValueError("must be a table of names and strings, or a list of 'NAME=value'")
    for name, _ in pairs:
        if not isinstance(name, str) or not name:
            raise ValueError("has a name that is empty or no string; write NAME=value")
        if "=" in name:  # what follows may be the value
            raise ValueError(f"{kinds.shown(name.partition('=')[0])} must not have '=' in its name")
        _named(name, name)
    return pairs


def _named(name: str, text: Any) -> str:
    """Return the text; a complaint names what it belongs to, and not what it is."""
    try:
        value = kinds.parse_text(text)
        kinds.check_length(f"{name}={value}")
    except ValueError as exc:
        raise ValueError(f"{kinds.shown(name)} {exc}") from exc
    return value


_TABLE = {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"pattern": "^[^=]+$"}}
_ASSIGNMENTS = {"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}}
# Passwords are passed in it.
ENVIRONMENT = kinds.Kind("NAME=VALUE", _environment, {"anyOf": [_TABLE, _ASSIGNMENTS]}, shown=False)
LABELS = kinds.Kind("NAME=VALUE", _labels, {"anyOf": [_TABLE, kinds.STRINGS]}, shown=False)
