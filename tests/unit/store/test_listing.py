"""Rows of listings, and what follows from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_docker.store.listing import WorkerRow, nobody_takes

GOOD = WorkerRow("node1", 1.0, 0.0, 0, {"queues": ["celery", "night"]}, None, False)
OTHER = replace(GOOD, host="node2", about={"queues": ["other"]})


@pytest.mark.parametrize(
    ("workers", "expected"),
    [
        ([GOOD], ""),
        ([OTHER, GOOD], ""),
        ([], "no worker is alive"),
        ([replace(GOOD, lost=True)], "no worker is alive"),
        ([replace(GOOD, heard_s=300.0)], "no worker is alive"),
        ([OTHER], "no worker serves the queue 'celery'"),
        ([OTHER, replace(GOOD, drained="alice@node1: a new disk")], "every worker is drained"),
        ([replace(GOOD, drained="alice@node1: a new disk"), replace(GOOD, host="node3")], ""),
    ],
)
def test_why_nobody_takes_the_jobs_of_a_queue(workers: list[WorkerRow], expected: str) -> None:
    assert nobody_takes(workers, "celery") == expected
