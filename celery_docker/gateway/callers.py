"""Who asks: whom the kernel names on a Unix socket, or the account of a token over TCP.

Invariant: over TCP nothing but a token counts. Every user of this host can connect there, and a proxy for everybody
else, so neither an address nor a header of a proxy says who it is.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.core import access, kinds
from celery_docker.core.access import Identity, Rights
from celery_docker.core.tokens import Token, Tokens
from celery_docker.gateway.routing import Refusal
from celery_docker.host.tokenfile import TokenFile

# What the kernel has said to the web server; a request over TCP is without.
IDENTITY = "celery_docker.identity"
# Another one may be an attacker's, who has it lead to 127.0.0.1 in the browser of a user of this host.
_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_ANYBODY = Identity("nobody", access.NOBODY, access.NOBODY, ())
_BEARER = {"WWW-Authenticate": "Bearer"}
_ASK = "send the header Authorization: Bearer TOKEN; the administrator makes one with: celery-docker token add"
_MOST_FAILURES = 10
_FAILURES_S = 60.0

_log = logging.getLogger(__name__)

Caller = tuple[Identity, Rights]


@dataclass
class Failures:
    """Counts the wrong tokens of a minute, whoever shows them.

    Each connection comes from this host, be it a user's or that of a proxy for everybody, so addresses tell nobody
    apart. Hence no limit keeps a right token out: else any stranger could shut out all users of a proxy.
    """

    clock: Callable[[], float] = time.monotonic
    _times: deque[float] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self) -> int:
        """Count one more; return how many these are within a minute, 0 where that is more than are counted."""
        with self._lock:
            now = self.clock()
            while self._times and self._times[0] <= now - _FAILURES_S:
                self._times.popleft()
            if len(self._times) == _MOST_FAILURES:
                return 0
            self._times.append(now)
            return len(self._times)


@dataclass
class Callers:
    """Says who asks; `administrators_gid` is the group of those who may everything, None where there is none."""

    administrators_gid: int | None
    token_file: TokenFile
    failures: Failures = field(default_factory=Failures)
    _told: tuple[str, ...] = ()

    def check_host(self, environ: Mapping[str, Any]) -> None:
        """Raise `Refusal` for a request over TCP that was meant for another host."""
        text = str(environ.get("HTTP_HOST", ""))
        name, colon, port = text.rpartition(":")
        host = name if colon and port.isdecimal() else text
        if IDENTITY not in environ and host.lower() not in _HOSTS:
            raise Refusal(421, f"Host: {kinds.shown(text)} is no name of this service; send Host: localhost")

    def of(self, environ: Mapping[str, Any]) -> Caller:
        """Return who asks, and what he may. Raises `Refusal`, `NotAllowed` and `TokensError`."""
        authorization = environ.get("HTTP_AUTHORIZATION")
        if IDENTITY not in environ:
            return self._of_token(authorization)
        if authorization is not None:
            # Through a proxy at this socket everybody would act as the proxy's user.
            raise Refusal(
                400, "Authorization: tokens are for the TCP socket, here the kernel says who asks; leave it out"
            )
        identity = environ[IDENTITY]
        if identity is None:
            raise Refusal(401, "nobody knows who asks: the kernel names no user of this connection")
        return identity, access.rights_of(identity, self.administrators_gid)

    def anybody(self) -> Caller:
        """Return the caller of what everybody may ask."""
        return _ANYBODY, Rights(frozenset())

    def _of_token(self, authorization: str | None) -> Caller:
        if authorization is None:
            raise Refusal(401, f"a token is missing: {_ASK}", _BEARER)
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal(401, f"the header Authorization names no token: {_ASK}", _BEARER)
        token = self._tokens().find(secret.strip(" "))
        if token is None:
            raise self._failure()
        identity = _account(token)
        return identity, access.rights_of_token(token.rights, identity, token.id)

    def _failure(self) -> Refusal:
        number = self.failures.add()
        if number == 0:
            line = f"this token is not known, as {_MOST_FAILURES} others within a minute; wait a minute, and {_ASK}"
            return Refusal(429, line, {"Retry-After": f"{_FAILURES_S:.0f}"})
        last = "; no more are noted until a minute is over" if number == _MOST_FAILURES else ""
        _log.warning("a token over TCP is not known, number %d within a minute%s", number, last)
        return Refusal(401, f"this token is not known, or was removed: {_ASK}", _BEARER)

    def _tokens(self) -> Tokens:
        try:
            tokens = self.token_file.tokens()
        except errors.TokensError as exc:
            self._tell(str(exc))
            raise
        self._tell(*(f"token: {self.token_file.path} {problem}" for problem in tokens.problems))
        return tokens

    def _tell(self, *lines: str) -> None:
        """Note what is wrong with the file, once for each change."""
        before, self._told = self._told, lines
        for line in lines:
            if line not in before:
                _log.error("%s", line)


def _account(token: Token) -> Identity:
    """Return the identity of a token's account, as this host's lists have it now. Raises `NotAllowed`."""
    try:
        entry = pwd.getpwnam(token.account)
    except KeyError:
        raise errors.NotAllowed(
            f"token {token.id}: this host has no account {kinds.shown(token.account)} any more; ask the administrator"
        ) from None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return Identity(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))
