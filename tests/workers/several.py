"""Several hosts on this machine: their workers, the way of one to Redis, and what all of them tell Celery's clients."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

from tests import servers
from tests.workers.worker import Worker

# LOST_AFTER, one heartbeat more, and the new host's own full period.
TAKEN_OVER_S = 60
_METAS = "celery-task-meta-"


def host(url: str, dockerd: servers.Dockerd, name: str, *, network: str = "", **variables: str) -> Worker:
    """Return the worker of a host with that name, which counts as lost after ten seconds; `network`: its namespace."""
    settings = {"CELERY_DOCKER_LOST_AFTER": "10", "CELERY_DOCKER_RETRY_DELAY": "0", **variables}
    return Worker(url, dockerd, network=network, CELERY_DOCKER_OPTS=f"-n {name}", **settings)


@contextmanager
def announcements(server: servers.RedisServer) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Collect everything that Celery's clients are told, by job and in order."""
    metas: dict[str, list[dict[str, Any]]] = defaultdict(list)
    stopped = Event()
    with server.client(decode_responses=True) as client, client.pubsub(ignore_subscribe_messages=True) as subscription:
        subscription.psubscribe(f"{_METAS}*")

        def listen() -> None:
            while not stopped.is_set():
                announced = subscription.get_message(timeout=0.2)
                if announced is not None:
                    metas[announced["channel"].removeprefix(_METAS)].append(json.loads(announced["data"]))

        listener = Thread(target=listen, daemon=True)
        listener.start()
        try:
            yield metas
        finally:
            stopped.set()
            listener.join()


class Cable:
    """A network of one host's own, with a cable to Redis that can be pulled: nothing gets through, nobody is told.

    Docker is a Unix socket, and stays within reach. Redis listens at this end of the cable too, for as long as it runs.
    """

    def __init__(self, server: servers.RedisServer) -> None:
        token = secrets.token_hex(4)
        self.namespace = f"cdt-{token}"
        self._near = f"cdc{token}"
        network = servers.free_network()
        servers.run("ip", "netns", "add", self.namespace)
        servers.run("ip", "link", "add", self._near, "type", "veth", "peer", "name", "eth0", "netns", self.namespace)
        servers.run("ip", "address", "add", f"{network}.1/24", "dev", self._near)
        servers.run("ip", "-n", self.namespace, "address", "add", f"{network}.2/24", "dev", "eth0")
        servers.run("ip", "-n", self.namespace, "link", "set", "eth0", "up")
        self.mend()
        with server.client() as client:
            client.config_set("protected-mode", "no")
            client.config_set("bind", f"127.0.0.1 {network}.1")
        self.url = f"redis://{network}.1:{server.port}/0"

    def cut(self) -> None:
        servers.run("ip", "link", "set", self._near, "down")

    def mend(self) -> None:
        servers.run("ip", "link", "set", self._near, "up")

    def close(self) -> None:
        servers.run("ip", "link", "delete", self._near)
        servers.run("ip", "netns", "delete", self.namespace)
