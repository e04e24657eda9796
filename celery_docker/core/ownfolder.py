"""The folder of ours in a container, `FOLDER`: what lies in it, under which name. Pure."""

from __future__ import annotations

FOLDER = "/celery-docker"
SCRIPT, STDIN, SCRATCH = "script", "stdin", "scratch"


def path(name: str) -> str:
    """Return the path in a container of what lies in the folder under this name."""
    return f"{FOLDER}/{name}"
