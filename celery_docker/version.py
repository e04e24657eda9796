"""The version of the package, which is that of debian/changelog."""

from __future__ import annotations

from importlib import metadata


def version() -> str | None:
    """Return the version of this package; None where it runs from a source tree."""
    try:
        return metadata.version("celery-docker")
    except metadata.PackageNotFoundError:
        return None
