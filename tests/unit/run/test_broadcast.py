"""Output reaches those who watch in time, and the job that runs does not notice."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from celery_docker import errors
from celery_docker.core.container import Frame, Stream
from celery_docker.core.jobrecord import Claim, Verdict
from celery_docker.core.lifecycle import Cause, EndRequest
from celery_docker.core.output import LIVE_BYTES, Beginning, Chunk, Reply
from celery_docker.core.receipt import Attempt
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.job import Delivery, Job
from tests.waiting import eventually


class Sink:
    """Takes note of the chunks that it is sent, or fails; with readers, of `room` bytes at most."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.calls = 0
        self.failure: Exception | None = None
        self.signs: dict[str, str] = {}
        self.sent: dict[Stream, int] = {}
        self.room = 0

    def append(self, chunks: Sequence[Chunk]) -> list[Reply]:
        self.calls += 1
        if self.failure is not None:
            raise self.failure
        for chunk in chunks:
            for reader in chunk.gone:
                self.signs.pop(reader, None)
        if self.signs and len(self.text) >= self.room:
            return [Reply(dict(self.signs), is_full=True) for _ in chunks]
        self.chunks += chunks
        return [Reply(dict(self.signs)) for _ in chunks]

    def beginning(self, job_id: str, attempt: int) -> Beginning:
        if self.failure is not None:
            raise self.failure
        return Beginning(dict(self.signs), self.sent)

    def readers(self) -> dict[str, dict[str, str]]:
        return {"j1": dict(self.signs)} if self.signs else {}

    @property
    def text(self) -> bytes:
        return b"".join(piece.data for chunk in self.chunks for piece in chunk.pieces)


def running(job_id: str = "j1", stdout: bytes = b"") -> Job:
    job = Job(
        Delivery(job_id, (), {}, "celery", {}), Claim(Verdict.RUN, fence=7), Attempt(2, "node1", datetime.now(UTC))
    )
    if stdout:
        job.outbox.add(Frame(Stream.STDOUT, stdout))
    return job


def test_what_was_said_is_told_once_with_the_owners_fence() -> None:
    sink = Sink()
    live, job = Broadcast(sink, "node1"), running(stdout=b"hello")
    for _ in range(2):
        live.send([job, running("silent")])
    (chunk,) = sink.chunks
    assert (chunk.job_id, chunk.host, chunk.fence, chunk.pieces[0].attempt) == ("j1", "node1", 7, 2)
    assert sink.text == b"hello"


def test_while_redis_is_away_the_output_is_kept_and_ends_do_not_wait_for_it() -> None:
    sink = Sink()
    live, job = Broadcast(sink, "node1"), running(stdout=b"one ")
    live.begin(job)
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
    sink, job = Sink(), running(stdout=b"hello")
    live = Broadcast(sink, "node1")
    before = threading.active_count()
    live.start(lambda: [job])
    eventually(lambda: sink.text == b"hello")
    live.stop()
    eventually(lambda: threading.active_count() == before)


def fill(job: Job, size: int = 2 * LIVE_BYTES) -> None:
    for _ in range(size // 1024):
        job.outbox.add(Frame(Stream.STDOUT, bytes(1024)), keep_all=job.waits_for_readers)


def read(sink: Sink, room: int) -> tuple[Broadcast, Job]:
    """Return a job that has one reader, with so much room for its output."""
    live, job = Broadcast(sink, "node1"), running()
    sink.signs, sink.room = {"r1": "0-0 1"}, room
    live.begin(job)
    return live, job


def test_a_job_that_nobody_reads_waits_for_nothing() -> None:
    sink, job = Sink(), running()
    live = Broadcast(sink, "node1")
    live.begin(job)
    fill(job)
    live.keep_up(job)
    assert sink.calls == 0
    assert sum(len(piece.data) for piece in job.outbox.take()) <= LIVE_BYTES


def test_a_job_with_a_reader_waits_until_there_is_room() -> None:
    """And nothing is dropped."""
    sink = Sink()
    live, job = read(sink, room=0)
    fill(job)
    waiting = threading.Thread(target=live.keep_up, args=(job,), daemon=True)
    waiting.start()
    eventually(lambda: sink.calls > 2)
    assert sink.text == b""
    sink.room = 1
    waiting.join(10)
    assert not waiting.is_alive()
    assert sink.text == bytes(2 * LIVE_BYTES)


def test_what_an_earlier_process_has_sent_is_not_sent_again() -> None:
    sink = Sink()
    sink.sent = {Stream.STDOUT: 3}
    live, job = read(sink, room=10**9)
    for payload in (b"ab", b"cd", b"e"):
        job.outbox.add(Frame(Stream.STDOUT, payload))
    live.send([job])
    assert [(piece.offset, piece.data) for piece in sink.chunks[0].pieces] == [(3, b"de")]


def test_a_job_that_began_while_redis_was_away_may_have_a_reader() -> None:
    """It has one here, and nothing is dropped."""
    sink, job = Sink(), running()
    live = Broadcast(sink, "node1")
    sink.failure = errors.StoreAway("gone")
    live.begin(job)
    fill(job)
    sink.failure, sink.signs, sink.room = None, {"r1": "0-0 1"}, 10**9
    live.keep_up(job)
    assert sink.text == bytes(2 * LIVE_BYTES)


def test_a_job_that_is_to_end_waits_for_no_reader() -> None:
    live, job = read(Sink(), room=0)
    fill(job)
    job.end_request = EndRequest(Cause.CANCELLED, "cancelled")
    live.keep_up(job)
    live.last_words(job)


def test_a_reader_that_comes_later_is_noticed() -> None:
    sink, job = Sink(), running(stdout=b"before")
    live = Broadcast(sink, "node1")
    sink.signs, sink.room = {"r1": "0-0 1"}, 10**9
    live.start(lambda: [job])
    eventually(lambda: job.waits_for_readers)
    live.stop()


def test_the_end_waits_until_the_readers_have_room_for_the_rest() -> None:
    sink = Sink()
    live, job = read(sink, room=0)
    job.outbox.add(Frame(Stream.STDOUT, b"the end"))
    waiting = threading.Thread(target=live.last_words, args=(job,), daemon=True)
    waiting.start()
    eventually(lambda: sink.calls > 2)
    sink.room = 1
    waiting.join(10)
    assert sink.text == b"the end"


def test_the_end_waits_for_what_the_loop_has_taken_and_gives_back() -> None:
    """It has nothing left while the loop sends the rest, which Redis has no room for."""
    is_sending, may_answer = threading.Event(), threading.Event()

    class Slow(Sink):
        def append(self, chunks: Sequence[Chunk]) -> list[Reply]:
            is_sending.set()
            may_answer.wait(10)
            return super().append(chunks)

    sink = Slow()
    live, job = read(sink, room=0)
    job.outbox.add(Frame(Stream.STDOUT, b"the end"))
    loop = threading.Thread(target=live.send, args=([job, running("silent")],), daemon=True)
    loop.start()
    assert is_sending.wait(10)
    waiting = threading.Thread(target=live.last_words, args=(job,), daemon=True)
    waiting.start()
    may_answer.set()
    eventually(lambda: sink.calls > 2)
    sink.room = 1
    waiting.join(10)
    assert (waiting.is_alive(), sink.text) == (False, b"the end")
