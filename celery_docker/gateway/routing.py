"""Requests, answers and the table of routes: which method and path is whose. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from celery_docker.core import kinds
from celery_docker.core.access import Identity, Right, Rights
from celery_docker.core.browsers import Headers

JSON = "application/json"
_MOST_PARAMETERS = 20


class Refusal(Exception):
    """An answer that is no success: its status, and one line that names the value and the remedy."""

    def __init__(self, status: int, line: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(line)
        self.status = status
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Request:
    """A request of somebody: the names in its path, its query, and what its body says in JSON, None without one.

    `is_local` is true on a Unix socket.
    """

    identity: Identity
    rights: Rights
    names: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    headers: Headers = field(default_factory=Headers)
    is_local: bool = False


@dataclass(frozen=True)
class Answer:
    """A status and a body: what it says in JSON, or with another content type its bytes; and headers of its own."""

    body: Any
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Parameter:
    """A parameter of a query: `parse` turns its text into a value, or raises `ValueError` that says what is allowed."""

    name: str
    help: str
    parse: Callable[[str], Any] = str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Route:
    """A line of the table; a `{name}` in the path stands for one part of it.

    `right` is the one that it needs, None where nobody has to say who he is. `body` is the schema of what it takes,
    None for nothing. `is_page`: its query is for the page that it answers with, and anything may be in it.
    """

    method: str
    path: str
    handler: Callable[[Request], Answer]
    summary: str
    query: tuple[Parameter, ...] = ()
    body: Mapping[str, Any] | None = None
    right: Right | None = Right.READ
    status: int = 200
    content_type: str = JSON
    is_page: bool = False

    def names(self, parts: Sequence[str]) -> dict[str, str] | None:
        """Return the names in a path, which is given in as many parts; None where it is that of another route."""
        names = {}
        for word, part in zip(self.path.split("/"), parts, strict=True):
            if word.startswith("{") and part:
                names[word.strip("{}")] = part
            elif word != part:
                return None
        return names


def find(routes: Sequence[Route], method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a request and the names in its path. Raises `Refusal`."""
    parts = path.split("/")
    as_deep = [route for route in routes if route.path.count("/") == len(parts) - 1]
    fitting = [(route, names) for route in as_deep if (names := route.names(parts)) is not None]
    wanted = "GET" if method == "HEAD" else method
    for route, names in fitting:
        if route.method == wanted:
            return route, names
    if not fitting:
        raise Refusal(404, f"nothing is at {kinds.shown(path)}; /api/v1/openapi.json lists what there is")
    allowed = sorted({route.method for route, _ in fitting})
    if "GET" in allowed:
        allowed.append("HEAD")
    methods = ", ".join(allowed)
    raise Refusal(405, f"{kinds.shown(method)} is not for {kinds.shown(path)}; use {methods}", {"Allow": methods})


def query(route: Route, text: str) -> dict[str, Any]:
    """Return the values in the query of a request. Raises `Refusal` that names the parameter and what is allowed."""
    if route.is_page:
        return {}
    known = {parameter.name: parameter for parameter in route.query}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError as exc:
        raise Refusal(400, f"the query must be UTF-8 and have at most {_MOST_PARAMETERS} parameters") from exc
    values: dict[str, Any] = {}
    for name, word in pairs:
        if name not in known:
            names = ", ".join(known) or "none"
            raise Refusal(400, f"{kinds.shown(name)} is not a parameter of {route.path}; known are {names}")
        if name in values:
            raise Refusal(400, f"{name}: was given twice; give it once")
        try:
            values[name] = known[name].parse(word)
        except ValueError as exc:
            raise Refusal(400, f"{name}: {kinds.shown(word)} {exc}") from exc
    return values
