"""A host that somebody keeps from taking jobs."""

from __future__ import annotations

import pytest

from celery_docker import errors
from celery_docker.background.drained import DrainWatch
from celery_docker.background.intake import Intake


class Records:
    """Says what the test wants, or raises it."""

    def __init__(self) -> None:
        self.answer: str | Exception | None = None

    def drained(self, host: str) -> str | None:
        assert host == "node1"
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_intake_follows_what_the_records_say() -> None:
    records, intake = Records(), Intake()
    watch = DrainWatch(records, "node1", intake)
    watch.check()
    assert intake.reason == ""
    for reason in ("alice@laptop: a new disk", "alice@laptop: two new disks"):
        records.answer = reason
        watch.check()
        assert intake.reason == f"drained by {reason}"
    records.answer = errors.StoreAway("gone")
    with pytest.raises(errors.StoreAway):
        watch.check()
    assert intake.reason == "drained by alice@laptop: two new disks"
    records.answer = None
    watch.check()
    assert intake.reason == ""


def test_other_reasons_are_left_alone() -> None:
    records, intake = Records(), Intake()
    intake.close("health", "no space")
    watch = DrainWatch(records, "node1", intake)
    watch.check()
    assert intake.reason == "no space"
