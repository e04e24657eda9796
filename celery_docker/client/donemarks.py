"""Jobs of a batch that have succeeded before, for `batch --skip-done`: by a marker file, or by an earlier record.

Who waits for such a batch leaves the markers, and so does the next `--skip-done` that finds a record: a worker may have
no right to write there. A record alone counts as long as Redis keeps it, and only while the output folder is there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from celery_docker.client.ports import Queries
from celery_docker.core import access, batch
from celery_docker.core.access import Identity
from celery_docker.core.batchinputs import Source
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields

# A field of a batch that was submitted with --skip-done.
WANTED = "skip_done"
TEMPLATE = "template"
_BATCHES_LOOKED_AT = 20


@dataclass(frozen=True)
class OwnUser:
    """The submitter's own user in job documents; a gateway runs his jobs as him, by whichever name he asks for it.

    `identity` is as the gateway knows him, None without one. `default` is the user of a job that names none, None where
    the gateway says it.
    """

    identity: Identity | None
    default: str | None

    def of(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments with the submitter as a command line has him that does not name him."""
        user = kwargs.get("user")
        if self.identity is None or not isinstance(user, str) or not access.names(self.identity, user):
            return dict(kwargs)
        rest = {name: value for name, value in kwargs.items() if name != "user"}
        return rest if self.default is None else {**rest, "user": self.default}


def undone(queries: Queries, given: Sequence[batch.Expanded], template_id: str, own: OwnUser) -> list[batch.Expanded]:
    """Return the jobs that have not succeeded before. Raises `StoreAway` or `StoreRefused`."""
    jobs = [replace(job, kwargs=own.of(job.kwargs)) for job in given]
    unmarked = [job for job in jobs if not _is_marked(job)]
    if not unmarked:
        return []
    is_array = unmarked[0].row.source is Source.ARRAY
    markers: set[str] = set()
    for batch_id in queries.batches.of_template(template_id)[:_BATCHES_LOOKED_AT]:
        markers |= {marker for marker, _ in _succeeded(queries, batch_id, is_array, own)}
    rest = []
    for job in unmarked:
        folder = job.kwargs.get("outputpath")
        if job.marker in markers and (folder is None or os.path.isdir(folder)):
            _leave(folder, job.marker)
        else:
            rest.append(job)
    return rest


def leave(queries: Queries, batch_id: str, own_user: Callable[[], OwnUser]) -> None:
    """Leave a marker for each job of a batch that has succeeded, if the batch was submitted with --skip-done."""
    source = queries.batches.field(batch_id, WANTED)
    if source is None:
        return
    for marker, folder in _succeeded(queries, batch_id, source == Source.ARRAY, own_user()):
        _leave(folder, marker)


def _succeeded(queries: Queries, batch_id: str, is_array: bool, own: OwnUser) -> Iterator[tuple[str, str | None]]:
    """Yield marker and output folder of the jobs of a batch that have succeeded."""
    for state, spec, index in queries.jobs.fields(queries.batches.job_ids(batch_id), "state", "spec", "batch_index"):
        if state == State.SUCCEEDED and spec and index:
            cells = Fields({"spec": spec, "index": index})
            kwargs, number = own.of(cells.json("spec", dict) or {}), cells.whole("index")
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
