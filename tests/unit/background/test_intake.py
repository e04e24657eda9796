"""The intake: open only while nobody has a reason against it."""

from __future__ import annotations

from celery_docker.background.intake import Intake


def test_it_opens_when_the_last_reason_is_gone() -> None:
    intake = Intake()
    assert (intake.is_open, intake.reason) == (True, "")
    intake.close("docker", "Docker is away")
    intake.close("disk", "the disk is full")
    intake.close("docker", "Docker does not answer")
    assert (intake.is_open, intake.reason) == (False, "Docker does not answer; the disk is full")
    intake.open("docker")
    assert (intake.is_open, intake.reason) == (False, "the disk is full")
    intake.open("disk")
    intake.open("nobody")
    assert (intake.is_open, intake.reason) == (True, "")
