"""celery-docker runs container jobs from a queue. `Client` submits them; importing this package loads nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_docker.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    """Load the client library when somebody asks for it (PEP 562)."""
    if name == "Client":
        from celery_docker import client

        return client.Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
