"""The batch that a command line describes: its rows from files, numbers or a manifest, and a job for each.

Every job is checked here, before anything is submitted. Files are read, and nothing else is asked of anybody.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_docker import errors
from celery_docker.cli import jobargs
from celery_docker.cli.syntax import parser
from celery_docker.client import batchlogs
from celery_docker.core import batch, batchinputs, jobspec, kinds

_SOURCES = ("--each", "--each-from", "--array", "--manifest")
_LINES_OF_JSON = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class BatchRequest:
    """A batch as it was typed: its jobs, checked, and how many may run at once; None: as many as can."""

    jobs: list[batch.Expanded]
    limit: int | None
    template_id: str
    unused_columns: tuple[str, ...] = ()


def batch_request(arguments: parser.Arguments, local_user: jobargs.LocalUser, queue: str) -> BatchRequest:
    """Return the batch that was typed, with a job for each row.

    Raises `UsageError` for flags that do not go together, `SpecError` with every line that is not right.
    """
    sources = [key for key in _SOURCES if key in arguments.flags]
    if len(sources) != 1:
        raise errors.UsageError(f"batch: give one of {', '.join(_SOURCES)}, not {' and '.join(sources) or 'none'}")
    rows, limit = _rows(sources[0], arguments.flags[sources[0]], local_user)
    if not rows:
        raise errors.SpecError(f"{sources[0]}: has no line, so there is nothing to run")
    template = jobargs.template(arguments, local_user, queue)
    if rows[0].source is batchinputs.Source.PATHS:
        template = batch.with_default_input(template)
    jobs = batch.expand(template, rows, local_user.absolute)
    _check_options(jobs)
    batchlogs.check(jobs)
    return BatchRequest(
        jobs,
        arguments.flags.get("--limit", limit),
        batch.template_id(template, rows[0].source),
        tuple(batch.unused_field_columns(template, rows)),
    )


def _rows(key: str, value: Any, local_user: jobargs.LocalUser) -> tuple[Sequence[batchinputs.Row], int | None]:
    if key == "--each":
        return batchinputs.from_paths(
            local_user.absolute(path) for pattern in value for path in _matching(local_user.with_home(pattern))
        ), None
    if key == "--array":
        return batchinputs.from_array(value)
    text = jobargs.read_rows(local_user.with_home(value))
    if key == "--each-from":
        return batchinputs.from_path_list(text, local_user.absolute), None
    return (batchinputs.from_jsonl(text) if _is_json(value, text) else batchinputs.from_csv(text)), None


def _matching(pattern: str) -> list[str]:
    """Return the files that match, in the order of their names; `**` goes into folders."""
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise errors.SpecError(
            f"--each: no file matches {kinds.shown(pattern)}; quote it, so that the shell leaves it alone"
        )
    return paths


def _is_json(path: str, text: str) -> bool:
    """Return True for a manifest of JSON lines, by its name or, where that says nothing, by how it begins."""
    ending = path.lower()
    return ending.endswith(_LINES_OF_JSON) or (not ending.endswith(".csv") and text.lstrip().startswith("{"))


def _check_options(jobs: Sequence[batch.Expanded]) -> None:
    """Check what each job says about its submission; most say the same, so each is checked once."""
    first = {repr(job.options): job for job in reversed(jobs)}
    problems = []
    for job in reversed(first.values()):
        try:
            jobspec.parse_document({"image": job.kwargs["image"], **job.options})
        except errors.SpecError as exc:
            problems.append(f"{job.row.place}: {exc}")
    if problems:
        raise errors.BatchError(problems)
