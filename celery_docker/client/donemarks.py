"""Jobs of a batch that have succeeded before, for `batch --skip-done`: by a marker file, or by an earlier record.

Who waits for such a batch leaves the markers, and so does the next `--skip-done` that finds a record: a worker may have
no right to write there. A record alone counts as long as Redis keeps it, and only while the output folder is there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from celery_docker.client.ports import Queries
from celery_docker.core import batch
from celery_docker.core.batchinputs import Source
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields

# A field of a batch that was submitted with --skip-done.
WANTED = "skip_done"
TEMPLATE = "template"
_BATCHES_LOOKED_AT = 20


def undone(queries: Queries, jobs: Sequence[batch.Expanded], template_id: str) -> list[batch.Expanded]:
    """Return the jobs that have not succeeded before. Raises `StoreAway` or `StoreRefused`."""
    unmarked = [job for job in jobs if not _is_marked(job)]
    if not unmarked:
        return []
    is_array = unmarked[0].row.source is Source.ARRAY
    names_user = any("user" in job.kwargs for job in unmarked)
    markers: set[str] = set()
    for batch_id in queries.batches.of_template(template_id)[:_BATCHES_LOOKED_AT]:
        markers |= {marker for marker, _ in _succeeded(queries, batch_id, is_array, names_user)}
    rest = []
    for job in unmarked:
        folder = job.kwargs.get("outputpath")
        if job.marker in markers and (folder is None or os.path.isdir(folder)):
            _leave(folder, job.marker)
        else:
            rest.append(job)
    return rest


def leave(queries: Queries, batch_id: str, *, names_user: bool) -> None:
    """Leave a marker for each job of a batch that has succeeded, if the batch was submitted with --skip-done.

    `names_user` is False where a gateway has said as whom its jobs run: who asks again does not name him either.
    """
    source = queries.batches.field(batch_id, WANTED)
    if source is None:
        return
    for marker, folder in _succeeded(queries, batch_id, source == Source.ARRAY, names_user):
        _leave(folder, marker)


def _succeeded(queries: Queries, batch_id: str, is_array: bool, names_user: bool) -> Iterator[tuple[str, str | None]]:
    """Yield marker and output folder of the jobs of a batch that have succeeded."""
    for state, spec, index in queries.jobs.fields(queries.batches.job_ids(batch_id), "state", "spec", "batch_index"):
        if state == State.SUCCEEDED and spec and index:
            cells = Fields({"spec": spec, "index": index})
            kwargs, number = cells.json("spec", dict), cells.whole("index")
            if not names_user:
                kwargs.pop("user", None)
            if not cells.problems:
                folder = kwargs.get("outputpath")
                yield batch.marker_of(kwargs, number if is_array else None), folder if isinstance(folder, str) else None


def _is_marked(job: batch.Expanded) -> bool:
    folder = job.kwargs.get("outputpath")
    # Unlike pathlib's, these take a folder that is closed to this user for one that is not there.
    return folder is not None and os.path.exists(os.path.join(folder, job.marker))


def _leave(folder: str | None, marker: str) -> None:
    # The folder may be another host's, or closed to this user: then the record is all there is.
    if folder is not None:
        with suppress(OSError):
            Path(folder, marker).touch()
