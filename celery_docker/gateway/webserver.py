"""The web server: waitress on sockets, with the identity of whoever connects to one in the file system.

The only importer of waitress. Invariants: the identity is what the kernel says of the connection, asked when it is
accepted; a connection carries one request, so that a restart never cuts one off that was sent into it; who sends or
takes nothing for `patience_s` is cut off, earlier where there is no room; users are served in turn, whoever sends more;
where no temporary file can be written, large requests are refused, and large answers stay in memory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import socket
import struct
import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.buffers import BytesIOBasedBuffer, FileBasedBuffer, OverflowableBuffer, TempfileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.server import TcpWSGIServer, UnixWSGIServer
from waitress.task import ErrorTask, Task, ThreadedTaskDispatcher, WSGITask
from waitress.utilities import BadRequest, Error

from celery_docker.core import browsers, wording
from celery_docker.core.access import Identity
from celery_docker.gateway import application, callers
from celery_docker.gateway.lanes import Lanes

MOST_BODY_BYTES = 8 * 2**20
_MOST_HEADER_BYTES = 64 * 1024
_MOST_OF_A_CHUNK_BYTES = 4096
_MOST_CONNECTIONS = 512
_MOST_IN_MEMORY_BYTES = 256 * 1024
# Of one user, so that none keeps the others out.
_MOST_OF_A_USER = 128
# By socket(7); Python has no name for it.
_SO_PEERGROUPS = 59
_MOST_BYTES = 1024
_LOOP_S = 1.0
_CLEANUP_S = 2

WsgiApp = application.Application | application.Closed


class _LastTask(Task):  # type: ignore[misc]  # waitress has no types
    def build_response_header(self) -> bytes:
        # From now on it is the reader's time.
        self.channel.creation_time = time.time()
        # A client of HTTP/1.0 that asks for more requests on this connection would be told yes, and no.
        self.request.headers.pop("CONNECTION", None)
        self.set_close_on_finish()
        return bytes(super().build_response_header())


class _Task(_LastTask, WSGITask):  # type: ignore[misc]
    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if isinstance(self.channel, _LocalChannel):
            environ[callers.IDENTITY] = self.channel.identity
        return environ


class _ErrorTask(_LastTask, ErrorTask):  # type: ignore[misc]
    """The answer to what is no request that an application could see."""

    def execute(self) -> None:
        error = self.request.error
        body = application.encoded(application.refused(error.code, _explained(error.code, str(error.body))).body)
        self.status = f"{error.code} {error.reason}"
        self.response_headers += [("Content-Type", "application/json"), *browsers.ANSWER_HEADERS.items()]
        self.content_length = len(body)
        self.write(b"" if self.request.command == "HEAD" else body)


def _explained(status: int, reason: str) -> str:
    if status == 413:
        return f"the body is larger than {wording.size(MOST_BODY_BYTES)}; send fewer jobs at once"
    if status == 431:
        return f"the header is larger than {wording.size(_MOST_HEADER_BYTES)}; send less"
    if status == 503:
        return f"there is no room for the body: {reason}; make room on the disk of /tmp, or send fewer jobs at once"
    # Waitress repeats a header that it cannot use in quotes, and a token may be in it.
    unquoted, _, _ = reason.partition('"')
    return f"this is no request that can be answered: {unquoted.strip()}"


class _Chunks(ChunkedReceiver):  # type: ignore[misc]
    error: Any

    def received(self, s: bytes) -> int:
        consumed = int(super().received(s))
        # What is behind a size or the last chunk is looked at from its beginning with each piece that comes.
        if max(len(self.control_line), len(self.trailer)) > _MOST_OF_A_CHUNK_BYTES and not self.error:
            self.error = BadRequest("The line of a chunk, or what follows the last, is too long")
        return consumed


class _NoRoom(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


def _move_to_file(buffer: Any) -> None:
    """Move what a buffer of waitress' has in memory to a temporary file. Raises `OSError`; it is as before then."""
    memory, large = buffer.buf, TempfileBasedBuffer()
    place = memory.getfile().tell()
    try:
        FileBasedBuffer.__init__(large, large.file, memory)
        large.file.flush()
    except OSError:
        memory.getfile().seek(place)
        with contextlib.suppress(OSError):
            large.close()
        raise
    buffer.buf = large


