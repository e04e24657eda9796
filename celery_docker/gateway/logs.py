"""The output of a job for readers: pieces of the live log, and the signs of life of whoever is attached.

The reader keeps his own place and gives each sign himself, as with Redis: a restart of this service loses no byte.
Invariant: requests that wait for output hold at most half of the threads; one too many is answered at once.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from celery_docker import errors
from celery_docker.core import kinds
from celery_docker.core.lastlines import LastLine
from celery_docker.core.output import Piece
from celery_docker.gateway import bodies, ownership, parameters
from celery_docker.gateway.routing import Answer, Refusal, Request
from celery_docker.store import livelog
from celery_docker.store.lastlines import LastLines
from celery_docker.store.livelog import RedisLog
from celery_docker.store.queries import Queries

_READER = re.compile(r"[0-9a-f]{32}", re.ASCII)
_START = "0-0"
_ATTACHED_S = 60
_MOST_ATTACHED = 1000


@dataclass
class Attached:
    """Bounds the readers that a user attaches to jobs within a minute: each worker looks at all of them each second."""

    clock: Callable[[], float] = time.monotonic
    most: int = _MOST_ATTACHED
    _signs: dict[int, dict[tuple[str, str], float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, uid: int, job_id: str, reader: str) -> None:
        """Note a sign of life. Raises `Refusal` where a user has too many readers."""
        with self._lock:
            now_s = self.clock()
            signs = self._signs.setdefault(uid, {})
            if (job_id, reader) not in signs and len(signs) >= self.most:
                signs = {key: at_s for key, at_s in signs.items() if at_s > now_s - _ATTACHED_S}
                self._signs[uid] = signs
            if (job_id, reader) not in signs and len(signs) >= self.most:
                raise Refusal(429, f"you read the output of {self.most:,} jobs at a time already; wait a minute")
            signs[job_id, reader] = now_s


@dataclass(frozen=True)
class Logs:
    """The handlers about output; `waiting` bounds those that wait. Each raises `StoreAway` or `StoreRefused`."""

    log: RedisLog
    queries: Queries
    waiting: threading.Semaphore
    attached: Attached = field(default_factory=Attached)

    def read(self, request: Request) -> Answer:
        """Return output behind an entry, and whether the job has ended. Raises `NoSuchJob`."""
        job_id, query = request.names["id"], request.query
        ownership.check_jobs(self.queries, request, [job_id])
        after = query.get(parameters.AFTER.name, _START)
        if not bodies.is_entry(after):
            raise errors.SpecError(f"after: {kinds.shown(after)} must be the value of `last` in the answer before")
        # Before the output: after an end there is nothing more to come.
        has_ended = self.log.receipt(job_id) is not None
        wait_s = 0.0 if has_ended else query.get(parameters.WAIT.name, 0.0)
        last, pieces = self._entries(job_id, after, wait_s, query.get(parameters.ENTRIES.name, livelog.AT_ONCE))
        return Answer({"pieces": [_json(piece) for piece in pieces], "last": last, "has_ended": has_ended})

    def last_lines(self, request: Request) -> Answer:
        """Return the last line that each of these jobs has printed; another's job is not among them."""
        own = list(ownership.of_jobs(self.queries, request, request.query.get(parameters.IDS.name, [])))
        lines = zip(own, LastLines(self.log.link).of(own), strict=True)
        return Answer({"lines": {job_id: None if line is None else _line_json(line) for job_id, line in lines}})

    def _entries(self, job_id: str, after: str, wait_s: float, most: int) -> tuple[str, list[Piece]]:
        if wait_s and self.waiting.acquire(blocking=False):
            try:
                return self.log.entries(job_id, after, wait_s, most)
            finally:
                self.waiting.release()
        return self.log.entries(job_id, after, 0, most)

    def sign(self, request: Request) -> Answer:
        """Take a reader's sign of life: the job waits for him if need be. Raises `NoSuchJob`.

        A job that is not there yet may have one too: `run` attaches before it queues.
        """
        job_id, reader = bodies.uuid4(request.names["id"], "the id"), _reader(request)
        ((state,),) = self.queries.jobs.fields([job_id], "state")
        if state is not None:
            ownership.check_jobs(self.queries, request, [job_id])
        sign = bodies.sign(request.body)
        self.attached.add(request.identity.uid, job_id, reader)
        self.log.sign(job_id, reader, sign)
        return Answer({"id": job_id, "reader": reader})

    def detach(self, request: Request) -> Answer:
        """Let the job go on without a reader. Raises `NoSuchJob`."""
        job_id, reader = request.names["id"], _reader(request)
        ownership.check_jobs(self.queries, request, [job_id])
        self.log.detach(job_id, reader)
        return Answer({"id": job_id, "reader": reader})


def _reader(request: Request) -> str:
    reader = request.names["reader"]
    if not _READER.fullmatch(reader):
        raise errors.SpecError(f"the reader: {kinds.shown(reader)} must be 32 random hexadecimal digits")
    return reader


def _line_json(line: LastLine) -> dict[str, Any]:
    return {"line": line.text, "stream": line.stream and line.stream.name.lower()}


def _json(piece: Piece) -> dict[str, Any]:
    return {
        "stream": piece.stream.name.lower(),
        "attempt": piece.attempt,
        "offset": piece.offset,
        "base64": base64.b64encode(piece.data).decode(),
    }
