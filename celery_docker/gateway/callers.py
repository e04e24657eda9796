"""Who asks: whom the kernel names on a Unix socket, or the account of a token over TCP.

Invariants: over TCP nothing but a token counts, or a session that was begun with one. Every user of this host can
connect there, and a proxy for everybody else, so neither an address nor a header of a proxy says who it is. Of what a
browser sends only that counts which a page of this service has sent, also where the kernel says who has connected.
"""

from __future__ import annotations

import logging
import os
import pwd
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from celery_docker import errors
from celery_docker.core import access, browsers, kinds, sessions
from celery_docker.core.access import Identity, Rights
from celery_docker.core.browsers import Headers
from celery_docker.core.tokens import Token, Tokens
from celery_docker.gateway.routing import Refusal
from celery_docker.host.tokenfile import TokenFile

# What the kernel has said to the web server; a request over TCP is without.
IDENTITY = "celery_docker.identity"
_ANYBODY = Identity("nobody", access.NOBODY, access.NOBODY, ())
_AUTHORIZATION = "HTTP_AUTHORIZATION"
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
    """Says who asks; `administrators_gid` is the group of those who may everything, None where there is none.

    `names` are those that the service has over TCP besides the usual ones; `clock` returns seconds since the epoch.
    """

    administrators_gid: int | None
    token_file: TokenFile
    failures: Failures = field(default_factory=Failures)
    names: Collection[str] = ()
    clock: Callable[[], float] = time.time
    _told: tuple[str, ...] = ()

    def check_host(self, environ: Mapping[str, Any], headers: Headers) -> None:
        """Raise `Refusal` for a request that was meant for another service."""
        complaint = browsers.foreign_name(headers, self.names, is_local=IDENTITY in environ)
        if complaint:
            raise Refusal(421, complaint)

    def check_page(self, environ: Mapping[str, Any], headers: Headers, *, is_change: bool) -> None:
        """Raise `Refusal` for what a browser sends for a page that is not ours."""
        complaint = browsers.foreign_site(headers)
        # No page can send a token that it does not have.
        if is_change and headers.is_browser and _AUTHORIZATION not in environ:
            complaint = complaint or browsers.foreign_origin(headers)
        if complaint:
            raise Refusal(403, complaint)

    def of(self, environ: Mapping[str, Any], headers: Headers) -> Caller:
        """Return who asks, and what he may. Raises `Refusal`, `NotAllowed` and `TokensError`."""
        authorization = environ.get(_AUTHORIZATION)
        if IDENTITY not in environ:
            return self._of_token(authorization) if authorization is not None else self._of_session(headers)
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

    def token(self, secret: str) -> Token:
        """Return the token that somebody shows. Raises `Refusal` and `TokensError`."""
        token = self._tokens().find(secret)
        if token is None:
            raise self._failure()
        return token

    def of_shown(self, token: Token, until: float | None = None) -> Caller:
        """Return who a token, or a session until some time, stands for. Raises `NotAllowed`."""
        identity = _account(token)
        rights = access.rights_of_token(token.rights, identity, token.id)
        return identity, replace(rights, until=until)

    def _of_session(self, headers: Headers) -> Caller:
        if not sessions.has_cookie(headers):
            raise Refusal(401, f"a token is missing: {_ASK}", _BEARER)
        session = sessions.of_cookies(headers, self._tokens(), self.clock())
        if session is None:
            raise Refusal(401, "this session has ended, or its token was removed; log in again", _BEARER)
        return self.of_shown(session.token, session.until)

    def _of_token(self, authorization: str) -> Caller:
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Refusal(401, f"the header Authorization names no token: {_ASK}", _BEARER)
        return self.of_shown(self.token(secret.strip(" ")))

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
