"""The URL of a gateway, and the URLs that are not one."""

from __future__ import annotations

import pytest

from celery_docker.core import gatewayurl, redisurl


def test_its_path() -> None:
    assert gatewayurl.path(gatewayurl.parse("http+unix:///srv/a%20b.sock")) == "/srv/a b.sock"
    assert gatewayurl.is_gateway(gatewayurl.URL)
    assert not any(map(gatewayurl.is_gateway, ("unix:///run/redis.sock", "redis://host", "http://host", "")))


@pytest.mark.parametrize(
    "url", ["http+unix://", "http+unix:///", "http+unix://host/a", "http+unix:///a?b", "http+unix://[/"]
)
def test_one_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ValueError, match=r"must look like http\+unix:///run/celery-docker/api\.sock$"):
        gatewayurl.parse(url)


def test_its_socket_is_no_redis() -> None:
    line = r"^is the socket of celery-docker-api and no Redis; those who submit write http\+unix:///run"
    with pytest.raises(ValueError, match=line):
        redisurl.parse("unix:///run/celery-docker/api.sock")
    with pytest.raises(ValueError, match="must look like redis://"):
        redisurl.parse(gatewayurl.URL)
