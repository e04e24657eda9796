"""The command `doctor`."""

from __future__ import annotations

from celery_docker.cli_call import Call


def doctor(call: Call) -> int:
    """Find what is wrong, and say what to do."""
    raise call.unfinished()
