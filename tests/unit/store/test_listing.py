"""Rows of listings, and what follows from them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_docker.store import listing
from celery_docker.store.listing import WorkerRow

ABOUT = {"queues": ["celery", "night"], "slots": 4, "phase": "serving", "accepting": True, "status": "3 jobs running"}
GOOD = WorkerRow("node1", 1.0, 0.0, 3, ABOUT, None, False)


def reporting(**values: object) -> WorkerRow:
    return replace(GOOD, about={**ABOUT, **values})


@pytest.mark.parametrize(
    ("row", "obstacle"),
    [
        (GOOD, ""),
        (replace(GOOD, drained="alice@node1: a new disk"), "drained by alice@node1: a new disk"),
        (reporting(phase="stopping", status="Stopping: waiting for 1 running job"), "its worker is stopping"),
        (
            reporting(accepting=False, status="Takes no jobs: /var/log is full; Docker is away; 3 jobs running"),
            "/var/log is full; Docker is away",
        ),
        (reporting(accepting=False, status=""), "its status does not say why"),
        # A host of an older version has only the status.
        (replace(GOOD, about={"status": "Takes no jobs: Docker is away; 0 jobs running"}), "Docker is away"),
        (replace(GOOD, about={"status": "3 jobs running, 1 of 4 slots free"}), ""),
    ],
)
def test_why_a_host_takes_no_jobs(row: WorkerRow, obstacle: str) -> None:
    assert listing.host_facts(row).obstacle == obstacle


def test_the_slots_of_a_host_that_are_free() -> None:
    """By the jobs that it owns now: its report is some seconds old."""
    facts = listing.host_facts(GOOD)
    assert (facts.free_slots, facts.queues, facts.is_alive) == (1, ("celery", "night"), True)
    assert listing.host_facts(replace(GOOD, about={})).free_slots == -3


@pytest.mark.parametrize(
    ("heard_s", "lost", "is_alive"), [(1.0, False, True), (31.0, False, False), (1.0, True, False)]
)
def test_a_host_that_is_alive(heard_s: float, lost: bool, is_alive: bool) -> None:
    assert listing.host_facts(replace(GOOD, heard_s=heard_s, lost=lost)).is_alive is is_alive