class _Body(OverflowableBuffer):  # type: ignore[misc]
    """The body of a request, in a file where it is large. What finds no room there is dropped, and all before it."""

    problem = ""

    def append(self, s: bytes) -> None:
        if self.problem:
            return
        try:
            super().append(s)
            if self.overflowed:
                self.getfile().flush()
        except OSError as exc:
            self.problem = exc.strerror or str(exc)
            with contextlib.suppress(OSError):
                self.close()
            self.buf = BytesIOBasedBuffer()

    def _set_large_buffer(self) -> None:
        _move_to_file(self)
        self.overflowed = True


class _Response(OverflowableBuffer):  # type: ignore[misc]
    """An answer that somebody has not taken yet, in a file where it is large and there is room for one."""

    def _set_large_buffer(self) -> None:
        self.overflowed = True
        with contextlib.suppress(OSError):
            _move_to_file(self)


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    command: str
    completed: bool
    error: Any
    expect_continue: bool
    chunked: bool
    content_length: int
    body_rcv: Any

    def received(self, data: bytes) -> int:
        consumed = int(super().received(data))
        # Only once all of it is there: who still sends might not read the answer.
        if self.completed and self.body_rcv is not None and self.body_rcv.getbuf().problem:
            self.error = _NoRoom(self.body_rcv.getbuf().problem)
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        # Also of a header that cannot be read, so that the answer to HEAD has no body.
        self.command = header_plus.partition(b" ")[0].decode("latin-1")
        try:
            super().parse_header(header_plus)
        except ValueError as exc:  # Such as a number, or an address in the target, that Python cannot read.
            raise ParsingError("Its target or its length is invalid") from exc
        body = _Body(self.adj.inbuf_overflow)
        if self.chunked:
            self.body_rcv = _Chunks(body)
        elif self.body_rcv is not None:
            self.body_rcv.buf = body
        # It would wait for a body that it does not take.
        self.expect_continue = self.expect_continue and (self.chunked or 0 < self.content_length <= MOST_BODY_BYTES)
        # A proxy could take another one of both for the end of the body, and what follows for another's request.
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and "CONTENT_LENGTH" in self.headers):
            raise ParsingError("it has a Transfer-Encoding where only a Content-Length may be, or both")


class _Channel(HTTPChannel):  # type: ignore[misc]
    parser_class = _Parser
    task_class = _Task
    error_task_class = _ErrorTask
    requests: list[_Parser]
    will_close: bool

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        super().__init__(server, sock, addr, adj, map=map)
        self.outbufs = [_Response(adj.outbuf_overflow)]
        server.make_room()


class _LocalChannel(_Channel):
    identity: Identity | None

    def __init__(self, server: Any, sock: socket.socket, addr: Any, adj: Any, map: Any = None) -> None:
        try:
            self.identity = identity_of(sock)
        except OSError:  # An error here would close the socket of all. Who has no identity is refused.
            self.identity = None
        super().__init__(server, sock, addr, adj, map=map)
        uid = None if self.identity is None else self.identity.uid
        others = (other.identity for other in server.active_channels.values())
        if uid != 0 and sum(other is None or other.uid == uid for other in others) > _MOST_OF_A_USER:
            self.will_close = True


class _Server:
    active_channels: dict[int, _Channel]
    patience_s: float

    def make_room(self) -> None:
        """Close the oldest connection that has no whole request, where there are too many: nobody waits for those."""
        if len(self.active_channels) > _MOST_CONNECTIONS:
            idle = (channel for channel in self.active_channels.values() if not channel.requests)
            oldest = next((channel for channel in idle if not channel.will_close), None)
            if oldest is not None:
                oldest.will_close = True

    def maintenance(self, now: float) -> None:
        """Close connections whose request or answer is not through in time, however often a byte comes.

        The time in which the answer was made is nobody's fault but ours, and not counted.
        """
        for channel in self.active_channels.values():
            if not channel.requests and channel.creation_time < now - self.patience_s:
                channel.will_close = True


