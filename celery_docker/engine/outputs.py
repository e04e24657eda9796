"""The output of the containers of one Docker: attached to while it comes, or replayed from Docker's log.

A part of the engine: opens the streams that `logstream` takes apart. Must not import docker.
"""

from __future__ import annotations

import contextlib
import http.client
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlencode

from celery_docker import errors
from celery_docker.core import container
from celery_docker.engine import api, faults, locallog, logstream, podman, unixhttp


class Outputs:
    """Opens the output of containers; `details` inspects a container by its id, and returns None if it is gone."""

    def __init__(self, calls: api.Calls, details: Callable[[str], dict[str, Any] | None]) -> None:
        self._calls = calls
        self._details = details
        self._attached: weakref.WeakValueDictionary[str, logstream.LogStream] = weakref.WeakValueDictionary()

    def attach(self, container_id: str) -> logstream.LogStream:
        """Return the output from now on; attached before the start, nothing is lost, however slowly it is read."""
        headers = {"Connection": "Upgrade", "Upgrade": "tcp"}
        opened = self._open("POST", container_id, "attach?stdout=1&stderr=1&stream=1", headers)
        # The answer has no body: what follows it on the connection is the stream.
        stream = self._attached[container_id] = _log_stream(opened, opened.response.fp.read1)
        return stream

    def read_ahead(self, container_id: str) -> None:
        """Read what a container that has ended has left, if it is attached to: Docker does not keep it for long."""
        stream = self._attached.get(container_id)
        if stream is not None:
            stream.read_ahead()

    def replay(self, container_id: str) -> logstream.LogStream:
        """Return the whole log from its beginning, followed while the container runs."""
        return self._log(container_id, follow="1")

    def logged(self, container_id: str, *, until: float) -> dict[container.Stream, int] | None:
        """Return how much of each stream was logged before a moment of the wall clock.

        None where that is not bytes, and with Podman, whose containers log by themselves: nothing is missing.
        Raises `ContainerGone` or `HostError`.
        """
        details = self._details(container_id)
        if details is None or details["HostConfig"]["LogConfig"]["Type"] != locallog.DRIVER:
            return None
        sizes = dict.fromkeys(container.Stream, 0)
        with self._log(container_id, until=f"{until:.9f}") as stream:
            for frame in stream:
                sizes[frame.stream] += len(frame.payload)
        return sizes

    def _open(
        self, method: str, container_id: str, query: str, headers: Mapping[str, str] | None = None
    ) -> unixhttp.Opened:
        """Open a stream: the answer has to begin in time, what follows may take for ever."""
        opened = self._calls.open(method, f"/containers/{container_id}/{query}", headers)
        if opened.response.status >= 400:
            answer = self._calls.read(opened)
            if answer.status == 404:
                raise errors.ContainerGone
            if podman.is_of_start(answer.text):
                command = (self._details(container_id) or {}).get("Path", "")
                raise faults.start_refused(command, None, 500, answer.text, self._calls.service)
            raise self._calls.refused("the output cannot be read", answer)
        opened.connection.sock.settimeout(None)
        return opened

    def _log(self, container_id: str, **options: str) -> logstream.LogStream:
        details = self._details(container_id)
        if details is None:
            raise errors.ContainerGone
        records = self._records(details)
        stamps = {} if records is None else {"timestamps": "1"}
        query = urlencode({"stdout": 1, "stderr": 1, **options, **stamps})
        opened = self._open("GET", container_id, f"logs?{query}")
        return _log_stream(opened, opened.response.read1, records)

    def _records(self, details: Mapping[str, Any]) -> locallog.Records | None:
        """Return what puts line ends back into a container's log; None where Docker gives them all."""
        # The driver is another where an older version of ours made the container.
        if details["HostConfig"]["LogConfig"]["Type"] != locallog.DRIVER:
            return None
        if self._calls.about("/version")["ApiVersion"] != locallog.API_WITHOUT_LINE_ENDS:
            return None
        if details["State"]["Status"] in container.ALIVE:
            return locallog.Records()
        folder = str(self._calls.about("/info")["DockerRootDir"])
        return locallog.Records(locallog.path_of(folder, details["Id"]))


def _log_stream(
    opened: unixhttp.Opened, read1: Callable[[int], bytes], records: locallog.Records | None = None
) -> logstream.LogStream:
    def chunks() -> Iterator[bytes]:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            while chunk := read1(logstream.PIECE_BYTES):
                yield chunk

    return logstream.LogStream(chunks(), opened.connection.sock, opened.close, records)
