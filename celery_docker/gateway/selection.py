"""The names in rows that a request asks for: what is asked for each few seconds carries no others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from celery_docker import errors
from celery_docker.core import kinds
from celery_docker.gateway import parameters
from celery_docker.gateway.routing import Answer, Request

Handler = Callable[[Request], Answer]


def of_rows(handler: Handler, table: str) -> Handler:
    """Return a handler whose rows, those in this table of its answer, have the names in `fields` only."""

    def select(request: Request) -> Answer:
        answer = handler(request)
        names = wanted(request)
        if names is None:
            return answer
        return replace(answer, body={**answer.body, table: [cut(row, names) for row in answer.body[table]]})

    return select


def wanted(request: Request) -> Sequence[str] | None:
    """Return the names that a request asks for; None: all."""
    names: Sequence[str] | None = request.query.get(parameters.FIELDS.name)
    return names


def cut(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return these parts of a row. Raises `SpecError` that names one that it does not have."""
    for name in names:
        if name not in row:
            raise errors.SpecError(f"fields: {kinds.shown(name)} is none of {', '.join(row)}")
    return {name: row[name] for name in names}