class _LocalServer(_Server, UnixWSGIServer):  # type: ignore[misc]
    channel_class = _LocalChannel


class _TcpServer(_Server, TcpWSGIServer):  # type: ignore[misc]
    channel_class = _Channel


class WebServer:
    """A web server on sockets that listen already. `run` it in the main thread; `stop` from wherever, a signal too."""

    def __init__(
        self, listening: list[socket.socket], app: WsgiApp, threads: int, *, idle_s: float, patience_s: float
    ) -> None:
        self._map: dict[int, Any] = {}
        self._idle_s = idle_s
        self._is_stopping = False
        adjustments = Adjustments(
            unix_socket="inherited",
            threads=threads,
            ident="",
            expose_tracebacks=False,
            asyncore_use_poll=True,
            # The service's own limit comes first, unless all of those have requests.
            connection_limit=_MOST_CONNECTIONS + _MOST_OF_A_USER,
            cleanup_interval=_CLEANUP_S,
            max_request_body_size=MOST_BODY_BYTES + 1,
            # More of each body and answer lies in a file: every connection may have one.
            inbuf_overflow=_MOST_IN_MEMORY_BYTES,
            outbuf_overflow=_MOST_IN_MEMORY_BYTES,
            max_request_header_size=_MOST_HEADER_BYTES,
            clear_untrusted_proxy_headers=False,
        )
        self._dispatcher = ThreadedTaskDispatcher()
        self._dispatcher.queue = Lanes(_user_of)
        self._dispatcher.set_thread_count(threads)
        self._servers = [self._server(sock, app, adjustments) for sock in listening]
        for server in self._servers:
            server.patience_s = patience_s

    def _server(self, listening: socket.socket, app: WsgiApp, adjustments: Adjustments) -> Any:
        kind = _LocalServer if listening.family == socket.AF_UNIX else _TcpServer
        about = (listening.family, listening.type, listening.proto, listening.getsockname())
        return kind(
            app,
            self._map,
            True,
            listening,
            dispatcher=self._dispatcher,
            adj=adjustments,
            bind_socket=False,
            sockinfo=about,
        )

    def run(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Serve until `stop`, or until nobody has asked anything for `idle_s` seconds; answer what was begun."""
        busy_at_s = clock()
        while True:
            wasyncore.loop(_LOOP_S, True, self._map, 1)
            if any(server.active_channels for server in self._servers):
                busy_at_s = clock()
            elif self._is_stopping or clock() - busy_at_s > self._idle_s:
                break
        # What has connected since waits in the socket, which the service manager holds.
        self._dispatcher.shutdown()
        for server in self._servers:
            server.close()

    def stop(self) -> None:
        """Take no more connections; `run` returns once those that are there have their answers."""
        self._is_stopping = True
        for server in self._servers:
            server.accepting = False
            server.pull_trigger()


def _user_of(channel: _Channel) -> Hashable:
    """Return whose request a channel has: the kernel's user, or over TCP whoever has that token or session."""
    if isinstance(channel, _LocalChannel):
        return channel.identity and channel.identity.uid
    headers = channel.requests[0].headers
    return headers.get("AUTHORIZATION"), headers.get("COOKIE")


def identity_of(sock: socket.socket) -> Identity:
    """Return who has connected, as the kernel says."""
    _, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    uid, gid = uid % 2**32, gid % 2**32
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MOST_BYTES)
    except OSError as exc:
        if exc.errno != errno.ERANGE:
            raise
        # More groups than Python can ask for: those that the host's lists have.
        return Identity(_name(uid), uid, gid, tuple(os.getgrouplist(_name(uid), gid)))
    return Identity(_name(uid), uid, gid, struct.unpack(f"{len(packed) // 4}I", packed))


@lru_cache(maxsize=4096)
def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
