"""The commands about the hosts that run jobs."""

from __future__ import annotations

from celery_docker.cli_call import Call


def workers(call: Call) -> int:
    """List the hosts."""
    raise call.unfinished()


def drain(call: Call) -> int:
    """Let hosts take no more jobs."""
    raise call.unfinished()


def resume(call: Call) -> int:
    """Let hosts take jobs again."""
    raise call.unfinished()
