"""Who watches is told in time, and who runs does not notice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from celery_docker import errors
from celery_docker.core.container import Frame, Stream
from celery_docker.core.jobrecord import Claim, Verdict
from celery_docker.core.output import Chunk
from celery_docker.core.receipt import Attempt
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.job import Delivery, Job
from tests.waiting import eventually


class Sink:
    """Takes note of what it is told, or fails."""

    def __init__(self) -> None:
        self.told: list[Chunk] = []
        self.calls = 0
        self.failure: Exception | None = None

    def append(self, told: Sequence[Chunk]) -> None:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        self.told += told

    @property
    def text(self) -> bytes:
        return b"".join(piece.data for one in self.told for piece in one.pieces)


def running(job_id: str = "j1", said: bytes = b"") -> Job:
    job = Job(
        Delivery(job_id, (), {}, "celery", {}), Claim(Verdict.RUN, fence=7), Attempt(2, "node1", datetime.now(UTC))
    )
    if said:
        job.outbox.add(Frame(Stream.STDOUT, said))
    return job


def test_what_was_said_is_told_once_with_the_owners_fence() -> None:
    sink = Sink()
    live, job = Broadcast(sink, "node1"), running(said=b"hello")
    for _ in range(2):
        live.send([job, running("silent")])
    (told,) = sink.told
    assert (told.job_id, told.host, told.fence, told.pieces[0].attempt) == ("j1", "node1", 7, 2)
    assert sink.text == b"hello"


def test_while_redis_is_away_the_output_is_kept_and_ends_do_not_wait_for_it() -> None:
    sink = Sink()
    live, job = Broadcast(sink, "node1"), running(said=b"one ")
    sink.failure = errors.StoreAway("gone")
    live.send([job])
    job.outbox.add(Frame(Stream.STDOUT, b"two"))
    live.last_words(job)
    assert sink.calls == 1, "it was away a moment ago: nobody asks once more before the end is written"
    sink.failure = None
    live.send([job])
    assert sink.text == b"one two"
    job.outbox.add(Frame(Stream.STDOUT, b" three"))
    live.last_words(job)
    assert sink.text == b"one two three"


def test_the_jobs_are_told_of_in_the_background() -> None:
    sink, job = Sink(), running(said=b"hello")
    live = Broadcast(sink, "node1")
    before = threading.active_count()
    live.start(lambda: [job])
    eventually(lambda: sink.text == b"hello")
    live.stop()
    eventually(lambda: threading.active_count() == before)
