"""The URL of a gateway, and the URLs that are not one."""

from __future__ import annotations

import pytest

from celery_docker.core import gatewayurl, redisurl


def test_its_path() -> None:
    assert gatewayurl.path(gatewayurl.parse("http+unix:///srv/a%20b.sock")) == "/srv/a b.sock"
    assert gatewayurl.is_gateway(gatewayurl.URL)
    assert not any(map(gatewayurl.is_gateway, ("unix:///run/redis.sock", "redis://host", "httpd", "https", "")))


@pytest.mark.parametrize(
    "url", ["http+unix://", "http+unix:///", "http+unix://host/a", "http+unix:///a?b", "http+unix://[/"]
)
def test_one_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match=r"must look like http\+unix:///run/celery-docker/api\.sock$"):
        gatewayurl.parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://jobs.example.org",
        "https://jobs.example.org:8443/celery-docker/",
        "HTTPS://10.0.0.1",
        "http://127.0.0.1:9809",
        "http://localhost",
        "http://[::1]:9809",
    ],
)
def test_one_that_needs_a_token(url: str) -> None:
    assert gatewayurl.parse(url) == url
    assert gatewayurl.is_gateway(url)
    assert gatewayurl.needs_token(url)
    assert not gatewayurl.needs_token(gatewayurl.URL)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (
            "http://jobs.example.org",
            r"^must begin with https://, for a proxy .*: a token would go to jobs\.example\.org as plain text; ",
        ),
        ("http://127.0.0.2:9809", "as plain text"),
        ("http://127.0.0.1.evil.example", "as plain text"),
        ("http://localhost.", "as plain text"),
        ("HTTP://10.0.0.1", "as plain text"),
        ("https://token@host", "^must have no token in it: put that into a file, see CELERY_DOCKER_TOKEN_FILE"),
        ("https://user:token@host", "^must have no token in it"),
        ("http://127.0.0.1@evil.example", "^must have no token in it"),
        ("https://", "^must look like https://HOST, or http://127"),
        ("https:///path", "must look like"),
        ("https://host?token=1", "must look like"),
        ("https://host#a", "must look like"),
        ("https://host:x", "must look like"),
        ("https://host:99999", "must look like"),
        ("https://[host", "must look like"),
        ("https://a..b", "must look like"),
        (f"https://{'a' * 64}.example", "must look like"),
        ("https://ho st", "must look like"),
        ("https://host/\r\nX: y", "must look like"),
        ("https://b\u00fccher.example", "must look like"),
    ],
)
def test_one_over_tcp_that_cannot_be_used(url: str, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        gatewayurl.parse(url)


def test_its_socket_is_no_redis() -> None:
    line = r"^is the socket of celery-docker-api and no Redis; those who submit write http\+unix:///run"
    with pytest.raises(ValueError, match=line):
        redisurl.parse("unix:///run/celery-docker/api.sock")
    with pytest.raises(ValueError, match="must look like redis://"):
        redisurl.parse(gatewayurl.URL)
