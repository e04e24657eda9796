"""The log files of a job on its host: where its paths led when they were judged, and the user that opens them.

They stand in a label of the job's container, so that whoever adopts it asks no record and no key, and opens the same
files. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from celery_docker.core import container
from celery_docker.core.access import Identity


@dataclass(frozen=True)
class JobLogs:
    """Paths without links, None for a stream without a file; `user` None is the worker's own."""

    out: str | None
    err: str | None
    user: Identity | None = None

    @property
    def labels(self) -> dict[str, str]:
        """Return the label for the container; none for a job without log files."""
        return {container.LABEL_LOGS: json.dumps(asdict(self))} if self.out or self.err else {}


def of_labels(labels: Mapping[str, str]) -> JobLogs | None:
    """Return the log files of a container's job; None where it names none, or is from before the label."""
    text = labels.get(container.LABEL_LOGS)
    if text is None:
        return None
    said = json.loads(text)
    user = said["user"]
    if user is not None:
        user = Identity(user["name"], user["uid"], user["gid"], tuple(user["groups"]))
    return JobLogs(said["out"], said["err"], user)
