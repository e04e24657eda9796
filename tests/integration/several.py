"""Several hosts on this machine: their workers, the way of one to Redis, and what all of them tell Celery's clients."""

from __future__ import annotations

import json
import select
import socket
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from tests import services
from tests.integration.worker import Worker

# LOST_AFTER, one sign of life more, and the judge's own full period.
JUDGED_S = 60
_METAS = "celery-task-meta-"


def host(url: str, dockerd: services.Dockerd, name: str, **variables: str) -> Worker:
    """Return the worker of a host with that name, which counts as lost after ten seconds."""
    chosen = {"CELERY_DOCKER_LOST_AFTER": "10", "CELERY_DOCKER_RETRY_DELAY": "0", **variables}
    return Worker(url, dockerd, CELERY_DOCKER_OPTS=f"-n {name}", **chosen)


@contextmanager
def told(server: services.RedisServer) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Collect everything that Celery's clients are told, by job and in order."""
    metas: dict[str, list[dict[str, Any]]] = defaultdict(list)
    stopped = Event()
    with server.client(decode_responses=True) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.psubscribe(f"{_METAS}*")

        def listen() -> None:
            while not stopped.is_set():
                said = subscription.get_message(timeout=0.2)
                if said is not None:
                    metas[said["channel"].removeprefix(_METAS)].append(json.loads(said["data"]))

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield metas
        finally:
            stopped.set()
            listener.join()


class Cable:
    """A way to a Redis that can be cut: what is sent then goes nowhere, and no answer comes."""

    def __init__(self, server: services.RedisServer) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._whole = Event()
        self._whole.set()
        self._ends: list[socket.socket] = []
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        """Let new connections through; the old ones are dead by now."""
        self._hang_up()
        self._whole.set()

    def close(self) -> None:
        self._listener.close()
        self._hang_up()

    def _hang_up(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._ends.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                Thread(target=self._carry, args=(near,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        with near, socket.create_connection(("127.0.0.1", self._server.port)) as far, suppress(OSError):
            self._ends += [near, far]
            other = {near: far, far: near}
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if self._whole.is_set():
                        other[ready].sendall(data)
