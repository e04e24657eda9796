"""Each test of the contract runs on the fake and on the real store."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.records.worlds import FakeWorld, Records, RedisWorld, World


@pytest.fixture(params=["fake", "redis"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    real = RedisWorld(request.getfixturevalue("redis_server"))
    yield real
    real.close()


@pytest.fixture
def records(world: World) -> Records:
    return world.records
