"""What the names of jobs and batches on a command line stand for: whole ids, or as much of one as is only its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import exitcodes
from celery_docker.cli.call import Call
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.store.listing import Match

if TYPE_CHECKING:
    from celery_docker.store.queries import Queries


@dataclass(frozen=True)
class Found:
    """What was found, in the order of the names, and what is wrong with the other names."""

    meant: Sequence[Match]
    problems: Mapping[str, errors.CeleryDockerError]


def find(queries: Queries, names: Sequence[str]) -> Found:
    """Return what each name stands for; a name that is no good is no reason to forget the others."""
    meant: dict[Match, None] = {}
    problems: dict[str, errors.CeleryDockerError] = {}
    for name in names:
        try:
            meant[queries.match(name)] = None
        except (errors.NoSuchJob, errors.AmbiguousId) as exc:
            problems[name] = exc
    return Found(list(meant), problems)


def jobs_of(queries: Queries, meant: Match) -> list[str]:
    """Return the job, or the jobs of the batch in its order."""
    return queries.batches.job_ids(meant.name) if meant.is_batch else [meant.name]


def jobs(queries: Queries, names: Sequence[str]) -> list[str]:
    """Return the jobs that all names stand for, each once. Raises `NoSuchJob` or `AmbiguousId`."""
    return list(dict.fromkeys(job_id for name in names for job_id in jobs_of(queries, queries.match(name))))


def complaint(call: Call, found: Found) -> int:
    """Say what is wrong with the names, a line each; return what to exit with."""
    for problem in found.problems.values():
        call.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.highest(map(exitcodes.of_error, found.problems.values()))


def whole_ids(queries: Queries, named: Sequence[str]) -> list[str]:
    """Return the ids that are meant by beginnings of ids; for a batch those of its jobs.

    Raises `NoSuchJob` or `AmbiguousId`.
    """
    found: list[str] = []
    for name in named:
        try:
            found.append(queries.jobs.resolve(name))
        except errors.NoSuchJob as exc:
            try:
                found += queries.batches.job_ids(queries.batches.resolve(name))
            except errors.NoSuchJob:
                raise exc from None
    return found
