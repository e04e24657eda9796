"""Requests to a gateway, over HTTP on its Unix socket, or over TCP with a token; its errors are ours again.

Invariants: every request may be sent twice, so one that a restart of the gateway cut off is sent once more, and one for
which the gateway had no room is sent for a minute; no error has the token in it. Whatever answers, an answer is a
table, or an error of ours, in bounded time and memory.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from celery_docker import errors
from celery_docker.core import gatewayurl, wording

_TIMEOUT_S = 60
_TRIES = 3
# About as long as the gateway says in Retry-After; not all who were turned away come back at once.
_BUSY_PAUSE_S = (1.0, 3.0)
_API = "/api/v1"
# What a refusal may be, by the name that the gateway gives it.
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.SpecError,
        errors.NotAllowed,
        errors.NoSuchJob,
        errors.NotEnded,
        errors.AmbiguousId,
        errors.SignatureError,
        errors.KeysError,
        errors.StoreAway,
        errors.Busy,
        errors.StoreRefused,
    )
}


# It ended in the middle, as at a restart.
_CUT_OFF = (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected, http.client.IncompleteRead)
_PIECE_BYTES = 1024 * 1024
# That of a batch of a million jobs is a third of it.
_MOST_BYTES = 128 * 1024 * 1024
_SLOWEST_BYTES_PER_S = 10_000
_MOST_INTERIM = 10
_MOST_LINE = 4000


class _Bounded(io.RawIOBase):
    """The bytes of an answer: each may be waited for, but not for each one by one, and they have an end."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._began_s = time.monotonic()
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if time.monotonic() - self._began_s > _TIMEOUT_S + self._bytes / _SLOWEST_BYTES_PER_S:
            raise TimeoutError("its answer does not get on")
        if self._bytes > _MOST_BYTES:
            raise http.client.HTTPException(f"its answer has more than {wording.size(_MOST_BYTES)}")
        count: int | None = self._raw.readinto(buffer)
        self._bytes += count or 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    """An answer that gets on, and comes to an end."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp = io.BufferedReader(_Bounded(self.fp.detach()))
        self._interim = 0

    def _read_status(self) -> tuple[str, int, str]:
        self._interim += 1
        if self._interim > _MOST_INTERIM:
            raise http.client.HTTPException("it says again and again that it will answer")
        status: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
        return status


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class HttpSocket:
    """A gateway by its URL; `token` is for one that is reached over TCP. `sleep` takes seconds.

    Each call raises `StoreAway` where it does not answer, `Busy` where it has no room for a minute, `StoreRefused` for
    a certificate that is not valid, and what it says.
    """

    url: str
    token: str = field(default="", repr=False)
    sleep: Callable[[float], object] = time.sleep

    def get(self, *place: str, **query: object) -> Any:
        """Return what is at a place, such as `jobs`, ID, `logs`; a list in the query is written with commas."""
        pairs = {name: ",".join(value) if isinstance(value, list) else value for name, value in query.items()}
        text = urlencode({name: value for name, value in pairs.items() if value is not None}, safe=",")
        return self.send("GET", *place, query=text)

    def send(self, method: str, *place: str, body: Mapping[str, Any] | None = None, query: str = "") -> Any:
        """Send a request and return what is answered."""
        target = "/".join([self._base, *(quote(part, safe="") for part in place)]) + (f"?{query}" if query else "")
        text = None if body is None else json.dumps(body).encode()
        patience_s = float(_TIMEOUT_S)
        while True:
            try:
                return self._sent(method, target, text)
            except errors.Busy:
                pause_s = random.uniform(*_BUSY_PAUSE_S)  # noqa: S311  # a delay, not a secret
                patience_s -= pause_s
                if patience_s < 0:
                    raise
                self.sleep(pause_s)

    def _sent(self, method: str, target: str, text: bytes | None) -> Any:
        for tries_left in reversed(range(_TRIES)):
            try:
                return self._answer(method, target, text)
            except _CUT_OFF as exc:  # It ended, and another one answers.
                if not tries_left:
                    raise self._away(exc) from exc
            except ssl.SSLCertVerificationError as exc:
                raise self._uncertain(exc) from exc
            except OSError as exc:
                raise self._away(exc) from exc
            except (http.client.HTTPException, ValueError, OverflowError) as exc:
                raise self._no_http(exc) from exc
        raise AssertionError  # The last try has returned or raised.

    def _answer(self, method: str, target: str, text: bytes | None) -> Any:
        connection = self._connection()
        connection.response_class = _Response
        try:
            connection.connect()
            # One that takes no more of a request may have heard enough, and have answered.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.request(method, target, text, self._headers)
            answer = connection.getresponse()
            status, words = answer.status, b"".join(iter(lambda: answer.read(_PIECE_BYTES), b""))
            if answer.length:
                raise http.client.IncompleteRead(words, answer.length)
        finally:
            connection.close()
        try:
            body = json.loads(words) if words else None
        except (ValueError, RecursionError) as exc:
            raise self._strange(status) from exc
        if not isinstance(body, dict):
            raise self._strange(status)
        if 200 <= status < 300:
            return body
        if "error" not in body:
            raise self._strange(status)
        kind = _KINDS.get(str(body.get("kind")), errors.StoreRefused if status < 500 else errors.StoreAway)
        raise kind(wording.one_line(str(body["error"]), _MOST_LINE))

    def _connection(self) -> http.client.HTTPConnection:
        if not self._is_tcp:
            return _Connection(self._place)
        parts = urlsplit(self.url)
        if parts.scheme.lower() == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=_TIMEOUT_S, context=self._certificates
        )

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        """The certificates that this system trusts; they take a while to read."""
        return ssl.create_default_context()

    @property
    def _is_tcp(self) -> bool:
        return gatewayurl.needs_token(self.url)

    @property
    def _base(self) -> str:
        return (urlsplit(self.url).path.rstrip("/") if self._is_tcp else "") + _API

    @property
    def _place(self) -> str:
        """The gateway as complaints name it."""
        return self.url if self._is_tcp else gatewayurl.path(self.url)

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self._is_tcp else {}

    def _away(self, exc: Exception) -> errors.StoreAway:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else wording.one_line(str(exc), 120)
        unit = "celery-docker-api-tcp.socket" if self._is_tcp else "celery-docker-api.socket"
        where = " on its host" if self._is_tcp else ""
        remedy = f"turn it on with: systemctl enable --now {unit}{where}, or correct the URL"
        return errors.StoreAway(f"cannot reach celery-docker-api at {self._place}: {why}; {remedy}")

    def _uncertain(self, exc: ssl.SSLCertVerificationError) -> errors.StoreRefused:
        return errors.StoreRefused(
            f"the certificate of {self._place} is not valid: {exc.verify_message}; correct the URL, or install what it "
            "was signed with (update-ca-certificates; SSL_CERT_FILE names another file)"
        )

    def _no_http(self, exc: Exception) -> errors.StoreRefused:
        line = wording.one_line(str(exc), 120)
        return errors.StoreRefused(f"{self._place} does not answer as celery-docker-api does: {line}; correct the URL")

    def _strange(self, status: int) -> errors.CeleryDockerError:
        """Return the error of an answer that is none of a gateway's; a proxy answers so while that is away."""
        if status >= 500:
            return errors.StoreAway(f"celery-docker-api at {self._place} does not answer its proxy: status {status}")
        what = f"{self._place} answers with status {status}, and" if self._is_tcp else self._place
        return errors.StoreRefused(f"{what} is not celery-docker-api; correct the URL")
