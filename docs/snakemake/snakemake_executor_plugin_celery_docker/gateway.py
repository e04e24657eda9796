"""The way to celery-docker-api: over the Unix socket of this host, or over TLS with the user's token.

Needs the standard library only: it runs in the user's own environment, with another Python than celery-docker's.
Invariants: a request may be sent twice; no message has the token in it.
"""

from __future__ import annotations

import base64
import functools
import http.client
import json
import os
import socket
import ssl
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

SOCKET_URL = "http+unix:///run/celery-docker/api.sock"
URL_VARIABLE, TOKEN_VARIABLE = "CELERY_DOCKER_BROKER_URL", "CELERY_DOCKER_TOKEN"
SYSTEM_FILE = "/etc/celery-docker/client.conf"
# The states of a job that has not ended; one that a newer service has counts as an end once there is a receipt.
UNENDED = ("queued", "starting", "running")
SUCCEEDED = "succeeded"
_API = "/api/v1"
_MOST_COMPLAINT_BYTES = 16_384
_TIMEOUT_S = 30.0
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
# So that a request fits into the line that a proxy takes (8 KiB), and into what the service takes at once.
_IDS_AT_ONCE, _RECEIPTS_AT_ONCE, _CANCELS_AT_ONCE = 200, 100, 1000


class Away(Exception):
    """The service, or what it needs, does not answer now; the same request can be sent again."""


class Refused(Exception):
    """The service does not want the request, and says why in one line."""


@dataclass(frozen=True)
class Gateway:
    """The service at a URL; `token` is for one that is reached over TCP. Each call raises `Away` or `Refused`."""

    url: str
    token: str = field(default="", repr=False)
    timeout_s: float = _TIMEOUT_S

    def ask(self, method: str, place: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the table that a request is answered with."""
        connection = self._connection()
        text = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            connection.request(method, f"{self._base}{_API}/{place}", text, headers)
            answer = connection.getresponse()
            status, words = answer.status, answer.read()
        except ssl.SSLCertVerificationError as exc:
            raise Refused(
                f"the certificate of {self.url} is not valid: {exc.verify_message}; correct the URL, or let "
                "SSL_CERT_FILE name a file with what it was signed with, such as /etc/ssl/certs/ca-certificates.crt"
            ) from exc
        except (OSError, http.client.HTTPException) as exc:
            raise Away(f"{self.url}: {getattr(exc, 'strerror', None) or exc or type(exc).__name__}") from exc
        finally:
            connection.close()
        return _table(self.url, status, words)

    def submit(self, job_id: str, document: Mapping[str, Any]) -> None:
        """Queue a job under an id; one that is there already stays as it is."""
        try:
            self.ask("POST", "jobs", {"jobs": [document], "ids": [job_id]})
        except Refused as exc:
            raise Refused(str(exc).removeprefix("jobs[0]: ")) from exc

    def states(self, job_ids: Sequence[str]) -> dict[str, str | None]:
        """Return the state of each job, None for one that is not there."""
        states: dict[str, str | None] = {}
        for part in _parts(job_ids, _IDS_AT_ONCE):
            answer = self._listed("GET", f"states?ids={','.join(part)}", "states")
            states.update(zip(part, answer, strict=False))
        return states

    def receipts(self, job_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the receipts of those of the jobs that have ended."""
        receipts: dict[str, Mapping[str, Any]] = {}
        for part in _parts(job_ids, _RECEIPTS_AT_ONCE):
            answer = self._listed("GET", f"receipts?ids={','.join(part)}", "receipts")
            pairs = zip(part, answer, strict=False)
            receipts.update({job_id: receipt for job_id, receipt in pairs if receipt})
        return receipts

    def cancel(self, job_ids: Sequence[str], reason: str) -> dict[str, str]:
        """Cancel jobs; return the state that each was in, `unknown` for one that is not there."""
        states: dict[str, str] = {}
        for part in _parts(job_ids, _CANCELS_AT_ONCE):
            answer = self._listed("POST", "cancel", "jobs", {"ids": part, "reason": reason})
            states.update({entry["id"]: entry["state"] for entry in answer})
        return states

    def wait_of(self, job_id: str) -> tuple[str, str]:
        """Return for what a job waits, as one word and in words; empty for one that waits for nothing."""
        (wait,) = [entry.get("wait") for entry in self._listed("GET", f"jobs?ids={job_id}", "jobs")] or [None]
        return ("", "") if not wait else (str(wait.get("kind")), str(wait.get("reason")))

    def complaint(self, job_id: str) -> str:
        """Return the end of what a job has written to its standard error, else to its standard output."""
        texts: dict[str, bytes] = {"stderr": b"", "stdout": b""}
        last, has_ended = "0-0", False
        while not has_ended:
            answer = self.ask("GET", f"jobs/{job_id}/logs?after={last}")
            for piece in answer.get("pieces", ()):
                text = texts.get(piece["stream"], b"") + base64.b64decode(piece["base64"])
                texts[piece["stream"]] = text[-_MOST_COMPLAINT_BYTES:]
            end = str(answer.get("last") or last)
            has_ended, last = end == last, end
        return (texts["stderr"].strip() or texts["stdout"]).decode("utf-8", "replace")

    def _listed(self, method: str, place: str, name: str, body: Mapping[str, Any] | None = None) -> list[Any]:
        """Return the list that an answer has under a name."""
        entries = self.ask(method, place, body).get(name)
        if not isinstance(entries, list):
            raise Refused(f"{self.url} does not answer as celery-docker-api does: it has no {name}")
        return entries

    @property
    def _base(self) -> str:
        return "" if _is_socket(self.url) else urlsplit(self.url).path.rstrip("/")

    def _connection(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if _is_socket(self.url):
            return _SocketConnection(unquote(parts.path), self.timeout_s)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=self.timeout_s)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=self.timeout_s, context=_certificates()
        )


