"""What the names of jobs and batches on a command line stand for: whole ids, or as much of one as is only its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import exitcodes
from celery_docker.cli.call import Call
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.store.listing import Meant

if TYPE_CHECKING:
    from celery_docker.store.queries import Catalog


@dataclass(frozen=True)
class Found:
    """What was found, in the order of the names, and what is wrong with the other names."""

    meant: Sequence[Meant]
    problems: Mapping[str, errors.CeleryDockerError]


def find(catalog: Catalog, names: Sequence[str]) -> Found:
    """Return what each name stands for; a name that is no good is no reason to forget the others."""
    meant: dict[Meant, None] = {}
    problems: dict[str, errors.CeleryDockerError] = {}
    for name in names:
        try:
            meant[catalog.meant(name)] = None
        except (errors.NoSuchJob, errors.AmbiguousId) as exc:
            problems[name] = exc
    return Found(list(meant), problems)


def jobs_of(catalog: Catalog, meant: Meant) -> list[str]:
    """Return the job, or the jobs of the batch in its order."""
    return catalog.batch_jobs(meant.name) if meant.is_batch else [meant.name]


def jobs(catalog: Catalog, names: Sequence[str]) -> list[str]:
    """Return the jobs that all names stand for, each once. Raises `NoSuchJob` or `AmbiguousId`."""
    return list(dict.fromkeys(job_id for name in names for job_id in jobs_of(catalog, catalog.meant(name))))


def complaint(call: Call, found: Found) -> int:
    """Say what is wrong with the names, a line each; return what to exit with."""
    for problem in found.problems.values():
        call.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.highest(map(exitcodes.of_error, found.problems.values()))


def whole_ids(catalog: Catalog, named: Sequence[str]) -> list[str]:
    """Return the ids that are meant by beginnings of ids; for a batch those of its jobs.

    Raises `NoSuchJob` or `AmbiguousId`.
    """
    found: list[str] = []
    for name in named:
        try:
            found.append(catalog.resolve(name))
        except errors.NoSuchJob as exc:
            try:
                found += catalog.batch_jobs(catalog.resolve_batch(name))
            except errors.NoSuchJob:
                raise exc from None
    return found
