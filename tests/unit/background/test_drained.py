"""A host that somebody keeps from taking jobs."""

from __future__ import annotations

from celery_docker import errors
from celery_docker.background.drained import Standby
from celery_docker.background.intake import Gate


class Records:
    """Says what the test wants, or raises it."""

    def __init__(self) -> None:
        self.said: str | Exception | None = None

    def drained(self, host: str) -> str | None:
        assert host == "node1"
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def test_the_gate_follows_what_the_records_say() -> None:
    records, gate = Records(), Gate()
    watch = Standby(records, "node1", gate)
    watch.ask()
    assert gate.reason == ""
    for said in ("alice@laptop: a new disk", "alice@laptop: two new disks"):
        records.said = said
        watch.ask()
        assert gate.reason == f"drained by {said}"
    records.said = errors.StoreAway("gone")
    watch.ask()
    assert gate.reason == "drained by alice@laptop: two new disks"
    records.said = None
    watch.ask()
    assert gate.reason == ""


def test_other_reasons_are_left_alone() -> None:
    records, gate = Records(), Gate()
    gate.close("health", "no space")
    watch = Standby(records, "node1", gate)
    watch.ask()
    assert gate.reason == "no space"
