"""A machine on which all is well, and findings as `doctor` prints them."""

from __future__ import annotations

from collections.abc import Sequence

from celery_docker.core.findings import Finding
from celery_docker.doctor.facts import DockerFacts, Unit

RUNNING = Unit("celery-worker", "active", "running")
WELL = DockerFacts("unix:///d", version="26.1", api="1.45", has_live_restore=True)


def lines(findings: Sequence[Finding]) -> list[str]:
    return [line for finding in findings for line in finding.lines()]
