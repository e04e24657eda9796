"""The gate: open only while nobody has a reason against it."""

from __future__ import annotations

from celery_docker.background.intake import Gate


def test_it_opens_when_the_last_reason_is_gone() -> None:
    gate = Gate()
    assert (gate.is_open, gate.reason) == (True, "")
    gate.close("docker", "Docker is away")
    gate.close("disk", "the disk is full")
    gate.close("docker", "Docker does not answer")
    assert (gate.is_open, gate.reason) == (False, "Docker does not answer; the disk is full")
    gate.open("docker")
    assert (gate.is_open, gate.reason) == (False, "the disk is full")
    gate.open("disk")
    gate.open("nobody")
    assert (gate.is_open, gate.reason) == (True, "")
