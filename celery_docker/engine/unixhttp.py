"""HTTP/1.1 to a local socket, with connections that are used again.

Owns sockets and their timeouts; knows nothing of containers. Standard library only: requests costs five times the CPU
for each call, which is most of what a short job costs its worker. Must not import docker. Raises `OSError` and
`http.client.HTTPException` as they come.
"""

from __future__ import annotations

import collections
import contextlib
import email.utils
import http.client
import json
import math
import select
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock, Thread
from typing import Any


@dataclass(frozen=True)
class Answer:
    """The server's answer to one call. `date_line` is the header that says when it was given, empty if it has none."""

    status: int
    body: bytes
    date_line: str = ""

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def date(self) -> float | None:
        """The second of the answer by the server's clock, in seconds since the epoch; None if that is not known."""
        try:
            return email.utils.parsedate_to_datetime(self.date_line).timestamp()
        except ValueError:
            return None

    def json(self) -> Any:
        """Return the parsed body; raises `HTTPException` for one that is cut off."""
        try:
            return json.loads(self.body)
        except ValueError as exc:
            raise http.client.HTTPException(f"an answer that is not JSON: {self.body[:80]!r}") from exc

    @property
    def text(self) -> str:
        """The server's own words about an error."""
        try:
            return str(json.loads(self.body)["message"])
        except (ValueError, KeyError, TypeError):
            return self.body.decode(errors="replace") or http.client.responses.get(self.status, "no reason given")


@dataclass(frozen=True)
class Opened:
    """An answer whose body is still to come, over a connection of its own."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse

    def close(self) -> None:
        self.response.close()
        self.connection.close()


class Cut:
    """Ends a call from another thread, whatever it waits for; one that has not begun then ends as it begins."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._sock: socket.socket | None = None
        self._is_made = False

    def make(self) -> None:
        """End the call."""
        with self._lock:
            self._is_made = True
            self._shut()

    def hold(self, sock: socket.socket) -> None:
        """Take in the connection that the call goes over."""
        with self._lock:
            self._sock = sock
            if self._is_made:
                self._shut()

    def _shut(self) -> None:
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Http:
    """Calls over the socket at `path`, from any thread; at most `keep` idle connections are kept."""

    def __init__(self, path: str, *, keep: int) -> None:
        self._path = path
        self._idle: collections.deque[_Connection] = collections.deque(maxlen=keep)

    def call(
        self, method: str, path: str, *, body: Mapping[str, Any] | bytes | None = None, timeout_s: float
    ) -> Answer:
        """Return the whole answer; `timeout_s` bounds each silence, infinity bears any.

        A `body` of bytes is a tar archive.
        """
        connection, response = self._send(method, path, body, timeout_s, {})
        try:
            answer = Answer(response.status, response.read(), response.headers.get("Date", ""))
        except BaseException:
            connection.close()
            raise
        self._put_back(connection)
        return answer

    def open(
        self,
        method: str,
        path: str,
        *,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
        cut: Cut | None = None,
    ) -> Opened:
        """Return an answer as soon as it begins."""
        return Opened(*self._send(method, path, None, timeout_s, headers or {}, cut))

    @property
    def is_connected(self) -> bool:
        """True if an idle connection is still open at the other end too."""
        return any(idle.sock is not None and not _is_readable(idle.sock) for idle in tuple(self._idle))

    def idle(self) -> list[socket.socket]:
        """Return the sockets of the idle connections."""
        return [connection.sock for connection in tuple(self._idle) if connection.sock is not None]

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def _send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | None,
        timeout_s: float,
        headers: Mapping[str, str],
        cut: Cut | None = None,
    ) -> tuple[_Connection, http.client.HTTPResponse]:
        content_type = "application/x-tar" if isinstance(body, bytes) else "application/json"
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self._take(timeout_s)
        try:
            if cut is not None:
                if connection.sock is None:
                    connection.connect()
                cut.hold(connection.sock)
            connection.request(method, path, data, {"Content-Type": content_type, **headers})
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _take(self, timeout_s: float) -> _Connection:
        connection = self._reusable() or _Connection(self._path)
        connection.timeout = None if math.isinf(timeout_s) else timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(connection.timeout)
        return connection

    def _reusable(self) -> _Connection | None:
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()

    def _put_back(self, connection: _Connection) -> None:
        if len(self._idle) == self._idle.maxlen:
            connection.close()
        else:
            self._idle.append(connection)


class Lifeline:
    """Tells one server process from the next at the same path: holds a connection, which ends with its process.

    A new connection cannot tell them: where systemd holds the socket, it waits for the next process.
    """

    def __init__(self, path: str, question: str) -> None:
        self._http = Http(path, keep=1)
        self._question = question
        self._number = 0
        self._ends: dict[int, float] = {}
        self._lock = Lock()

    def number(self, *, timeout_s: float) -> int:
        """Return the number of the process that answers, which is another for each."""
        with self._lock:
            if not self._http.is_connected:
                self._ends.setdefault(self._number, time.time())
                self._http.call("GET", self._question, timeout_s=timeout_s)
                self._number += 1
                Thread(target=self._watch, args=(self._number, self._http.idle()), daemon=True).start()
            return self._number

    def end(self, number: int) -> float | None:
        """Return when the process of that number went, by the wall clock; None if it is there, as far as is known."""
        return self._ends.get(number)

    def close(self) -> None:
        """Let go; whoever answers next has another number."""
        for connection in self._http.idle():
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.close()

    def _watch(self, number: int, connections: Sequence[socket.socket]) -> None:
        with contextlib.suppress(OSError, ValueError):
            for connection in connections:
                _is_readable(connection, None)
        self._ends.setdefault(number, time.time())


def _is_readable(sock: socket.socket, timeout_ms: int | None = 0) -> bool:
    """Return whether an idle connection has something to tell, which can only be its end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(timeout_ms))
