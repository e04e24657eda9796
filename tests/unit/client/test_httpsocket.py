"""Requests to a gateway: what is cut off is sent again, and its errors are ours."""

from __future__ import annotations

import contextlib
import io
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.client import httpsocket
from celery_docker.client.httpsocket import HttpSocket


@contextmanager
def server(path: Path, answers: Sequence[bytes]) -> Iterator[list[bytes]]:
    """A socket at which each connection gets the next answer; an empty one cuts it off. Yields the requests."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    with serving(listening, answers) as requests:
        yield requests


@contextmanager
def serving(listening: socket.socket, answers: Sequence[bytes]) -> Iterator[list[bytes]]:
    requests: list[bytes] = []

    def serve() -> None:
        for answer in answers:
            connection, _ = listening.accept()
            with connection:
                requests.append(connection.recv(65_536))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(answer)

    listening.settimeout(60)
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield requests
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(60)
        listening.close()
    assert not thread.is_alive()


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_a_request_that_was_cut_off_is_sent_again(tmp_path: Path) -> None:
    with server(tmp_path / "s", [b"", b"", answer("200 OK", b'{"a":1}')]) as requests:
        assert HttpSocket(f"http+unix://{tmp_path}/s").get("jobs", ids=["a", "b"], before=None) == {"a": 1}
    assert len(requests) == 3
    assert len(set(requests)) == 1
    assert requests[0].startswith(b"GET /api/v1/jobs?ids=a,b HTTP/1.1\r\n")


BUSY = answer("503 Service Unavailable", b'{"error":"too many large requests are under way","kind":"Busy"}')


def test_a_gateway_that_is_busy_is_asked_again_in_a_moment(tmp_path: Path) -> None:
    pauses: list[float] = []
    with server(tmp_path / "s", [BUSY, BUSY, b"", answer("201 Created", b'{"a":1}')]) as requests:
        link = HttpSocket(f"http+unix://{tmp_path}/s", sleep=pauses.append)
        assert link.send("POST", "jobs", body={"x": 1}) == {"a": 1}
    # The body may come behind, in a part of its own.
    assert len({request.partition(b"\r\n\r\n")[0] for request in requests}) == 1
    assert len(pauses) == 2
    assert all(1 <= pause_s <= 3 for pause_s in pauses)


def test_one_that_stays_busy_is_named_when_a_minute_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpsocket, "_BUSY_PAUSE_S", (20.0, 20.0))
    pauses: list[float] = []
    with server(tmp_path / "s", [BUSY] * 4) as requests, pytest.raises(errors.Busy, match="too many large requests"):
        HttpSocket(f"http+unix://{tmp_path}/s", sleep=pauses.append).get("jobs")
    assert (len(requests), pauses) == (4, [20.0] * 3)


def test_a_redis_that_is_away_is_told_at_once(tmp_path: Path) -> None:
    """As to somebody who asks it himself."""
    away = answer("503 Service Unavailable", b'{"error":"cannot reach Redis","kind":"StoreAway"}')
    pauses: list[float] = []
    with server(tmp_path / "s", [away]), pytest.raises(errors.StoreAway, match="cannot reach Redis"):
        HttpSocket(f"http+unix://{tmp_path}/s", sleep=pauses.append).get("jobs")
    assert pauses == []


def test_an_answer_that_was_cut_off_is_asked_for_again(tmp_path: Path) -> None:
    whole = answer("200 OK", b'{"a":1}')
    with server(tmp_path / "s", [whole[:-3], whole]) as requests:
        assert HttpSocket(f"http+unix://{tmp_path}/s").get("jobs") == {"a": 1}
    assert len(requests) == 2


def test_an_answer_that_came_before_the_end_of_the_request_is_read(tmp_path: Path) -> None:
    """The request is larger than the server cares to read."""
    whole = answer("413 Request Entity Too Large", b'{"error":"too large"}')
    with server(tmp_path / "s", [whole]) as requests, pytest.raises(errors.StoreRefused, match="too large"):
        HttpSocket(f"http+unix://{tmp_path}/s").send("POST", "jobs", body={"x": "x" * 2**22})
    assert len(requests) == 1


def test_one_that_is_always_cut_off_is_named(tmp_path: Path) -> None:
    with (
        server(tmp_path / "s", [b""] * 3),
        pytest.raises(errors.StoreAway, match=r"^cannot reach celery-docker-api at .*; turn it on with"),
    ):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("404 Not Found", b'{"error":"no job","kind":"NoSuchJob"}', errors.NoSuchJob),
        ("403 Forbidden", b'{"error":"no job","kind":"NotAllowed"}', errors.NotAllowed),
        ("409 Conflict", b'{"error":"no job","kind":"AmbiguousId"}', errors.AmbiguousId),
        ("503 Service Unavailable", b'{"error":"no job","kind":"StoreAway"}', errors.StoreAway),
        ("500 Internal Server Error", b'{"error":"no job"}', errors.StoreAway),
        ("413 Request Entity Too Large", b'{"error":"no job"}', errors.StoreRefused),
        # What another server calls an error is no class of ours.
        ("400 Bad Request", b'{"error":"no job","kind":"SystemExit"}', errors.StoreRefused),
    ],
)
def test_a_refusal_is_the_error_that_it_names(
    tmp_path: Path, status: str, body: bytes, kind: type[errors.CeleryDockerError]
) -> None:
    with server(tmp_path / "s", [answer(status, body)]), pytest.raises(kind, match=r"^no job$"):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


def test_another_server_is_named(tmp_path: Path) -> None:
    with (
        server(tmp_path / "s", [answer("200 OK", b"<html>")]),
        pytest.raises(errors.StoreRefused, match=r"/s is not celery-docker-api; correct the URL$"),
    ):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


def test_what_does_not_speak_http_is_named_in_one_line(tmp_path: Path) -> None:
    with (
        server(tmp_path / "s", [b"SSH-2.0-OpenSSH\r\n"]),
        pytest.raises(errors.StoreRefused, match=r"/s does not answer as celery-docker-api does: SSH-2\.0-OpenSSH; "),
    ):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "101 Switching Protocols"])
@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"x"', b"5", b"[" * 100_000, b"9" * 5_000, b"\xff"])
def test_an_answer_that_is_no_table_is_none_of_ours(tmp_path: Path, status: str, body: bytes) -> None:
    with (
        server(tmp_path / "s", [answer(status, body)]),
        pytest.raises(errors.StoreRefused, match=r"/s is not celery-docker-api; correct the URL$"),
    ):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (CHUNKED + b"-5\r\n{}", "read length must be"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "it says again and again that it will answer"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n{}", "got more than 100 headers"),
        (b"HTTP/1.1 200 OK\r\n\r\n[" + b"1," * 5_000_000, "its answer has more than 1 MiB"),
    ],
)
def test_no_answer_is_without_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: bytes, line: str) -> None:
    monkeypatch.setattr(httpsocket, "_MOST_BYTES", 2**20)
    with (
        server(tmp_path / "s", [text]),
        pytest.raises(errors.StoreRefused, match=f"/s does not answer as celery-docker-api does: {line}"),
    ):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")


@pytest.mark.parametrize("text", [CHUNKED + b"f" * 18 + b"\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"])
def test_one_that_is_cut_off_each_time_is_away(tmp_path: Path, text: bytes) -> None:
    with server(tmp_path / "s", [text] * 3) as requests, pytest.raises(errors.StoreAway, match="IncompleteRead"):
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")
    assert len(requests) == 3


def test_a_refusal_is_one_line_that_a_screen_has_room_for(tmp_path: Path) -> None:
    body = b'{"error":"a\\nb' + b"x" * 1_000_000 + b'"}'
    with server(tmp_path / "s", [answer("400 Bad Request", body)]), pytest.raises(errors.StoreRefused) as caught:
        HttpSocket(f"http+unix://{tmp_path}/s").get("jobs")
    assert str(caught.value).startswith("a bx")
    assert len(str(caught.value)) == 4_000


def test_an_answer_has_to_get_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is no sign of life; a slow line is let be."""
    for bytes_per_s, is_slow in ((1, True), (20_000, False)):
        now_s = 0.0
        monkeypatch.setattr("time.monotonic", lambda: now_s)  # noqa: B023
        raw = httpsocket._Bounded(io.BytesIO(b"x" * 10_000_000))  # type: ignore[arg-type]
        buffer = bytearray(bytes_per_s)
        got = 0
        with contextlib.suppress(TimeoutError):
            while count := raw.readinto(buffer):
                got, now_s = got + count, now_s + 1
        assert (got < 100) is is_slow
        assert (got == 10_000_000) is not is_slow
