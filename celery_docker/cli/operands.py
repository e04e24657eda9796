"""JOB and BATCH operands of a command line, resolved to whole ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_docker import errors
from celery_docker.cli import exitcodes
from celery_docker.cli.context import Context
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.store.listing import Match

if TYPE_CHECKING:
    from celery_docker.client.ports import Queries


@dataclass(frozen=True)
class Resolved:
    """The jobs and batches that operands name, in their order, and the problems of the other operands."""

    matches: Sequence[Match]
    problems: Mapping[str, errors.CeleryDockerError]


def resolve(queries: Queries, operands: Sequence[str]) -> Resolved:
    """Return the job or batch of each operand; a bad operand does not stop the others."""
    matches: dict[Match, None] = {}
    problems: dict[str, errors.CeleryDockerError] = {}
    for operand in operands:
        try:
            matches[queries.match(operand)] = None
        except (errors.NoSuchJob, errors.AmbiguousId) as exc:
            problems[operand] = exc
    return Resolved(list(matches), problems)


def job_id(queries: Queries, operand: str, of_batch: str) -> str:
    """Return the whole id of the job that an operand names.

    Raises `AmbiguousId`, or `NoSuchJob`; for a batch that says to do `of_batch`, a sentence that ends before its id.
    """
    match = queries.match(operand)
    if match.is_batch:
        raise errors.NoSuchJob(f"{operand!r} is a batch and not a job; {of_batch} {operand}")
    return match.name


def jobs_of(queries: Queries, match: Match) -> list[str]:
    """Return the job, or the jobs of the batch in its order."""
    return queries.batches.job_ids(match.name) if match.is_batch else [match.name]


def job_ids(queries: Queries, operands: Sequence[str]) -> list[str]:
    """Return the whole ids of the jobs that operands name, each once; for a batch those of its jobs.

    Raises `NoSuchJob` or `AmbiguousId`.
    """
    return list(dict.fromkeys(job_id for name in operands for job_id in jobs_of(queries, queries.match(name))))


def report_problems(context: Context, resolved: Resolved) -> int:
    """Write a line for each bad operand; return the exit status."""
    for problem in resolved.problems.values():
        context.screen.note(f"{PROGRAM}: {problem}")
    return exitcodes.highest(map(exitcodes.of_error, resolved.problems.values()))
