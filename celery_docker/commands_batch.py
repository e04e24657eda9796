"""The command `batch`: a job for each file, number or line of a table."""

from __future__ import annotations

from celery_docker.cli_call import Call


def batch(call: Call) -> int:
    """Queue the jobs of a batch, and print its id."""
    raise call.unfinished()
