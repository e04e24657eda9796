"""A test that fails where Docker itself lost output of a container runs once more; every other failure is one.

Docker 26.1 gives a container's streams up that it has not opened by its end, and says so in its log: see `GIVEN_UP` and
docs/RELIABILITY.md. Nothing of ours can bring that output back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import pytest

from tests import servers
from tests.machines import machine


class OutputLost(Exception):
    """A test failed, and a Docker of it has lost output meanwhile."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let each test run again, for this reason only."""
    for item in items:
        item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=OutputLost.__name__))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Raise `OutputLost` in place of a failure during which Docker has lost output."""
    count = _counter(item)
    try:
        return (yield)
    except Exception as exc:
        if lost := count():
            raise OutputLost(f"dockerd has logged {lost} times in this test: {servers.GIVEN_UP}") from exc
        raise


def _counter(item: pytest.Item) -> Callable[[], int]:
    """Return what counts the streams that have been given up from now on."""
    server = getattr(item, "funcargs", {}).get("dockerd")
    began_at, before = time.time(), _logged(server)
    return lambda: _logged(server) - before + sum(_logged_in(booted, began_at) for booted in machine.all_on())


def _logged(server: servers.Dockerd | None) -> int:
    return 0 if server is None else server.log.count(servers.GIVEN_UP)


def _logged_in(booted: machine.Machine, began_at: float) -> int:
    command = ("journalctl", "--no-pager", "--unit=docker", f"--since=@{began_at:.0f}")
    return booted.run(*command, check=False).stdout.count(servers.GIVEN_UP)
