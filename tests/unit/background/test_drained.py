"""A host that somebody keeps from taking jobs."""

from __future__ import annotations

from celery_docker.background.drained import DrainWatch
from celery_docker.background.intake import Intake


def test_the_intake_follows_what_is_said() -> None:
    intake = Intake()
    watch = DrainWatch(intake)
    watch.tell(None)
    assert intake.reason == ""
    for reason in ("alice@laptop: a new disk", "alice@laptop: two new disks"):
        watch.tell(reason)
        assert intake.reason == f"drained by {reason}"
    watch.tell(None)
    assert intake.reason == ""


def test_other_reasons_are_left_alone() -> None:
    intake = Intake()
    intake.close("health", "no space")
    DrainWatch(intake).tell(None)
    assert intake.reason == "no space"
