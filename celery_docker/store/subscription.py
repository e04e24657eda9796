"""A subscription in Redis that outlives its process: the socket is handed on, with what comes to it meanwhile."""

from __future__ import annotations

import socket
from typing import Any

from celery_docker.store import redislink

_END = "end"


def opened(link: redislink.Link, channel: str) -> socket.socket | None:
    """Return the socket of a new subscription; None over TLS, where a connection cannot change its process.

    Raises `StoreAway` or `StoreRefused`.
    """
    with link.translated():
        connection = _connection(link)
        connection.connect()
        taken: socket.socket = connection._sock
        if type(taken) is not socket.socket:
            connection.disconnect()
            return None
        _send(connection, "SUBSCRIBE", channel)
        connection.read_response()
        # The library would close it with the connection.
        connection._sock = None
        return taken


def messages(link: redislink.Link, taken: socket.socket) -> list[str]:
    """Return all that has come to a subscription of another process until now, and end it.

    Raises `StoreAway` or `StoreRefused`.
    """
    texts = []
    with link.translated(), taken:
        taken.settimeout(redislink.CALL_TIMEOUT_S)
        connection = _connection(link)
        connection._sock = taken
        connection._parser.on_connect(connection)
        # Its answer comes after everything that was published before.
        _send(connection, "PING", _END)
        while (answer := connection.read_response()) != ["pong", _END]:
            if answer[0] == "message":
                texts.append(str(answer[2]))
        taken.shutdown(socket.SHUT_RDWR)
    return texts


def _connection(link: redislink.Link) -> Any:
    """Return a connection that is not connected, and speaks the protocol that every version of the library reads."""
    pool = link.client.connection_pool
    options = {name: value for name, value in pool.connection_kwargs.items() if "maint_notifications" not in name}
    return pool.connection_class(**{**options, "protocol": 2})


def _send(connection: Any, *words: str) -> None:
    connection.send_packed_command(connection.pack_command(*words), check_health=False)
