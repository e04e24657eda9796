"""Requests of browsers: by which name one may reach the service, and whether our own page has sent it."""

from __future__ import annotations

import re

import pytest

from celery_docker.core import browsers
from celery_docker.core.browsers import Headers

NAMES = ("jobs.example.org",)
SITE = {"HTTP_SEC_FETCH_SITE": "same-origin"}


def headers(host: str, **more: str) -> Headers:
    return browsers.headers_of({"HTTP_HOST": host, **more})


@pytest.mark.parametrize(
    ("environ", "is_browser"),
    [
        ({"HTTP_HOST": "host"}, False),
        ({"HTTP_HOST": "host", "HTTP_USER_AGENT": "curl", "HTTP_ACCEPT": "*/*", "HTTP_REFERER": "x"}, False),
        ({"HTTP_ORIGIN": ""}, True),
        ({"HTTP_COOKIE": "a=b"}, True),
        ({"HTTP_SEC_FETCH_SITE": "none"}, True),
        ({"HTTP_SEC_FETCH_DEST": "document"}, True),
        ({"HTTP_SEC_FETCH_OF_A_LATER_TIME": "1"}, True),
    ],
)
def test_headers_that_only_browsers_send(environ: dict[str, str], is_browser: bool) -> None:
    assert browsers.headers_of(environ).is_browser is is_browser


OWN = ["localhost", "127.0.0.1", "[::1]", "localhost:9809", "127.0.0.1:1", "[::1]:9809", "LOCALHOST"]
# What an attacker can have lead to 127.0.0.1, or to what a user has forwarded, and what is no host.
FOREIGN = [
    "evil.example",
    "evil.example:9809",
    "localhost.evil.example",
    "127.0.0.1.nip.io",
    "localhost:",
    "127.0.0.1.",
    "127.1",
    "0.0.0.0",  # noqa: S104  # it leads to the own computer too
    "[::1",
    "::1",
    "[::ffff:127.0.0.1]",
    "a, localhost",
    "evil.example\0localhost",
    "localhost@evil.example",
    "\uff4cocalhost",
    "localhost:\u0663",
]


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("more", [{}, {"HTTP_ORIGIN": "x"}, SITE])
@pytest.mark.parametrize("host", OWN)
def test_names_of_the_own_computer(host: str, more: dict[str, str], is_local: bool) -> None:
    assert browsers.foreign_name(headers(host, **more), (), is_local=is_local) == ""


@pytest.mark.parametrize("is_local", [True, False])
@pytest.mark.parametrize("more", [{}, {"HTTP_COOKIE": "x"}])
@pytest.mark.parametrize("host", FOREIGN)
def test_names_of_others(host: str, more: dict[str, str], is_local: bool) -> None:
    """On the Unix socket too, without a mark of a browser: what a page asks of its own name in plain HTTP has none."""
    complaint = browsers.foreign_name(headers(host, **more), NAMES, is_local=is_local)
    assert re.fullmatch(r"Host: '.*' is no name of this service; .*", complaint)


@pytest.mark.parametrize("host", ["host", "host:80", "", "docker", "%2Frun%2Fcelery-docker%2Fapi.sock"])
def test_names_that_programs_write_for_a_unix_socket(host: str) -> None:
    assert browsers.foreign_name(headers(host), (), is_local=True) == ""
    assert "no name of this service" in browsers.foreign_name(headers(host), (), is_local=False)
    for mark in ({"HTTP_ORIGIN": f"http://{host}"}, SITE, {"HTTP_COOKIE": "a"}):
        assert "open http://localhost:PORT/" in browsers.foreign_name(headers(host, **mark), (), is_local=True)


def test_names_that_the_administrator_has_added_are_for_tcp() -> None:
    for host in ("jobs.example.org", "Jobs.Example.org:8443"):
        assert browsers.foreign_name(headers(host), NAMES, is_local=False) == ""
        assert browsers.foreign_name(headers(host), NAMES, is_local=True) != ""
    assert browsers.foreign_name(headers("www.jobs.example.org"), NAMES, is_local=False) != ""


@pytest.mark.parametrize(
    ("site", "is_foreign"),
    [("", False), ("none", False), ("same-origin", False), ("same-site", True), ("cross-site", True), ("x", True)],
)
def test_what_another_website_asks(site: str, is_foreign: bool) -> None:
    assert bool(browsers.foreign_site(headers("localhost", HTTP_SEC_FETCH_SITE=site))) is is_foreign


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:9809", "localhost:9809"),
        ("http://LOCALHOST:9809", "localhost:9809"),
        ("http://[::1]:9809", "[::1]:9809"),
        ("http://localhost", "localhost"),
        ("http://localhost", "localhost:80"),
        ("https://jobs.example.org", "jobs.example.org"),
        ("https://jobs.example.org", "jobs.example.org:443"),
        ("https://jobs.example.org:8443", "jobs.example.org:8443"),
    ],
)
def test_the_page_itself(origin: str, host: str) -> None:
    assert browsers.foreign_origin(headers(host, HTTP_ORIGIN=origin)) == ""


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("", "localhost"),
        ("null", "localhost"),
        ("null", "null"),
        ("http://evil.example", "localhost:9809"),
        ("http://localhost:8000", "localhost:9809"),
        ("http://localhost", "localhost:9809"),
        ("http://127.0.0.1:9809", "localhost:9809"),
        ("http://localhost:9809.evil.example", "localhost:9809"),
        ("http://evil.example/http://localhost:9809", "localhost:9809"),
        ("http://localhost:9809@evil.example", "localhost:9809"),
        ("http://jobs.example.org", "jobs.example.org:443"),
        ("https://jobs.example.org", "localhost"),
        ("http://", ""),
        ("http://:80", ""),
        ("chrome-extension://localhost", "localhost"),
        ("localhost", "localhost"),
        ("//localhost", "localhost"),
        ("http://localhost:9809, http://evil.example", "localhost:9809"),
    ],
)
def test_a_page_of_another(origin: str, host: str) -> None:
    complaint = browsers.foreign_origin(headers(host, HTTP_ORIGIN=origin))
    assert complaint.startswith("Origin: ")


def test_a_connection_with_tls() -> None:
    assert browsers.is_encrypted(headers("h", HTTP_ORIGIN="HTTPS://h"))
    assert not browsers.is_encrypted(headers("h", HTTP_ORIGIN="http://h"))
    # Everybody can send that.
    assert not browsers.is_encrypted(headers("h", HTTP_X_FORWARDED_PROTO="https"))


def test_names_in_the_setting() -> None:
    assert browsers.parse_names("  Jobs.example.org\tjobs  ") == ("jobs.example.org", "jobs")
    assert browsers.parse_names("") == ()


@pytest.mark.parametrize("text", ["*", "a:80", "https://a", "a,b", ".", "a..b", "-a", "*.example.org", "ä", "a" * 254])
def test_names_that_no_host_has(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^must be names of hosts with blanks between, without ports; '.*'?.* is none$"
    ):
        browsers.parse_names(f"good {text}")
