"""The URL of a gateway, as a submitter names it in place of Redis'. Pure.

It has a scheme of its own: `unix:///PATH` is a Redis, wherever its socket lies, and a URL says what is spoken there
without anybody being asked.
"""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

SCHEME = "http+unix"
SOCKET = "/run/celery-docker/api.sock"
URL = f"{SCHEME}://{SOCKET}"


def is_gateway(url: str) -> bool:
    """Tell whether a URL is that of a gateway."""
    return url.partition("://")[0].lower() == SCHEME


def parse(url: str) -> str:
    """Return the URL of a gateway; raises `ValueError` that says what is allowed."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.netloc or parts.query or parts.fragment or not parts.path.strip("/"):
        raise ValueError(f"the socket of a gateway must look like {URL}")
    return url


def path(url: str) -> str:
    """Return the path of a gateway's socket."""
    return unquote(urlsplit(url).path)
