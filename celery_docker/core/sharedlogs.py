"""Log files that several jobs of a batch would write: each needs its own, or they overwrite each other's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from celery_docker import errors
from celery_docker.core import kinds
from celery_docker.core.batch import Expanded

_FIELDS = ("logoutfile", "logerrfile")
_PLACES = 3


def check(jobs: Sequence[Expanded], real: Callable[[str], str]) -> None:
    """Raise `BatchError` with each file that is the log of several jobs; `real` makes one name of two for a file."""
    writers: dict[str, list[Expanded]] = {}
    for job in jobs:
        for path in {real(job.kwargs[name]) for name in _FIELDS if job.kwargs.get(name)}:
            writers.setdefault(path, []).append(job)
    problems = [_problem(path, sharers) for path, sharers in writers.items() if len(sharers) > 1]
    if problems:
        raise errors.BatchError(problems)


def _problem(path: str, sharers: Sequence[Expanded]) -> str:
    places = [job.row.place for job in sharers[:_PLACES]] + (["..."] if len(sharers) > _PLACES else [])
    name = PurePosixPath(path)
    return (
        f"{kinds.shown(path)} is the log file of {len(sharers):,} jobs ({', '.join(places)}), and each would overwrite "
        f"the others; put {{#}}, the job's number, into its name, like {kinds.shown(name.stem + '-{#}' + name.suffix)}"
    )
