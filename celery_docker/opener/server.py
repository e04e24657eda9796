"""The server side of `host.opener`: answers the worker, one question a connection, many at the same time.

Only root and the owner of the socket's file are answered. A process that is killed leaves pins at most, which the
worker's next word about their job removes; nothing is kept in memory. Invariant: it waits for nobody but its selector,
least of all for a process that has a user's rights, which that user may stop.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from celery_docker.opener import answering
from celery_docker.opener.pins import Pins

# That of the first socket from systemd.
_LISTENER = 3
# A file server that is away is no reason to wait for ever.
_TIMEOUT_S = 60
_LOOK_S = 5
_MOST_BYTES = 4 * 2**20
_PEER = struct.Struct("3i")


def main(arguments: Sequence[str]) -> int:
    """Serve the socket that systemd has passed until the process is ended; `arguments` are the folder of the pins."""
    (folder,) = arguments
    pins = Pins(Path(folder))
    os.umask(0o022)
    try:
        pins.prepare()
    except OSError as exc:
        _complain(f"cannot mount {folder}: {exc.strerror}")
        return 1
    with socket.socket(fileno=_LISTENER) as listener:
        listener.setblocking(False)
        return _Server(listener, pins).run()


@dataclass
class _Writable:
    """A connection that has to be writable for the next step."""

    link: socket.socket

    def fileno(self) -> int:
        return self.link.fileno()


@dataclass
class _Call:
    """A connection; each of its steps says what has to be readable or writable for the next."""

    steps: Iterator[socket.socket | _Writable]
    deadline_s: float


class _Server:
    def __init__(self, listener: socket.socket, pins: Pins) -> None:
        self._listener = listener
        self._pins = pins
        self._owner = os.stat(listener.getsockname()).st_uid
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(listener, selectors.EVENT_READ)

    def run(self) -> NoReturn:
        while True:
            for key, _ in self._waiting.select(_LOOK_S):
                if key.data is None:
                    self._accept()
                else:
                    self._waiting.unregister(key.fileobj)
                    self._go_on(key.data)
            self._give_up()
            _bury()

    def _accept(self) -> None:
        with suppress(BlockingIOError):
            link, _ = self._listener.accept()
            _, uid, _ = _PEER.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
            link.setblocking(False)
            if uid in (0, self._owner):
                self._go_on(_Call(_steps(link, self._pins), time.monotonic() + _TIMEOUT_S))
            else:
                link.close()

    def _go_on(self, call: _Call) -> None:
        try:
            step = next(call.steps)
            event = selectors.EVENT_WRITE if isinstance(step, _Writable) else selectors.EVENT_READ
            self._waiting.register(step, event, call)
        except StopIteration:
            pass
        except Exception as exc:  # noqa: BLE001  # nothing that one connection brings ends the others
            _complain(repr(exc))

    def _give_up(self) -> None:
        now = time.monotonic()
        for key in [key for key in self._waiting.get_map().values() if key.data and key.data.deadline_s < now]:
            self._waiting.unregister(key.fileobj)
            try:
                key.data.steps.close()
            except OSError as exc:
                _complain(repr(exc))


def _steps(link: socket.socket, pins: Pins) -> Iterator[socket.socket | _Writable]:
    """Read the question of a connection, and answer it."""
    with link:
        text = b""
        while len(text) < _MOST_BYTES:
            yield link
            piece = link.recv(65536)
            if not piece:
                break
            text += piece
        question = json.loads(text)
        said, descriptors = yield from _answer(question, pins)
        try:
            yield from _sent(link, json.dumps(said).encode(), descriptors)
            # Processes that were forked meanwhile have the connection too, and would keep it open.
            link.shutdown(socket.SHUT_RDWR)
        except (OSError, GeneratorExit) as exc:
            # Whoever asked has given up, and may have let go of the pins before they were there.
            if said.get("pins"):
                pins.release(question["worker"], question["job"])
            if isinstance(exc, GeneratorExit):
                raise
        finally:
            answering.close(descriptors)


def _sent(link: socket.socket, answer: bytes, descriptors: Sequence[int]) -> Iterator[_Writable]:
    """Send an answer, which may be longer than the kernel takes at once. Raises `OSError`."""
    sent = socket.send_fds(link, [answer], descriptors)
    while sent < len(answer):
        yield _Writable(link)
        sent += link.send(answer[sent:])


def _answer(question: Mapping[str, Any], pins: Pins) -> answering.Answer:
    try:
        return (yield from answering.answered(question, pins))
    except OSError as exc:
        return {"failure": exc.strerror or str(exc)}, []


def _bury() -> None:
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _complain(text: str) -> None:
    print(f"celery-docker-open: {text}", file=sys.stderr, flush=True)
