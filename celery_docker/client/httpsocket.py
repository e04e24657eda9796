"""Requests to a gateway, over HTTP on its Unix socket; its errors are ours again.

Invariant: every request may be sent twice, so one that a restart of the gateway cut off is sent once more.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from celery_docker import errors
from celery_docker.core import wording

_TIMEOUT_S = 60
_TRIES = 3
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
        errors.StoreRefused,
    )
}


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True)
class HttpSocket:
    """A gateway by the path of its socket. Each call raises `StoreAway` where it does not answer, and what it says."""

    path: str

    def get(self, *place: str, **query: object) -> Any:
        """Return what is at a place, such as `jobs`, ID, `logs`; a list in the query is written with commas."""
        pairs = {name: ",".join(value) if isinstance(value, list) else value for name, value in query.items()}
        text = urlencode({name: value for name, value in pairs.items() if value is not None}, safe=",")
        return self.send("GET", *place, query=text)

    def send(self, method: str, *place: str, body: Mapping[str, Any] | None = None, query: str = "") -> Any:
        """Send a request and return what is answered."""
        target = "/".join([_API, *(quote(part, safe="") for part in place)]) + (f"?{query}" if query else "")
        text = None if body is None else json.dumps(body).encode()
        for _ in range(_TRIES - 1):
            try:
                return self._answer(method, target, text)
            except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected, http.client.IncompleteRead):
                continue  # It ended, and another one answers.
            except (OSError, http.client.HTTPException) as exc:
                raise self._away(exc) from exc
        try:
            return self._answer(method, target, text)
        except (OSError, http.client.HTTPException) as exc:
            raise self._away(exc) from exc

    def _answer(self, method: str, target: str, text: bytes | None) -> Any:
        connection = _Connection(self.path)
        try:
            connection.request(method, target, text)
            answer = connection.getresponse()
            status, words = answer.status, answer.read()
        finally:
            connection.close()
        try:
            body = json.loads(words) if words else None
        except ValueError as exc:
            raise errors.StoreRefused(f"{self.path} is not the socket of celery-docker-api; correct the URL") from exc
        if status < 400:
            return body
        line = str(body.get("error")) if isinstance(body, dict) else f"status {status}"
        kind = str(body.get("kind")) if isinstance(body, dict) else ""
        raise _KINDS.get(kind, errors.StoreRefused if status < 500 else errors.StoreAway)(line)

    def _away(self, exc: Exception) -> errors.StoreAway:
        why = exc.strerror if isinstance(exc, OSError) and exc.strerror else wording.one_line(str(exc), 120)
        remedy = "turn it on with: systemctl enable --now celery-docker-api.socket, or correct the URL"
        return errors.StoreAway(f"cannot reach celery-docker-api at {self.path}: {why}; {remedy}")
