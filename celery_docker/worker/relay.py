"""Revokes that come while a reload is under way: the leaving process subscribes once more and gives systemd the socket.

Celery's control commands are broadcasts, which Redis hands to those who listen and then forgets. The socket collects
them until the next process has it, and carries out those that cancel jobs. A revoke that both have got does no harm.
"""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import json
import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from celery.worker.control import Panel

from celery_docker import errors
from celery_docker.core import broadcast, strictjson
from celery_docker.host import systemd
from celery_docker.store import redislink, subscription

log = logging.getLogger(__name__)

_NAME = "revokes"
_COMMANDS = ("revoke", "terminate")
# A Redis that does not answer for so long has lost what was collected, too.
_LISTENING_WITHIN_S = 60.0
# systemd takes a moment where it is busy; one that does not answer for longer is left alone.
_STORED_WITHIN_S = 2.0
_TURN_S = 0.01


@dataclass(frozen=True)
class Relay:
    """Hands the control commands of one broker from process to process; outside systemd it does nothing."""

    link: redislink.Link
    environ: Mapping[str, str]

    def hand_over(self) -> None:
        """Collect what is broadcast from now on for the next process."""
        if not self.environ.get("NOTIFY_SOCKET"):
            return
        try:
            taken = subscription.opened(self.link, self._channel)
        except errors.CeleryDockerError as exc:
            log.warning("a revoke that comes before the next process listens may get lost: %s", exc)
            return
        if taken is not None and not self._is_stored(taken):
            log.warning("a revoke that comes before the next process listens may get lost: systemd is busy")
        # Once Redis answers this, all that was broadcast before has left it for those who listened before.
        with contextlib.suppress(errors.CeleryDockerError), self.link.translated():
            self.link.client.ping()

    def _is_stored(self, taken: socket.socket) -> bool:
        deadline_s = time.monotonic() + _STORED_WITHIN_S
        while not systemd.store_socket(self.environ, _NAME, taken):
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(_TURN_S)
        return True

    def take_over(self, name: str, is_listening: Callable[[], bool]) -> None:
        """Carry out what the last process has collected for the worker of this name, once this one listens.

        Celery says that it is ready before it has subscribed. For instance, without the wait:
          relay   asks for the end of what was collected, and closes the socket
          client  publishes a revoke, which nobody hears
          loop    subscribes
        """
        deadline_s = time.monotonic() + _LISTENING_WITHIN_S
        stored = systemd.stored_sockets(self.environ, _NAME)
        while stored and not is_listening() and time.monotonic() < deadline_s:
            time.sleep(_TURN_S)
        for taken in stored:
            for text in self._messages(taken):
                _carry_out(text, name)

    def _messages(self, taken: socket.socket) -> list[str]:
        try:
            return subscription.messages(self.link, taken)
        except errors.CeleryDockerError as exc:
            log.warning("revokes that came before this process listened may be lost: %s", exc)
            return []

    @property
    def _channel(self) -> str:
        return f"/{self.link.client.get_connection_kwargs().get('db') or 0}.celery.pidbox"


def _carry_out(text: str, name: str) -> None:
    """Carry out a command that cancels jobs, if it is for this worker; others wait for an answer, and have given up."""
    try:
        envelope = broadcast.parse(text, {command: Panel.data[command] for command in _COMMANDS})
    except strictjson.NotUsable:
        return
    body: dict[str, Any] = json.loads(base64.b64decode(envelope["body"]))
    destination, pattern = body["destination"], body["pattern"]
    if name in destination if destination else fnmatch.fnmatchcase(name, pattern or "*"):
        Panel.data[body["method"]](None, **body["arguments"])
