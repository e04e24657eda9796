"""A gate on the way to Docker: the first request of one kind stops there, half through or before its answer."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

from tests import servers

_CHUNK = 2**16


class Gate(servers.DockerSocket):
    """Hands everything on between a socket of its own and Docker's, but for the first request like `stops`.

    `stops` is a pattern for the beginning of a request, such as `PUT .*/archive`. Docker gets the first half of it, and
    the other after `go_on`; with `answered` it gets the whole, and its answer waits. `reached` is set once one stops.
    """

    def __init__(self, dockerd: servers.DockerSocket, stops: str, *, answered: bool) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cdt-gate-", dir="/tmp"))
        super().__init__(self._folder / "docker.sock")
        self.reached, self._open = Event(), Event()
        self._dockerd, self._stops, self._answered = dockerd, re.compile(stops.encode()), answered
        self._closing = False
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(128)

    def go_on(self) -> None:
        """Open the gate, for good."""
        self._open.set()

    def cut(self) -> None:
        """Close all connections: what waits at the gate never goes on."""
        for connection in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._open.set()
        for connection in self._connections:
            connection.close()
        shutil.rmtree(self._folder)

    def _accept(self) -> None:
        while not self._closing:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(str(self._dockerd.socket))
            self._connections += [near, far]
            waits = Event()
            asks, answers = partial(self._ask, waits, far), partial(self._answer, waits, near)
            for source, target, send in ((near, far, asks), (far, near, answers)):
                Thread(target=_copy, args=(source, target, send), daemon=True).start()

    def _ask(self, waits: Event, far: socket.socket, data: bytes) -> None:
        if self.reached.is_set() or not self._stops.match(data):
            far.sendall(data)
        elif self._answered:
            waits.set()
            far.sendall(data)
            self.reached.set()
        else:
            half = len(data) // 2
            far.sendall(data[:half])
            self.reached.set()
            self._open.wait()
            far.sendall(data[half:])

    def _answer(self, waits: Event, near: socket.socket, data: bytes) -> None:
        if waits.is_set():
            self._open.wait()
        near.sendall(data)


def _copy(source: socket.socket, target: socket.socket, send: Callable[[bytes], None]) -> None:
    """Send all that comes, and end both then."""
    with suppress(OSError):
        while data := source.recv(_CHUNK):
            send(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
