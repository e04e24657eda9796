"""celery-docker runs container jobs from a queue. `Client` submits them; importing this package loads nothing else."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_docker.client.client import Client
    from celery_docker.core import batch
    from celery_docker.core import batchinputs as rows

__all__ = ["Client", "batch", "rows"]

_MODULES = {"batch": "core.batch", "rows": "core.batchinputs"}


def __getattr__(name: str) -> Any:
    """Load a public name when somebody asks for it (PEP 562)."""
    if name == "Client":
        return import_module("celery_docker.client.client").Client
    if name in _MODULES:
        return import_module(f"celery_docker.{_MODULES[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
