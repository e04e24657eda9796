"""The report of a host, as its reader understands it: of this version, and of the one before."""

from __future__ import annotations

from typing import Any

import pytest

from celery_docker.core import hoststate


@pytest.mark.parametrize(
    ("report", "is_stopping", "is_accepting"),
    [
        ({"phase": "serving", "accepting": True, "status": "0 jobs running, 4 of 4 slots free"}, False, True),
        ({"phase": "serving", "accepting": False, "status": "Takes no jobs: Docker is away"}, False, False),
        ({"phase": "starting", "accepting": True, "status": "0 jobs running, 4 of 4 slots free"}, False, True),
        ({"phase": "stopping", "accepting": False, "status": "Stopping: waiting for 1 running job"}, True, False),
        # The fields count, whatever the words of a later version are.
        ({"phase": "serving", "accepting": False, "status": "No new jobs, the disk is full"}, False, False),
        ({"phase": "stopping", "accepting": False, "status": "Leaving"}, True, False),
        ({"phase": "serving", "accepting": True, "status": "Takes no jobs"}, False, True),
        # A host of the version before reports its status line only.
        ({"status": "1 job running, 3 of 4 slots free"}, False, True),
        ({"status": "Takes no jobs: drained by alice; 0 jobs running"}, False, False),
        ({"status": "Stopping: waiting for 1 running job, taking no more"}, True, True),
        # A host that has reported nothing yet.
        ({}, False, True),
    ],
    ids=str,
)
def test_a_report(report: dict[str, Any], is_stopping: bool, is_accepting: bool) -> None:
    assert (hoststate.is_stopping(report), hoststate.is_accepting(report)) == (is_stopping, is_accepting)
