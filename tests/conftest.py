"""Fixtures for every kind of test: the real servers, started once and only when a test asks for them.

A missing server skips its tests on a laptop and fails them where CELERY_DOCKER_TEST_REQUIRE (a comma list, such as
"redis,docker") names it, as CI and `make test` do: nothing is skipped there in silence.
"""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests import servers
from tests.machines import machine
from tests.machines.releasedocker import docker_of

# Ctrl-C is ignored in the background of a shell, a hangup under nohup, by children too: not by the tested commands.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# How long an example takes says something of the machine, nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For those who run the tests once more, on the same code: `--hypothesis-profile=few`.
settings.register_profile("few", parent=settings.get_profile("any machine"), max_examples=10)
settings.load_profile("any machine")
# Settings of whoever runs the tests are not theirs.
for name in [name for name in os.environ if name.startswith("CELERY_DOCKER_")]:
    if not name.startswith(("CELERY_DOCKER_TEST_", "CELERY_DOCKER_FAULTS")):
        del os.environ[name]
# Nor is the key of the package that may be installed here.
os.environ["CELERY_DOCKER_KEY"] = str(Path(__file__).with_name("no-key"))

# A build of the package has an older pytest without it, and no Docker.
pytest_plugins = ["tests.lostoutput"] if importlib.util.find_spec("pytest_rerunfailures") else []

REQUIRE_VARIABLE = "CELERY_DOCKER_TEST_REQUIRE"


def require(service: str, missing: str) -> None:
    """Skip the test, or fail it where the service is required, if something is missing; empty: nothing is."""
    if not missing:
        return
    required = [name.strip() for name in os.environ.get(REQUIRE_VARIABLE, "").split(",")]
    if service in required:
        pytest.fail(f"{service} is required by {REQUIRE_VARIABLE}: {missing}", pytrace=False)
    pytest.skip(f"{service}: {missing}")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--docker", metavar="RELEASE", help="run the tests' Docker from this release of Debian, such as trixie"
    )


@contextmanager
def _docker() -> Iterator[servers.Dockerd]:
    """That of this computer."""
    with servers.Dockerd() as server:
        server.import_busybox()
        yield server


@pytest.fixture(scope="session")
def dockerd(request: pytest.FixtureRequest) -> Iterator[servers.Dockerd]:
    """A dockerd with busybox; at the end no container may be left in it, and nothing of it on the machine."""
    require("docker", servers.Dockerd.missing())
    release = request.config.getoption("--docker")
    if release:
        require("machine", machine.missing())
    with docker_of(release) if release else _docker() as server:
        yield server
        leftovers = server.containers()
    assert leftovers == [], f"the tests left containers: {leftovers}"
    assert server.leftovers() == []


@pytest.fixture(scope="session")
def podman() -> Iterator[servers.Podman]:
    """Podman's service for Docker's API with busybox."""
    require("podman", servers.Podman.missing())
    with servers.Podman() as server:
        server.import_busybox()
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[servers.RedisServer]:
    """A redis-server; at the end no key may be left in it."""
    require("redis", servers.RedisServer.missing())
    with servers.RedisServer() as server:
        yield server
        with server.client() as client:
            leftovers = client.keys()
    assert leftovers == [], f"the tests left keys: {leftovers!r}"


@pytest.fixture(scope="session")
def package() -> Path:
    """The package under test, as CELERY_DOCKER_TEST_DEB names it."""
    path = os.environ.get("CELERY_DOCKER_TEST_DEB", "")
    require("machine", machine.missing() or ("" if path else "CELERY_DOCKER_TEST_DEB is not set; run `make test`"))
    return Path(path)
