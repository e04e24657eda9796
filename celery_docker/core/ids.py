"""Ids of jobs and batches: which one is meant by its beginning. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from celery_docker import errors


def resolve_prefix(prefix: str, ids: Iterable[str]) -> str:
    """Return the id that is meant; raises `NoSuchJob` or `AmbiguousId`. A whole id is never ambiguous."""
    found = sorted({job_id for job_id in ids if job_id.startswith(prefix)}) if prefix else []
    if prefix in found:
        return prefix
    if not found:
        raise errors.NoSuchJob(
            f"no job has an id that begins with {prefix!r}; list the jobs with: celery-docker ps --all"
        )
    if len(found) > 1:
        some = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
        raise errors.AmbiguousId(f"{prefix!r} is the beginning of {len(found)} ids ({some}); type more of it")
    return found[0]
