"""Login and logout of a browser: a token is shown once, and the cookie of a session stands for it from then on.

Invariant: nothing of a session is kept here, so it outlives this process, and no other one has to know of it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery_docker.core import browsers, sessions
from celery_docker.gateway import bodies, overview
from celery_docker.gateway.callers import Callers
from celery_docker.gateway.routing import Answer, Refusal, Request

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sessions:
    """The handlers of login and logout."""

    callers: Callers

    def login(self, request: Request) -> Answer:
        """Begin a session with a token. Raises `Refusal`, `SpecError`, `NotAllowed` and `TokensError`."""
        _check_origin(request)
        if request.is_local:
            raise Refusal(400, "tokens are for the TCP socket, here the kernel says who asks: there is no login")
        session = sessions.begun(self.callers.token(bodies.token(request.body)), self.callers.clock())
        identity, rights = self.callers.of_shown(session.token, session.until)
        _log.info("%s (uid %d, token %s): begins a session", identity.name, identity.uid, rights.token)
        is_encrypted = browsers.is_encrypted(request.headers)
        cookie = sessions.set_cookie(request.headers, session, is_encrypted=is_encrypted)
        return _answer(overview.identity_json(identity, rights), cookie)

    def logout(self, request: Request) -> Answer:
        """Have the browser forget its session, if it has one."""
        _check_origin(request)
        return _answer({}, sessions.clear_cookie(request.headers))


def _check_origin(request: Request) -> None:
    """Raise `Refusal` where another website wants a browser to be somebody here, or nobody."""
    complaint = browsers.foreign_site(request.headers) or browsers.foreign_origin(request.headers)
    if complaint:
        raise Refusal(403, complaint)


def _answer(body: dict[str, object], cookie: str) -> Answer:
    return Answer(body, headers={"Set-Cookie": cookie})
