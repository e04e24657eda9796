"""Sends a notice to its target: a mail, a command, or a POST to a URL.

Owns what is sent, and what counts as taken. A URL comes from `notify.toml` alone; a redirect is not followed.
Invariant: a call ends in bounded time, and no URL is in its complaint.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from celery_docker import errors
from celery_docker.core import noticefile, noticetargets
from celery_docker.core.notice import SEND_TIMEOUT_S, Notice
from celery_docker.host import programs

_CONNECT_S = 10.0
_MOST_HEAD_BYTES = 65_536


@dataclass(frozen=True)
class Messenger:
    """Sends notices from any thread, to targets of the file `path`.

    Programs are started by celery-docker-notify, which listens at `socket_path`; where it does not, right here, and
    `sendmail` is what sends mail.
    """

    path: str = noticefile.FILE
    socket_path: str = programs.SOCKET
    sendmail: str = programs.SENDMAIL

    def send(self, target: str, notice: Notice) -> None:
        """Send a notice to a target. Raises `NotSent` where that fails, `CannotSend` where this host has no way."""
        if noticetargets.is_address(target):
            self._start(target, notice.as_mail(target), notice)
            return
        named = programs.named(self.path, target)
        if named.url:
            _post(named.url, notice)
        else:
            self._start(target, notice.as_json(), notice)

    def _start(self, target: str, text: str, notice: Notice) -> None:
        question = programs.Question(target, text, notice.notice_id, notice.line)
        if os.path.exists(self.socket_path):
            programs.ask(question, self.socket_path)
        else:
            programs.start(question, self.path, self.sendmail)


def _post(url: str, notice: Notice) -> None:
    parts = urlsplit(url)
    deadline_s = time.monotonic() + SEND_TIMEOUT_S
    try:
        with _connected(parts) as link:
            link.sendall(_request(parts, notice))
            status = _status(link, deadline_s)
    except (OSError, ValueError) as exc:
        # Its words may be those of the other side, but the URL is not in them.
        raise errors.NotSent(f"{parts.hostname} cannot be reached: {_words(exc)}") from exc
    if not 200 <= status < 300:
        raise errors.NotSent(f"{parts.hostname} answered with HTTP status {status}")


def _connected(parts: SplitResult) -> socket.socket:
    is_tls = parts.scheme == "https"
    link = socket.create_connection((str(parts.hostname), parts.port or (443 if is_tls else 80)), _CONNECT_S)
    if not is_tls:
        return link
    try:
        return ssl.create_default_context().wrap_socket(link, server_hostname=parts.hostname)
    except BaseException:
        link.close()
        raise


def _request(parts: SplitResult, notice: Notice) -> bytes:
    body = notice.as_json().encode()
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"Idempotency-Key: {notice.notice_id}",
        "User-Agent: celery-docker",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


def _status(link: socket.socket, deadline_s: float) -> int:
    """Return the status of an answer, of which nothing else is read: its sender may go on for ever."""
    head = b""
    while b"\n" not in head:
        link.settimeout(max(0.001, deadline_s - time.monotonic()))
        piece = link.recv(4096)
        if not piece or len(head) > _MOST_HEAD_BYTES:
            raise ValueError("it gave no answer")
        head += piece
    version, _, rest = head.partition(b" ")
    if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
        raise ValueError("it speaks no HTTP")
    return int(rest[:3])


def _words(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    return str(getattr(exc, "strerror", None) or exc)
