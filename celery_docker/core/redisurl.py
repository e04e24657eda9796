"""The URL of a Redis: what it may be, which Redis it means, and how it is shown without its password. Pure."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, parse_qs, urlsplit

from celery_docker.core import gatewayurl

TLS_VERIFICATIONS = ("required", "optional", "none")
BROKER_SCHEMES = ("redis", "rediss")
SOCKET_SCHEME = "unix"

_DIGITS = re.compile(r"[0-9]{1,18}")
_SCHEME = re.compile(r"(?:rediss?|valkeys?|unix)\b(?!://)", re.IGNORECASE)
# A URL with a mistake before its password, or with none of its beginning.
_MISSPELT = re.compile(r"\b(rediss?|valkeys?|unix)([^\w\s@]{1,4})(?!\*\*\*@).*@", re.IGNORECASE)
_LOGIN = re.compile(r"(?<!\S)([^\s:@/=]+):(?!\*\*\*@)[^\s/@][^\s@]*@")


def parse(text: str) -> str:
    """Return the URL if a worker can use it; raises `ValueError` that says what is allowed."""
    example = "must look like redis://:PASSWORD@HOST:6379/0, rediss:// for TLS, or unix:///PATH for a socket"
    parts = _split_url(text, example)
    if "sentinel" in parts.scheme or "cluster" in parts.scheme:
        raise ValueError(f"Sentinel and Redis Cluster are not supported; the URL {example}")
    if parts.scheme == SOCKET_SCHEME:
        return _socket_url(text, parts)
    if parts.scheme not in BROKER_SCHEMES or not parts.hostname:
        raise ValueError(example)
    if parts.path.strip("/") and not _DIGITS.fullmatch(parts.path.strip("/")):
        raise ValueError(f"the database after the host must be a number; the URL {example}")
    verification = parse_qs(parts.query).get("ssl_cert_reqs", ["required"])[-1]
    if verification not in TLS_VERIFICATIONS:
        raise ValueError(f"ssl_cert_reqs must be one of {', '.join(TLS_VERIFICATIONS)}")
    return text


def has_scheme(text: str) -> bool:
    """Tell whether a text begins as the URL of a Redis does, whatever else is wrong with it."""
    scheme, mark, _ = text.partition("://")
    return bool(mark) and scheme.lower() in (*BROKER_SCHEMES, SOCKET_SCHEME)


def _socket_url(text: str, parts: SplitResult) -> str:
    """Return the URL of a Unix socket; the database is among its options: there is a path in its place."""
    if parts.path == gatewayurl.SOCKET:
        raise ValueError(f"is the socket of celery-docker-api and no Redis; those who submit write {gatewayurl.URL}")
    options = parse_qs(parts.query, keep_blank_values=True)
    if parts.hostname or not parts.path.strip("/") or set(options) - {"db"}:
        raise ValueError("a socket must look like unix:///PATH or unix://:PASSWORD@/PATH, with ?db=1 for a database")
    if not _DIGITS.fullmatch(options.get("db", ["0"])[-1]):
        raise ValueError("the database of a socket must be a number, as in unix:///PATH?db=1")
    return text


def _split_url(text: str, example: str) -> SplitResult:
    try:
        text.encode()
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as exc:
        raise ValueError(example) from exc
    return parts


def place(url: str) -> str:
    """Return host (or path), port and database of the Redis that a URL means."""
    parts = urlsplit(url)
    if parts.scheme == SOCKET_SCHEME:
        return f"{parts.path}?db={database(url)}"
    return f"{parts.hostname}:{parts.port or 6379}/{database(url)}"


def database(url: str) -> str:
    """Return the number of the database in a Redis URL."""
    parts = urlsplit(url)
    if parts.scheme == SOCKET_SCHEME:
        return parse_qs(parts.query).get("db", ["0"])[-1]
    return parts.path.strip("/") or "0"


def masked(text: str) -> str:
    """Return the text with the passwords of a URL replaced by `***`, also where the URL has a mistake in it.

    Any other text comes back as it is.
    """
    masked_text = re.sub(r"//(?:([^\s:@/]*):)?[^\s]*@", lambda match: f"//{match[1] or ''}:***@", text)
    if masked_text == text or _SCHEME.match(text):
        masked_text = _LOGIN.sub(r"\1:***@", _MISSPELT.sub(r"\1\2***@", masked_text))
    return re.sub(r"(\w*(?:pass?w|secret|token)\w*=)[^\s&]*", r"\1***", masked_text, flags=re.IGNORECASE)
