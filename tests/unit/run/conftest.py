"""A host in memory for each test of the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from celery_docker.core.jobrecord import Verdict
from tests.unit.run.workbench import HOST, JOB, LONG, Bench, make_bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path.resolve())


@pytest.fixture
def before(tmp_path: Path) -> Bench:
    """A host whose worker claimed a job and died."""
    bench = make_bench(tmp_path.resolve(), LONG)
    delivery = bench.delivery()
    claim = bench.records.claim(JOB, host=HOST, queue=delivery.queue, envelope=delivery.envelope)
    assert claim.verdict is Verdict.RUN
    return bench
