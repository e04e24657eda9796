"""Celery's time limits, and the timeout that they become."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker.core.jobspec import JobSpec
from celery_docker.core.timelimits import Limits, limited


@pytest.mark.parametrize(
    ("own", "limits", "ends"),
    [
        ({}, Limits(), (None, None)),
        ({}, Limits(0, 0), (None, None)),
        ({"timeout": 9, "stop_grace": 1}, Limits(None, None), (9, 1)),
        ({}, Limits(hard_s=2), (2, None)),
        ({}, Limits(hard_s=0.2), (1, None)),
        ({"stop_grace": 7}, Limits(hard_s=2), (2, 7)),
        # The shorter of two wishes is within both.
        ({"timeout": 1}, Limits(hard_s=2), (1, None)),
        ({"timeout": 60}, Limits(hard_s=2), (2, None)),
        ({}, Limits(soft_s=5), (5, None)),
        # The soft limit is the stop signal, the hard one KILL.
        ({}, Limits(hard_s=8, soft_s=5), (5, 3)),
        ({"stop_grace": 1}, Limits(hard_s=8, soft_s=5), (5, 1)),
        ({"stop_grace": 60}, Limits(hard_s=8, soft_s=5), (5, 3)),
        ({}, Limits(hard_s=5, soft_s=5), (5, 0)),
        ({"timeout": 2}, Limits(hard_s=8, soft_s=5), (2, None)),
        ({}, Limits(hard_s=100_000, soft_s=5), (5, 300)),
    ],
)
def test_a_limit_becomes_timeout_and_grace(
    own: dict[str, Any], limits: Limits, ends: tuple[int | None, int | None]
) -> None:
    spec = limited(JobSpec("busybox", **own), limits)
    assert (spec.timeout, spec.stop_grace) == ends
