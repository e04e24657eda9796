"""Requests to a gateway over TCP, as through a proxy. The unit tests have no network where a package is built."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.client.httpsocket import HttpSocket
from tests.unit.client.test_httpsocket import answer, server, serving

SECRET = "s" * 43


@contextmanager
def tcp_server(*answers: bytes) -> Iterator[tuple[HttpSocket, list[bytes]]]:
    """The same over TCP, below a path of a proxy; yields a client with a token, and the requests."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/jobs/"
    with serving(listening, answers) as requests:
        yield HttpSocket(url, SECRET), requests


def test_over_tcp_a_request_has_the_token(tmp_path: Path) -> None:
    with tcp_server(answer("200 OK", b'{"a":1}')) as (http, requests):
        assert http.get("jobs", limit=1) == {"a": 1}
    assert requests[0].startswith(b"GET /jobs/api/v1/jobs?limit=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert f"\r\nAuthorization: Bearer {SECRET}\r\n".encode() in requests[0]
    assert SECRET not in repr(http)
    with server(tmp_path / "s", [answer("200 OK", b"{}")]) as requests:
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")
    assert b"Authorization" not in requests[0]


@pytest.mark.parametrize(
    ("status", "body", "kind", "line"),
    [
        ("401 Unauthorized", b'{"error":"this token is not known"}', errors.StoreRefused, "^this token is not known$"),
        ("429 Too Many Requests", b'{"error":"not known"}', errors.StoreRefused, "^not known$"),
        ("403 Forbidden", b'{"error":"no","kind":"NotAllowed"}', errors.NotAllowed, "^no$"),
        # While the service restarts, or its host is away, a proxy answers: whoever waits for jobs goes on waiting.
        ("502 Bad Gateway", b"<html>", errors.StoreAway, r"at http://127\.0\.0\.1:\d+/jobs/ does not answer its proxy"),
        ("504 Gateway Timeout", b"", errors.StoreAway, "does not answer its proxy: status 504$"),
        ("301 Moved Permanently", b"<html>", errors.StoreRefused, "status 301, and is not celery-docker-api; correct"),
        ("302 Found", b"{}", errors.StoreRefused, "status 302, and is not celery-docker-api; correct"),
        ("413 Too Large", b"<html>", errors.StoreRefused, "status 413, and is not celery-docker-api"),
    ],
)
def test_what_comes_from_a_proxy(status: str, body: bytes, kind: type[Exception], line: str) -> None:
    with tcp_server(answer(status, body)) as (http, _), pytest.raises(kind, match=line) as caught:
        http.get("jobs")
    assert SECRET not in str(caught.value)


def test_a_gateway_that_is_not_there_is_named_with_its_url() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://localhost:{listening.getsockname()[1]}"
    listening.close()
    line = rf"^cannot reach celery-docker-api at {url}: Connection refused; turn it on with: .*-tcp\.socket on its host"
    with pytest.raises(errors.StoreAway, match=line):
        HttpSocket(url, SECRET).get("jobs")
