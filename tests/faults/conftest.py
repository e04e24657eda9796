"""Fixtures of the fault tests: servers of their own for each test, and the table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests import servers
from tests.conftest import require
from tests.faults.ledger import FULL, SEED, Row, table

_ROWS = pytest.StashKey[list[Row]]()


@contextmanager
def _dockerd(*options: str) -> Iterator[servers.Dockerd]:
    require("docker", servers.Dockerd.missing())
    with servers.Dockerd(*options) as server:
        server.import_busybox()
        yield server
    assert server.leftovers() == []


@pytest.fixture
def own_dockerd() -> Iterator[servers.Dockerd]:
    """A dockerd for one test, which may restart, stop and kill it."""
    with _dockerd() as server:
        yield server


@pytest.fixture
def live_dockerd() -> Iterator[servers.Dockerd]:
    """One whose containers survive it, and whose containerd does not."""
    with _dockerd("--live-restore=true") as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[servers.RedisServer]:
    """A redis-server with an append-only file, for one test."""
    require("redis", servers.RedisServer.missing())
    with servers.RedisServer({"appendonly": "yes"}) as server:
        yield server


@pytest.fixture
def conclude(request: pytest.FixtureRequest) -> Callable[[Row], None]:
    """Put a row into the table, and fail unless nothing was lost, doubled or left."""

    def conclude(row: Row) -> None:
        request.config.stash.setdefault(_ROWS, []).append(row)
        findings = "\n".join(row.findings)
        assert (row.lost, row.doubled, row.orphans, row.late) == (0, 0, 0, 0), f"{row.cells()}\n{findings}"
        assert row.keys == ()

    return conclude


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In short, rows of the booted machine, where systemd gives the orders, or of two hosts stand for some others."""
    if FULL:
        return
    left_out = [item for item in items if item.get_closest_marker("only_in_full")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    rows = config.stash.get(_ROWS, [])
    if rows:
        terminalreporter.section("faults")
        terminalreporter.write_line(f"seed {SEED}")
        for line in table(rows):
            terminalreporter.write_line(line)
