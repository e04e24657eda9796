"""The application: a request of HTTP becomes one of ours, and whatever comes of it an answer, in JSON as a rule.

Invariant: an error is one line of JSON with the status that it means; no traceback leaves this process.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from celery_docker import errors
from celery_docker.core import access, browsers, strictjson, wording
from celery_docker.core.browsers import Headers
from celery_docker.gateway import bodies, callers, routing
from celery_docker.gateway.callers import Caller, Callers
from celery_docker.gateway.routing import Answer, Refusal, Request, Route
from celery_docker.gateway.turns import Turns

_STATUSES: tuple[tuple[type[errors.CeleryDockerError], int], ...] = (
    (errors.NotAllowed, 403),
    (errors.SignatureError, 409),
    (errors.KeysError, 503),
    (errors.TokensError, 503),
    (errors.NoSuchJob, 404),
    (errors.NotEnded, 409),
    (errors.AmbiguousId, 409),
    (errors.StoreAway, 503),
    (errors.StoreRefused, 503),
    (errors.SpecError, 400),
)
_MOST_LINE = 2000
# Of somebody who has not said who he is.
_MOST_BODY_OF_ANYBODY = 4096
_SAFE = ("GET", "HEAD")

_log = logging.getLogger(__name__)

Respond = Callable[[str, list[tuple[str, str]]], object]


@dataclass(frozen=True)
class Application:
    """The WSGI application over a table of routes."""

    routes: Sequence[Route]
    callers: Callers
    turns: Turns = field(default_factory=Turns)

    def __call__(self, environ: Mapping[str, Any], respond: Respond) -> list[bytes]:
        """Answer a request."""
        try:
            answer, headers = self._answer(environ), {}
        except Refusal as exc:
            answer, headers = refused(exc.status, str(exc)), exc.headers
        except errors.CeleryDockerError as exc:
            status = next((number for kind, number in _STATUSES if isinstance(exc, kind)), 500)
            answer = refused(status, str(exc), type(exc).__name__)
            headers = {"Retry-After": "2"} if status == 503 else {}
        except Exception:  # noqa: BLE001  # nothing of it may reach who asks
            _log.exception("a request failed")
            answer, headers = refused(500, "this failed here; the journal of celery-docker-api says why"), {}
        return _responded(environ, answer, headers, respond)

    def _answer(self, environ: Mapping[str, Any]) -> Answer:
        headers = browsers.headers_of(environ)
        self.callers.check_host(environ, headers)
        method, path = str(environ["REQUEST_METHOD"]), _path(str(environ["PATH_INFO"]))
        caller, route, names = self._found(environ, headers, method, path)
        identity, rights = caller
        size_bytes = int(environ.get("CONTENT_LENGTH") or 0)
        if route.right is not None:
            access.check(identity, rights, route.right)
        elif size_bytes > _MOST_BODY_OF_ANYBODY:
            raise Refusal(413, f"the body is larger than {wording.size(_MOST_BODY_OF_ANYBODY)}; send less")
        query = routing.query(route, str(environ["QUERY_STRING"]))
        with self.turns.turn(size_bytes):
            body = _body(route, environ["wsgi.input"].read())
            is_local = callers.IDENTITY in environ
            answer = route.handler(Request(identity, rights, names, query, body, headers, is_local))
        if route.method == "POST" and route.right is not None:
            _note(caller, method, path, answer.status)
        return answer

    def _found(
        self, environ: Mapping[str, Any], headers: Headers, method: str, path: str
    ) -> tuple[Caller, Route, dict[str, str]]:
        """Return who asks, for what. Nobody but the callers learns what there is, except what is for everybody."""
        try:
            route, names = routing.find(self.routes, method, path)
        except Refusal:
            self.callers.of(environ, headers)
            raise
        if route.right is None:
            return self.callers.anybody(), route, names
        self.callers.check_page(environ, headers, is_change=route.method not in _SAFE)
        return self.callers.of(environ, headers), route, names


@dataclass(frozen=True)
class Closed:
    """The application of a service that cannot work, and says why."""

    line: str

    def __call__(self, environ: Mapping[str, Any], respond: Respond) -> list[bytes]:
        """Refuse a request."""
        return _responded(environ, refused(503, self.line), {}, respond)


def _responded(environ: Mapping[str, Any], answer: Answer, headers: Mapping[str, str], respond: Respond) -> list[bytes]:
    text = encoded(answer.body) if answer.content_type == routing.JSON else bytes(answer.body)
    pairs = {"Content-Type": answer.content_type, "Content-Length": str(len(text)), "Cache-Control": "no-store"}
    pairs |= browsers.ANSWER_HEADERS
    respond(status_line(answer.status), [*{**pairs, **answer.headers, **headers}.items()])
    # With a body, what asks next on the proxy's connection could take it for its answer.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [text]


def _note(caller: Caller, method: str, path: str, status: int) -> None:
    identity, rights = caller
    by = f", token {rights.token}" if rights.token else ""
    _log.info("%s (uid %d%s): %s %s: %d", identity.name, identity.uid, by, method, path, status)


def _path(text: str) -> str:
    try:
        return text.encode("latin-1").decode()
    except UnicodeError as exc:
        raise Refusal(400, "the path is not UTF-8; write other bytes as %XX of it") from exc


def _body(route: Route, text: bytes) -> Any:
    if not text:
        return None
    if route.body is None:
        raise Refusal(400, f"{route.method} {route.path} takes no body; leave it out")
    try:
        return strictjson.parse(text, most=bodies.MOST_VALUES)
    except strictjson.NotUsable as exc:
        raise Refusal(400, f"the body {exc}; it must be JSON in UTF-8") from exc


def refused(status: int, line: str, kind: str = "") -> Answer:
    """Return the answer of a refusal, in one line; `kind` is the error's name, for our own client."""
    body = {"error": wording.one_line(line, _MOST_LINE)}
    return Answer({**body, "kind": kind} if kind else body, status)


def encoded(body: Any) -> bytes:
    """Return what an answer says as JSON in UTF-8, in one line."""
    # ensure_ascii: half of a character, which a record may hold, has no other form.
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


def status_line(status: int) -> str:
    """Return a status as HTTP's first line has it."""
    return f"{status} {HTTPStatus(status).phrase}"
