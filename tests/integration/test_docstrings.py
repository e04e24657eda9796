"""Every public function of the client library has an example, and each does what it says, with a real worker."""

from __future__ import annotations

import doctest
import inspect
import os
from collections.abc import Iterator

import pytest

from celery_docker.client import client, handles
from celery_docker.core import gatewayurl
from tests import servers
from tests.gateways import Gateway
from tests.waiting import eventually
from tests.workers.worker import Worker

MODULES = (client, handles)
CLASSES = (client.Client, handles.Job, handles.Batch)


# What only an administrator does, with the URL of Redis.
ADMINISTRATORS = ("Client.drain", "Client.resume", "Client.refused", "Client.images", "Client.figures")


@pytest.fixture(scope="module", params=["redis", "gateway"])
def served(
    request: pytest.FixtureRequest, redis_server: servers.RedisServer, dockerd: servers.Dockerd
) -> Iterator[client.Client]:
    with Worker(redis_server.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0"), Gateway(redis_server.url) as gateway:
        connected = client.Client(gateway.url if request.param == "gateway" else redis_server.url)
        yield connected
        connected.close()
        eventually(lambda: dockerd.containers() == [], 60, "no container left by the examples")
    with redis_server.client() as behind:
        behind.flushall()


def _examples() -> list[doctest.DocTest]:
    finder = doctest.DocTestFinder()
    examples = [example for module in MODULES for example in finder.find(module) if example.examples]
    assert examples
    return examples


@pytest.mark.parametrize("example", _examples(), ids=lambda example: example.name)
def test_the_example_does_what_it_says(
    example: doctest.DocTest, served: client.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gatewayurl.is_gateway(served.url) and example.name.endswith(ADMINISTRATORS):
        pytest.skip("needs Redis")
    monkeypatch.setitem(os.environ, "CELERY_DOCKER_BROKER_URL", served.url)
    complaints: list[str] = []
    example.globs = {**example.globs, "client": served}
    failed, _ = doctest.DocTestRunner(verbose=False).run(example, out=complaints.append)
    assert failed == 0, "".join(complaints)


def test_everything_public_has_an_example() -> None:
    names = {example.name for example in _examples()}
    public = {f"{kind.__module__}.{kind.__name__}" for kind in CLASSES}
    for kind in CLASSES:
        members = [name for name, value in vars(kind).items() if inspect.isfunction(value) and name[0] != "_"]
        public |= {f"{kind.__module__}.{kind.__name__}.{name}" for name in members}
    assert public <= names
