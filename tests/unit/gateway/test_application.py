"""The application: every error is one line of JSON with the status that it means."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import browsers
from celery_docker.core.access import Identity, Right
from celery_docker.gateway import callers
from celery_docker.gateway.application import Application
from celery_docker.gateway.callers import Callers
from celery_docker.gateway.routing import Answer, Request, Route
from celery_docker.host.tokenfile import TokenFile

ALICE = Identity("alice", 1000, 1000, (1000,))
MEMBER = Identity("carol", 1001, 1001, (990,))
WWW = Identity("www-data", 33, 33, (33,))


def answered(
    handler: Callable[[Request], Answer],
    *,
    identity: Identity | None = ALICE,
    method: str = "GET",
    path: str = "/a",
    body: bytes = b"",
) -> tuple[str, dict[str, str], bytes]:
    routes = [Route("GET", "/a", handler, "a"), Route("POST", "/a", handler, "a", body={}, right=Right.SUBMIT)]
    answer: list[Any] = []
    environ = {
        callers.IDENTITY: identity,
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "wsgi.input": io.BytesIO(body),
    }
    text = b"".join(
        Application(routes, Callers(990, TokenFile("/nonexistent/tokens")))(
            environ, lambda *words: answer.extend(words)
        )
    )
    return answer[0], dict(answer[1]), text


def asked(handler: Callable[[Request], Answer], **of_request: Any) -> tuple[str, dict[str, str], Any]:
    status, headers, text = answered(handler, **of_request)
    assert text.count(b"\n") == 1
    return status, headers, json.loads(text)


def raising(exc: Exception) -> Callable[[Request], Answer]:
    def handler(_: Request) -> Answer:
        raise exc

    return handler


@pytest.mark.parametrize(
    ("exc", "status"),
    [
        (errors.SpecError("image: is missing"), "400 Bad Request"),
        (errors.BatchError(["one", "two"]), "400 Bad Request"),
        (errors.NotAllowed("no"), "403 Forbidden"),
        (errors.NoSuchJob("no"), "404 Not Found"),
        (errors.NotEnded("no"), "409 Conflict"),
        (errors.AmbiguousId("no"), "409 Conflict"),
        (errors.TokensError("no"), "503 Service Unavailable"),
        (errors.StoreAway("no"), "503 Service Unavailable"),
        (errors.Busy("no"), "503 Service Unavailable"),
        (errors.StoreRefused("no"), "503 Service Unavailable"),
    ],
)
def test_an_error_has_its_status(exc: Exception, status: str) -> None:
    line, headers, body = asked(raising(exc))
    assert (line, body) == (status, {"error": " ".join(str(exc).split("\n")), "kind": type(exc).__name__})
    assert ("Retry-After" in headers) == status.startswith("503")


def test_a_failure_here_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    status, _, body = asked(raising(RuntimeError("redis://:secret@host")))
    assert status == "500 Internal Server Error"
    assert body == {"error": "this failed here; the journal of celery-docker-api says why"}
    assert "RuntimeError" in caplog.text


def test_the_handler_sees_who_asks() -> None:
    def handler(request: Request) -> Answer:
        return Answer([request.identity.name, request.rights.may_everything, request.body], 201)

    assert asked(handler)[::2] == ("201 Created", ["alice", False, None])
    assert asked(handler, identity=MEMBER)[2] == ["carol", True, None]
    assert asked(handler, method="POST", body=b'{"a": 1}')[2] == ["alice", False, {"a": 1}]


def test_an_answer_that_is_no_json() -> None:
    def handler(_: Request) -> Answer:
        return Answer(b"a 1\nb 2\n", 200, "text/plain; charset=utf-8", {"Cache-Control": "no-cache", "X": "y"})

    status, headers, text = answered(handler)
    assert (status, text) == ("200 OK", b"a 1\nb 2\n")
    assert headers == {
        **browsers.ANSWER_HEADERS,
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": "8",
        "Cache-Control": "no-cache",
        "X": "y",
    }
    # A client that asks with HEAD takes a body for the beginning of the next answer.
    assert answered(handler, method="HEAD") == (status, headers, b"")


def test_who_is_not_known_or_only_reads() -> None:
    def handler(_: Request) -> Answer:
        return Answer({})

    assert asked(handler, identity=None)[0] == "401 Unauthorized"
    assert asked(handler, identity=WWW)[0] == "200 OK"
    status, _, body = asked(handler, identity=WWW, method="POST")
    assert status == "403 Forbidden"
    assert body["error"].startswith("user 'www-data' (uid 33) may only read")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (b"\xff", "the body is not UTF-8"),
        (b'{"a": 1, "a": 2}', "the body has the key 'a' twice"),
        (b"[" * 100_000, "the body is nested too deeply"),
        (b'{"a": NaN}', "the body NaN is not a number in JSON"),
    ],
)
def test_a_body_that_is_no_json(body: bytes, words: str) -> None:
    status, _, answer = asked(lambda _: Answer({}), method="POST", body=body)
    assert status == "400 Bad Request"
    assert answer["error"].startswith(words)
    assert asked(lambda _: Answer({}), body=b"{}")[0] == "400 Bad Request"


def test_a_path_that_is_no_text() -> None:
    status, _, body = asked(lambda _: Answer({}), path="/\xff")
    assert (status, body["error"].startswith("the path is not UTF-8")) == ("400 Bad Request", True)
