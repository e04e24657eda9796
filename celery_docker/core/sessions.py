"""The session of a browser: a cookie that stands for a token until a certain time. Pure.

Nothing of a session is kept: its cookie names the token and the time, with a code that nobody makes without the hash of
that token. Invariant: a session is worth no more than its token, and ends with it.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass

from celery_docker.core.browsers import Headers
from celery_docker.core.tokens import Token, Tokens

KEPT_S = 12 * 3600
COOKIE = "celery-docker-session"
_VALUE = re.compile(r"([0-9a-f]{8})\.([1-9][0-9]{0,11})\.([0-9a-f]{64})", re.ASCII)
# What the hash is the key of; another purpose would have another text.
_PURPOSE = "celery-docker-api session"
_ATTRIBUTES = "HttpOnly; SameSite=Strict; Path=/"


@dataclass(frozen=True)
class Session:
    """A session: the token for which it stands, and the time of its end in seconds since the epoch."""

    token: Token
    until: int


def begun(token: Token, now: float) -> Session:
    """Return a new session of a token."""
    return Session(token, int(now) + KEPT_S)


def of_cookies(headers: Headers, tokens: Tokens, now: float) -> Session | None:
    """Return the session that a request shows; None where it shows none that holds now."""
    match = _VALUE.fullmatch(_cookie(headers))
    if match is None:
        return None
    token_id, until = match[1], int(match[2])
    # It can have no more than its whole time before it, unless the clock was put back.
    if not now < until <= now + KEPT_S:
        return None
    token = next((token for token in tokens.tokens if token.id == token_id), None)
    if token is None or not hmac.compare_digest(match[3], _code(token, until)):
        return None
    return Session(token, until)


def has_cookie(headers: Headers) -> bool:
    """Tell whether a request shows a session, be it one that holds or not."""
    return bool(_cookie(headers))


def set_cookie(headers: Headers, session: Session, *, is_encrypted: bool) -> str:
    """Return the header Set-Cookie of the answer that begins a session."""
    value = f"{session.token.id}.{session.until}.{_code(session.token, session.until)}"
    secure = "; Secure" if is_encrypted else ""
    return f"{_name(headers)}={value}; {_ATTRIBUTES}; Max-Age={KEPT_S}{secure}"


def clear_cookie(headers: Headers) -> str:
    """Return the header Set-Cookie of the answer that ends a session."""
    return f"{_name(headers)}=; {_ATTRIBUTES}; Max-Age=0"


def _cookie(headers: Headers) -> str:
    name = _name(headers)
    pairs = (pair.strip().partition("=") for pair in headers.cookie.split(";"))
    return next((value for key, _, value in pairs if key == name), "")


def _name(headers: Headers) -> str:
    """Return the name of the cookie: a browser keeps one of each for all ports of a name, and services have ports."""
    return f"{COOKIE}-{headers.port}" if headers.port else COOKIE


def _code(token: Token, until: int) -> str:
    text = f"{_PURPOSE} {token.id} {until}"
    return hmac.new(bytes.fromhex(token.digest), text.encode(), "sha256").hexdigest()
