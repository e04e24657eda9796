"""The URL of a gateway, as a submitter names it in place of Redis'. Pure.

Its socket has a scheme of its own: `unix:///PATH` is a Redis, wherever its socket lies, and a URL says what is spoken
there without anybody being asked. Invariant: a token goes over a network with TLS only.
"""

from __future__ import annotations

from urllib.parse import SplitResult, unquote, urlsplit

SCHEME = "http+unix"
SOCKET = "/run/celery-docker/api.sock"
URL = f"{SCHEME}://{SOCKET}"
PORT = 9809
_TCP_SCHEMES = ("http", "https")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def is_gateway(url: str) -> bool:
    """Tell whether a URL is that of a gateway."""
    return _scheme(url) == SCHEME or needs_token(url)


def needs_token(url: str) -> bool:
    """Tell whether a URL is that of a gateway that knows its users by a token."""
    return _scheme(url) in _TCP_SCHEMES


def is_elsewhere(url: str) -> bool:
    """Tell whether a URL may be that of a gateway on another host: over TCP, or a socket that ssh has brought here."""
    return is_gateway(url) and (needs_token(url) or path(url) != SOCKET)


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower() if "://" in url else ""


def parse(url: str) -> str:
    """Return the URL of a gateway; raises `ValueError` that says what is allowed."""
    if needs_token(url):
        return _parse_tcp(url)
    parts = _split(url)
    if parts.netloc or parts.query or parts.fragment or not parts.path.strip("/"):
        raise ValueError(f"the socket of a gateway must look like {URL}")
    return url


def _parse_tcp(url: str) -> str:
    parts = _split(url)
    if parts.username is not None or parts.password is not None:
        raise ValueError("must have no token in it: put that into a file, see CELERY_DOCKER_TOKEN_FILE in client.conf")
    if not parts.hostname or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError(f"must look like https://HOST, or http://127.0.0.1:{PORT} on its own host")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError(
            f"must begin with https://, for a proxy there that has a certificate: a token would go to {parts.hostname} "
            f"as plain text; behind ssh -L write http://127.0.0.1:{PORT}"
        )
    return url


def _split(url: str) -> SplitResult:
    """Return the parts of a URL, none of one that has none."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        # No name has a part that is empty, or longer than 63 characters.
        (parts.hostname or "").encode("idna")
    except ValueError:
        return urlsplit("")
    return parts


def path(url: str) -> str:
    """Return the path of a gateway's socket."""
    return unquote(urlsplit(url).path)
