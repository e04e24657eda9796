"""The Redis of our own: its configuration, and its line in a file of settings, which comes and goes without a trace."""

from __future__ import annotations

import pytest

from celery_docker.core import ownredis, settings
from celery_docker.core.ownredis import SERVERS, Server

URL = "redis://:s3cret@127.0.0.1:6380/0"
VARIABLE = "CELERY_DOCKER_BROKER_URL"
SHIPPED = f"# The broker.\n#{VARIABLE}=redis://127.0.0.1:6379/0\n\nCELERY_DOCKER_CONCURRENCY=4\n"


@pytest.mark.parametrize("server", SERVERS)
def test_the_url_is_that_of_the_configuration(server: Server) -> None:
    config = server.config(6380, "s3cret")
    assert ownredis.broker_url(config) == URL
    assert settings.parse({VARIABLE: URL}).broker_url == URL
    assert ownredis.without_login(URL) == "redis://127.0.0.1:6380/0"
    assert {"appendonly yes", "appendfsync always", "maxmemory-policy noeviction"} < set(config.splitlines())


@pytest.mark.parametrize("config", ["", "port 6380\n", "requirepass x\n", "port many\nrequirepass x\n"])
def test_a_configuration_that_somebody_has_broken_has_no_url(config: str) -> None:
    assert ownredis.broker_url(config) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHIPPED,
        f"{VARIABLE}=redis://db:6379/1\n",
        f"A=1\n{VARIABLE}=redis://old\n{VARIABLE}=redis://db:6379/1\nB=2\n",
        f"  {VARIABLE} = redis://db:6379/1\n",
    ],
)
def test_what_is_set_counts_and_can_be_taken_back(text: str) -> None:
    changed = ownredis.with_broker(text, URL)
    assert settings.read_assignments(changed)[VARIABLE] == URL
    assert ownredis.with_broker(changed, URL) == changed
    other = "redis://:other@127.0.0.1:6381/0"
    assert settings.read_assignments(ownredis.with_broker(changed, other))[VARIABLE] == other
    assert settings.read_assignments(ownredis.without_broker(changed)) == settings.read_assignments(text)
    assert ownredis.without_broker(changed).split() == text.split()
    assert ownredis.without_broker(text) == text


def test_what_others_have_written_behind_the_mark_stays() -> None:
    changed = ownredis.with_broker(SHIPPED, URL).replace(f"{VARIABLE}={URL}", "CELERY_DOCKER_OPTS=-Ofair")
    assert ownredis.without_broker(changed) == f"{SHIPPED}CELERY_DOCKER_OPTS=-Ofair\n"
