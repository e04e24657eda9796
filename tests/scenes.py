"""Made-up jobs and hosts: records, reports and output as workers write them, where no worker runs."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from celery_docker.client.client import Client
from celery_docker.core import history
from celery_docker.core.admission import Offer, Room
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row, Source
from celery_docker.core.container import Stream
from celery_docker.core.history import Sample
from celery_docker.core.hostreport import of_offer, of_room
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.core.output import Chunk, Piece
from celery_docker.store import keys
from celery_docker.store.hosts import HostStore
from celery_docker.store.livelog import LiveLog

GIB = 2**30
QUEUE = "celery"
KEPT_S = 100_000
TIMES = ("submitted_at", "claimed_at", "finished_at")
# A line of output with the stream that it is on.
Line = tuple[Stream, str]


class Scene:
    """A queue whose jobs are at the places that a test gives them."""

    def __init__(self, url: str) -> None:
        self.client = Client(url)
        self._fences: dict[str, tuple[str, int]] = {}
        self._ends: dict[str, dict[Stream, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def host(self, name: str, *, slots: int = 4, running: int = 0, gpus: int = 0, **others: Any) -> None:
        """Send the heartbeat of a host; `others` go into its report."""
        offer = Offer(slots * 2000, slots * 8 * GIB, tuple(f"GPU-{number}" for number in range(gpus)))
        room = Room((slots - running) * 2000, (slots - running) * 8 * GIB, gpus)
        report = {
            "version": "0.2.0",
            "docker": "26.1.5",
            "unit": "celery-worker",
            "queues": [QUEUE],
            "slots": slots,
            "running": running,
            "phase": "serving",
            "accepting": True,
            "status": f"Serving; {running} jobs run",
            "started_at": datetime.now(UTC).isoformat(),
            "offer": of_offer(offer),
            "free": of_room(room),
            **others,
        }
        HostStore(self.client.store.link).beat(name, machine=name, about=report)

    def start(self, job_id: str, host: str = "node1", *output: Line, state: State = State.RUNNING) -> str:
        """Let a host take a job and run it, with some output."""
        record = self.client.store.record(job_id)
        claim = self.client.store.claim(job_id, host=host, queue=QUEUE, envelope=json.loads(record["message"]))
        self._fences[job_id] = (host, claim.fence)
        self.client.store.update(self._holding(job_id), {"state": state.value})
        self.print(job_id, *output)
        return job_id

    def print(self, job_id: str, *output: Line) -> None:
        """Let a job that runs print lines."""
        host, fence = self._fences[job_id]
        ends = self._ends.setdefault(job_id, dict.fromkeys(Stream, 0))
        pieces = []
        for stream, text in output:
            data = text.encode()
            pieces.append(Piece(stream, 1, ends[stream], data))
            ends[stream] += len(data)
        if pieces:
            LiveLog(self.client.store.link).append([Chunk(job_id, host, fence, tuple(pieces))])

    def end(self, job_id: str, state: State, **receipt: Any) -> str:
        """Let a job that runs end."""
        host, _ = self._fences[job_id]
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry = {"attempt": 1, "host": host, "started_at": now, "finished_at": now}
        entry |= {name: receipt.get(name) for name in ("exit_code", "reason")}
        whole = {"id": job_id, "state": state.value, "host": host, "run_s": 1.5, "attempts": [entry], **receipt}
        self.client.store.finish(self._holding(job_id), state, whole)
        self.client.store.settle(job_id, host=host, retention_s=KEPT_S)
        return job_id

    def day(self, *hosts: str) -> None:
        """Write the samples of a day with a quiet night, and an hour without a worker."""
        link, ended = self.client.store.link, Counter[str]()
        latest = history.step_of(self.client.queries.now())
        for place in range(history.KEPT):
            busy = 0.6 + 0.35 * math.sin(place / 45)
            ended += Counter(succeeded=3 + place % 7, failed=int(place % 29 == 3), cancelled=int(place % 97 == 5))
            use = {host: [round(100 * busy) - place % 5] * 3 for host in hosts}
            at = latest - (history.PLACES - place) * history.STEP_S
            sample = Sample(at, round(90 * busy * busy) + place % 4, round(16 * busy), 0, ended, use)
            if not 100 <= place < 112:
                link.call("sample", [keys.HISTORY], [at, sample.text(), history.KEPT, KEPT_S])

    def age(self, job_id: str, by_s: float) -> None:
        """Let the times of a job be so long ago."""
        redis = self.client.store.link.client
        times = redis.hmget(keys.job(job_id), TIMES)
        moved = {name: float(text) - by_s for name, text in zip(TIMES, times, strict=True) if text is not None}
        redis.hset(keys.job(job_id), mapping=moved)

    def submit(self, name: str = "job", **options: Any) -> str:
        """Queue a job straight into Redis."""
        return self.client.submit("busybox", ["sleep", "1000"], name=name, **options).id

    def batch(self, name: str, size: int) -> str:
        """Queue a batch; return its id."""
        jobs = [
            Expanded(Row(number, Source.ARRAY, {}), {"image": "busybox", "name": f"{name}-{number}"}, {})
            for number in range(1, size + 1)
        ]
        return self.client.submit_batch(jobs, name=name).id

    def members(self, batch_id: str) -> list[str]:
        """Return the ids of a batch's jobs, in order."""
        return [job.id for job in self.client.batch(batch_id).jobs()]

    def _holding(self, job_id: str) -> Holding:
        host, fence = self._fences[job_id]
        return Holding(job_id, host, fence)