@functools.cache
def _certificates() -> ssl.SSLContext:
    """Return those that this Python trusts; they take a while to read."""
    return ssl.create_default_context()


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _table(url: str, status: int, words: bytes) -> dict[str, Any]:
    try:
        body = json.loads(words)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        # A proxy answers so while the service is away; anything else is another program.
        kind = Away if status >= 500 else Refused
        raise kind(f"{url} does not answer as celery-docker-api does (status {status}); correct the URL")
    if 200 <= status < 300:
        return body
    kind = Away if status >= 500 or status == 429 else Refused
    raise kind(str(body.get("error", f"status {status}")))


def _parts(names: Sequence[str], most: int) -> list[list[str]]:
    return [list(names[first : first + most]) for first in range(0, len(names), most)]


def of(environ: Mapping[str, str], url: str | None = None) -> Gateway:
    """Return the service that the settings name: an argument, the environment, the user's file, that of the host.

    A Redis among them is not for this client, and passed over. Raises `ValueError` that says what to set.
    """
    folder = _config_folder(environ)
    layers = [settings(Path(SYSTEM_FILE)), settings(folder / "client.conf") if folder else {}, environ]
    named = [layer.get(URL_VARIABLE, "").strip() for layer in layers]
    given = [text for text in [*named, url or ""] if text and not text.startswith(("redis:", "rediss:", "unix:"))]
    chosen = checked_url(given[-1] if given else SOCKET_URL)
    if _is_socket(chosen):
        return Gateway(chosen)
    files = [layer.get(f"{TOKEN_VARIABLE}_FILE", "").strip() for layer in layers]
    default = str(folder / "token") if folder else ""
    path = next((text for text in reversed(files) if text), default)
    return Gateway(chosen, environ.get(TOKEN_VARIABLE, "").strip() or _token(path))


def checked_url(url: str) -> str:
    """Return the URL of a service; raises `ValueError` that says what is allowed."""
    parts = urlsplit(url)
    if _is_socket(url) and parts.path.strip("/") and not parts.netloc:
        return url
    if parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)):
        if parts.username is None and parts.password is None:
            return url
        raise ValueError(f"the URL of celery-docker-api has no token in it: put that into {TOKEN_VARIABLE}_FILE")
    raise ValueError(f"{url!r} is no URL of celery-docker-api; write {SOCKET_URL}, or https://HOST")


def settings(path: Path) -> dict[str, str]:
    """Return the KEY=value lines of a file, none of one that is not there."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return {}
    # The name of a comment begins with its mark, and is nobody's.
    pairs = [line.partition("=")[::2] for line in lines]
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def _token(path: str) -> str:
    if not path:
        raise ValueError(f"there is no token: set {TOKEN_VARIABLE}, or {TOKEN_VARIABLE}_FILE to a file that has it")
    try:
        with open(path, encoding="utf-8-sig") as file:
            about = os.fstat(file.fileno())
            text = file.read(1000).strip()
    except OSError as exc:
        raise ValueError(f"cannot read the token in {path}: {exc.strerror}; put it there, with mode 0600") from exc
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o007 or (about.st_uid == os.geteuid() and mode & 0o070):
        raise ValueError(f"{path} has mode {mode:04o}, so others can use the token in it; chmod 0600 {path}")
    if not text.isascii() or not text.isprintable() or " " in text or not text:
        raise ValueError(f"{path} has no token as celery-docker token add prints it; copy all of it")
    return text


def _config_folder(environ: Mapping[str, str]) -> Path | None:
    folder, home = environ.get("XDG_CONFIG_HOME", ""), environ.get("HOME", "")
    if folder.startswith("/"):
        return Path(folder, "celery-docker")
    return Path(home, ".config/celery-docker") if home.startswith("/") else None


def _is_socket(url: str) -> bool:
    return url.startswith("http+unix:")
