"""Requests of browsers: by which name one may reach the service, and whether a page of its own has sent it. Pure.

Any website may have a browser send requests to a service that its user can reach, with his cookies and through his
forwarded ports. Invariants: a name that an attacker can have lead here is refused, since his pages would be of the same
origin; what changes something is done for our own page only; no website learns more than what everybody may know.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from celery_docker.core import kinds

# Names that lead to the own computer of whoever asks, whatever a name server says.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
# On every answer: a page of ours loads from here alone, stands in no frame of others, and has no text run as a script.
ANSWER_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_PORTS = {"http": "80", "https": "443"}
_PREFIX, _FETCH = "HTTP_", "HTTP_SEC_FETCH_"
_MARKS = ("HTTP_ORIGIN", "HTTP_COOKIE")
_OWN_SITES = ("", "same-origin", "none")
# A name without a dot is in no attacker's hand; one with a % is the path of a socket, and no name of a host.
_NAME_OF_A_TOOL = re.compile(r"[A-Za-z0-9_-]*|[A-Za-z0-9._-]*%[A-Za-z0-9%._-]*", re.ASCII)
_HOST_NAME = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.ASCII)


@dataclass(frozen=True)
class Headers:
    """The headers of a request by which a browser is known, empty where they are not there.

    `is_browser`: only a browser sends such headers, as all of them do with what changes something.
    """

    host: str = ""
    origin: str = ""
    cookie: str = ""
    fetch_site: str = ""
    if_none_match: str = ""
    is_browser: bool = False

    @property
    def name(self) -> str:
        """The name of the service that was asked, without its port."""
        return _split(self.host)[0]

    @property
    def port(self) -> str:
        """The port that was asked, empty for the usual one."""
        return _split(self.host)[1]


def headers_of(environ: Mapping[str, Any]) -> Headers:
    """Return the headers in the variables of a request (PEP 3333)."""

    def value(name: str) -> str:
        return str(environ.get(_PREFIX + name, ""))

    return Headers(
        host=value("HOST"),
        origin=value("ORIGIN"),
        cookie=value("COOKIE"),
        fetch_site=value("SEC_FETCH_SITE"),
        if_none_match=value("IF_NONE_MATCH"),
        is_browser=any(name in _MARKS or name.startswith(_FETCH) for name in environ),
    )


def foreign_name(headers: Headers, names: Collection[str], *, is_local: bool) -> str:
    """Return the complaint about the header Host of a request that was meant for another service, empty for none.

    `names` are further names of this one, and `is_local` is true on a Unix socket. A browser reaches that through a
    forwarded port, and not each of its requests shows that a browser sent it.
    """
    name = headers.name
    if name in LOOPBACK:
        return ""
    if is_local:
        if not headers.is_browser and _NAME_OF_A_TOOL.fullmatch(name):
            return ""
        return f"{_no_name(headers)}; open http://localhost:PORT/, or send Host: localhost"
    if name in names:
        return ""
    return f"{_no_name(headers)}; send Host: localhost, or have the administrator add it to CELERY_DOCKER_API_HOSTS"


def foreign_site(headers: Headers) -> str:
    """Return the complaint about a request that a browser sent for another website, empty for none."""
    if headers.fetch_site.lower() in _OWN_SITES:
        return ""
    return (
        f"a website asks for this in your browser (Sec-Fetch-Site: {kinds.shown(headers.fetch_site)}); open / instead"
    )


def foreign_origin(headers: Headers) -> str:
    """Return the complaint about a request of a browser that would change something, empty where our page sent it."""
    if not headers.origin:
        return "Origin: is missing, without which a browser may change nothing here; use the page at /, or a token"
    scheme, _, netloc = headers.origin.lower().partition("://")
    if scheme in _PORTS and headers.name and _whole(netloc, scheme) == _whole(headers.host.lower(), scheme):
        return ""
    return (
        f"Origin: {kinds.shown(headers.origin)} is not the Host that was asked, {kinds.shown(headers.host)}; "
        f"a proxy has to pass the Host on, and CELERY_DOCKER_API_HOSTS to name it"
    )


def is_encrypted(headers: Headers) -> bool:
    """True where the browser has a connection with TLS, to a proxy: it says so itself."""
    return headers.origin.lower().startswith("https://")


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names of hosts in a setting, with blanks between; raises `ValueError` that says what is allowed."""
    names = tuple(text.lower().split())
    for name in names:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError(f"must be names of hosts with blanks between, without ports; {kinds.shown(name)} is none")
    return names


def _no_name(headers: Headers) -> str:
    return f"Host: {kinds.shown(headers.host)} is no name of this service"


def _split(host: str) -> tuple[str, str]:
    name, colon, port = host.lower().rpartition(":")
    return (name, port) if colon and port.isascii() and port.isdecimal() else (host.lower(), "")


def _whole(host: str, scheme: str) -> str:
    """Return a host with its port, also where that is the usual one of a scheme."""
    name, port = _split(host)
    return f"{name}:{port or _PORTS[scheme]}"
