"""The way to the jobs for who has no URL of Redis: a gateway, which knows the user by itself or by a token.

Invariant: the ids of new jobs are chosen here, so that a request whose answer was lost is sent again and queues nothing
twice.
"""

from __future__ import annotations

import base64
import json
import math
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from celery_docker import errors
from celery_docker.client import remotequeries, understood
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.core.access import Identity
from celery_docker.core.batch import Expanded
from celery_docker.core.container import Stream
from celery_docker.core.jobspec import JobSpec, Submission
from celery_docker.core.output import Piece
from celery_docker.core.receipt import Receipt

_JOBS_AT_ONCE = 1000
_BYTES_AT_ONCE = 4 * 2**20
# Before each name and value in JSON stands one of these.
_MARKS = ",:[{"
_MARKS_AT_ONCE = 200_000


@understood.questions
@dataclass(frozen=True)
class RemoteLog:
    """The output of jobs."""

    http: HttpSocket

    def entries(self, job_id: str, last_id: str, wait_s: float, most: int) -> tuple[str, list[Piece]]:
        """Return the last of up to `most` entries after one, and their pieces; wait a while if there is none."""
        began_s = time.monotonic()
        answer = self.http.get("jobs", job_id, "logs", after=last_id, wait=wait_s or None, entries=most)
        understood.table(answer, last=str, pieces=list[Mapping[str, Any]], has_ended=bool)
        if answer["last"] == last_id and not answer["has_ended"]:
            # A gateway with many readers answers at once, and would be asked again at once.
            time.sleep(max(0.0, wait_s - (time.monotonic() - began_s)))
        return answer["last"], [_piece(piece) for piece in answer["pieces"]]

    def sign(self, job_id: str, reader: str, sign: str) -> None:
        """Give a reader's sign of life."""
        taken, _, number = sign.partition(" ")
        self.http.send("PUT", "jobs", job_id, "readers", reader, body={"taken": taken, "number": int(number)})

    def detach(self, job_id: str, reader: str) -> None:
        """Let the job go on without a reader."""
        self.http.send("DELETE", "jobs", job_id, "readers", reader)

    def receipt(self, job_id: str) -> Receipt | None:
        """Return the job's receipt, None while it has not ended."""
        ((state, receipt),) = remotequeries.ended(self.http, [job_id])
        if state is None:
            raise errors.NoSuchJob(f"no job of yours has the id {job_id!r}; list them with: celery-docker ps --all")
        return None if receipt is None else Receipt.from_dict(receipt)


class Remote:
    """Jobs through the gateway at a URL; `token` is for one that is reached over TCP."""

    def __init__(self, url: str, token: str) -> None:
        self.http = HttpSocket(url, token)
        self.queries = remotequeries.of(self.http)
        self.log = RemoteLog(self.http)

    def submit(self, spec: JobSpec, options: Submission, before: Callable[[str], object] | None) -> str:
        """Queue a job and return its id, with which `before` is called first."""
        job_id = str(uuid.uuid4())
        if before is not None:
            before(job_id)
        expires_s = None if options.expires is None else max(1, math.ceil(options.expires))
        document = {**spec.to_kwargs(), **_set({**asdict(options), "expires": expires_s})}
        self.http.send("POST", "jobs", body={"jobs": [document], "ids": [job_id]})
        return job_id

    def submit_batch(
        self, jobs: Sequence[Expanded], limit: int | None, name: str | None, about: Mapping[str, str]
    ) -> str:
        """Queue the jobs of a batch and return its id; `about` is stored with it."""
        batch = {**about, "id": str(uuid.uuid4()), "size": len(jobs), "limit": limit, "name": name}
        try:
            for part in _parts(jobs):
                body = {
                    "jobs": [{**job.kwargs, **_set(job.options)} for job in part],
                    "ids": [str(uuid.uuid4()) for _ in part],
                    "batch": {**batch, "indexes": [job.row.index for job in part]},
                }
                self.http.send("POST", "jobs", body=body)
        except (errors.StoreAway, errors.StoreRefused, errors.NoSuchJob) as exc:
            raise type(exc)(f"{exc}; some jobs of batch {batch['id']} may be queued, cancel it") from exc
        except KeyboardInterrupt as exc:
            batch_id = batch["id"]
            note = f"some jobs of batch {batch_id} may be queued; cancel it with: celery-docker cancel {batch_id}"
            exc.add_note(note)
            raise
        return str(batch["id"])

    @understood.function
    def cancel_many(self, job_ids: Sequence[str], reason: str) -> list[str]:
        """Cancel jobs, the last first; return the state that each was in, in the order given."""
        states: dict[str, str] = {}
        for first in reversed(range(0, len(job_ids), _JOBS_AT_ONCE)):
            body = {"ids": list(job_ids[first : first + _JOBS_AT_ONCE]), "reason": reason}
            answer = understood.table(self.http.send("POST", "cancel", body=body), jobs=list[Mapping[str, str]])
            states |= {entry["id"]: entry["state"] for entry in answer["jobs"]}
        return [states[job_id] for job_id in job_ids]

    def retry_many(self, job_ids: Sequence[str]) -> list[str]:
        """Queue jobs that have ended once more; return their new ids."""
        new_ids = [str(uuid.uuid4()) for _ in job_ids]
        for first in range(0, len(job_ids), _JOBS_AT_ONCE):
            last = first + _JOBS_AT_ONCE
            self.http.send("POST", "retry", body={"ids": job_ids[first:last], "new_ids": new_ids[first:last]})
        return new_ids

    def documents(self, job_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return all that is known of jobs."""
        return [self.http.get("jobs", job_id) for job_id in job_ids]

    @understood.function
    def summary(self, queue: str) -> dict[str, Any]:
        """Return how much there is to do, and who does it."""
        counts = Mapping[str, int]
        table = self.http.get("queue", queue=queue)
        understood.table(table, jobs=counts, queues=counts, workers=counts, slots=int, waits=Mapping[str, str])
        understood.table(table["jobs"], in_hand=int, queued=int, delayed=int, blocked=int)
        return dict(table)

    @understood.function
    def submitter(self) -> Identity:
        """Return the user of this client, as whom the gateway runs his jobs."""
        table = understood.table(self.http.get("identity"), name=str, uid=int, gid=int, groups=list[int])
        return Identity(table["name"], table["uid"], table["gid"], tuple(table["groups"]))

    def close(self) -> None:
        """Do nothing: each request has a connection of its own."""


def _parts(jobs: Sequence[Expanded]) -> Iterator[list[Expanded]]:
    """Yield the jobs of a batch in parts that a request may have."""
    part: list[Expanded] = []
    size = marks = 0
    for job in jobs:
        text = json.dumps([job.kwargs, job.options])
        size, marks = size + len(text), marks + sum(map(text.count, _MARKS))
        if part and (len(part) == _JOBS_AT_ONCE or size > _BYTES_AT_ONCE or marks > _MARKS_AT_ONCE):
            yield part
            part, size, marks = [], len(text), sum(map(text.count, _MARKS))
        part.append(job)
    if part:
        yield part


def _set(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, (), [])}


def _piece(document: Mapping[str, Any]) -> Piece:
    stream = Stream[str(document["stream"]).upper()]
    understood.table(document, attempt=int, offset=int, base64=str)
    return Piece(stream, document["attempt"], document["offset"], base64.b64decode(document["base64"]))
