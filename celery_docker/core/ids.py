"""Ids of jobs and batches, found by their beginning. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from celery_docker import errors


def resolve_prefix(prefix: str, ids: Iterable[str]) -> str:
    """Return the one id with this prefix; raises `NoSuchJob` or `AmbiguousId`. A whole id is never ambiguous."""
    matches = sorted({job_id for job_id in ids if job_id.startswith(prefix)}) if prefix else []
    if prefix in matches:
        return prefix
    if not matches:
        raise errors.NoSuchJob(
            f"no job has an id that begins with {prefix!r}; list the jobs with: celery-docker ps --all"
        )
    if len(matches) > 1:
        some = ", ".join(matches[:3]) + (", ..." if len(matches) > 3 else "")
        raise errors.AmbiguousId(f"{prefix!r} is the beginning of {len(matches)} ids ({some}); type more of it")
    return matches[0]
