"""Answers of a gateway that may be of another version, or none of a gateway: what they have is checked.

Invariant: whatever an answer has, its reader raises no error but ours.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from celery_docker import errors
from celery_docker.core import kinds

T = TypeVar("T")
# Any time or length of time is far below.
_LARGEST = 1e11

# Of an answer that lacks a name, or has something else under it.
_OTHERWISE = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def function(read: Callable[..., T]) -> Callable[..., T]:
    """Have a function that reads answers raise `StoreRefused` for those that have not what it needs."""

    @functools.wraps(read)
    def guarded(*args: Any, **options: Any) -> T:
        try:
            return read(*args, **options)
        except _OTHERWISE as exc:
            raise _error(exc) from exc

    return guarded


def _generator(read: Callable[..., Iterator[T]]) -> Callable[..., Iterator[T]]:
    @functools.wraps(read)
    def guarded(*args: Any, **options: Any) -> Iterator[T]:
        try:
            yield from read(*args, **options)
        except _OTHERWISE as exc:
            raise _error(exc) from exc

    return guarded


def questions(kind: type[T]) -> type[T]:
    """Do the same for each public method of a class."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("_"):
            guard = _generator if inspect.isgeneratorfunction(method) else function
            setattr(kind, name, guard(method))
    return kind


def _error(exc: Exception) -> errors.StoreRefused:
    lacks = f"lacks {exc}" if isinstance(exc, KeyError) else f"is another: {exc}"
    return errors.StoreRefused(
        f"celery-docker-api answers otherwise than this version knows, its answer {lacks}; install the same package on "
        "both hosts, or correct the URL"
    )


def checked(row: T) -> T:
    """Return a dataclass whose fields hold what they are declared to; raises `TypeError` that names the first other."""
    kind: Any = type(row)
    hints = _hints(kind)
    for field in fields(row):  # type: ignore[arg-type]
        value = getattr(row, field.name)
        if not _fits(value, hints[field.name]):
            raise TypeError(f"{field.name} is {kinds.shown(value)}")
    return row


def table(value: Any, **hints: Any) -> dict[str, Any]:
    """Return a table that has these names with values of these kinds; raises `KeyError` or `TypeError`."""
    for name, hint in hints.items():
        if not _fits(value[name], hint):
            raise TypeError(f"{name} is {kinds.shown(value[name])}")
    return dict(value)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Mapping:
        return isinstance(value, dict) and all(
            _fits(name, parts[0]) and _fits(entry, parts[1]) for name, entry in value.items()
        )
    if origin in (list, tuple):
        return isinstance(value, origin) and all(_fits(entry, parts[0]) for entry in value)
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float) and abs(value) < _LARGEST
    return isinstance(value, hint)
