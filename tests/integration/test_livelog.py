"""The live log over a real Redis: what is sent is read once, whoever sends it how often, and whenever it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from threading import Thread
from typing import Any

import pytest
import redis

from celery_docker import errors
from celery_docker.core import message, output
from celery_docker.core.container import Stream
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.core.output import Beginning, Chunk, Piece, Reply
from celery_docker.store import jobstore, keys, livelog, redislink
from celery_docker.store.livelog import Output
from tests import servers
from tests.waiting import eventually

HOST = "node1"
OUT, ERR = Stream.STDOUT, Stream.STDERR
RECEIPT: dict[str, Any] = {"state": "succeeded", "output": "the end\n", "stdout_bytes": 8, "attempts": [{}]}


class Watched:
    """A job that runs, its log, and how to look at it."""

    def __init__(self, server: servers.RedisServer) -> None:
        self.store = jobstore.connect(server.url)
        self.bytes = redislink.connect(server.url, text=False)
        self.client: Any = server.client()
        self.log = livelog.LiveLog(self.store.link)
        self.fence = 0
        self.claim()

    def claim(self) -> None:
        envelope = message.task_message("j1", {}, queue="celery", tag="t", origin="")
        self.fence = self.store.claim("j1", host=HOST, queue="celery", envelope=envelope).fence

    def tell(self, *pieces: Piece, gone: Sequence[str] = ()) -> Reply:
        (reply,) = self.log.append([Chunk("j1", HOST, self.fence, pieces, gone)])
        return reply

    def finish(self) -> None:
        self.store.finish(Holding("j1", HOST, self.fence), State.SUCCEEDED, RECEIPT)

    def reader(self, **options: Any) -> livelog.Reader:
        return livelog.Reader(livelog.RedisLog(self.bytes), "j1", **options)

    def so_far(self, **options: Any) -> list[Output]:
        return list(self.reader().so_far(**options))

    def close(self) -> None:
        self.client.flushdb()
        for opened in (self.store, self.bytes, self.client):
            opened.close()


@pytest.fixture
def watched(redis_server: servers.RedisServer) -> Iterator[Watched]:
    watched = Watched(redis_server)
    yield watched
    watched.close()


def out(offset: int, data: bytes, attempt: int = 1) -> Piece:
    return Piece(OUT, attempt, offset, data)


def text(outputs: list[Output]) -> bytes:
    return b"".join(output.data for output in outputs)


def test_what_was_sent_before_is_not_there_twice(watched: Watched) -> None:
    """A new process reads the container's output from its beginning, and cuts it elsewhere."""
    watched.tell(out(0, b"abc"), Piece(ERR, 1, 0, b"x"))
    for _ in range(2):
        watched.tell(out(0, b"ab"), out(2, b"cde"), Piece(ERR, 1, 0, b"x"))
    assert watched.so_far() == [Output(OUT, 1, b"abc", 0), Output(ERR, 1, b"x", 0), Output(OUT, 1, b"de", 0)]


def test_bytes_that_are_no_text_arrive_as_they_are(watched: Watched) -> None:
    every = bytes(range(256))
    watched.tell(out(0, every))
    assert text(watched.so_far()) == every


def test_a_hole_shows_as_a_gap(watched: Watched) -> None:
    watched.tell(out(0, b"abc"))
    watched.tell(out(10, b"def"))
    assert [(chunk.data, chunk.gap_bytes) for chunk in watched.so_far()] == [(b"abc", 0), (b"def", 7)]


def test_only_the_last_part_is_kept(watched: Watched) -> None:
    """By bytes; and where each entry is small, by their number."""
    for number in range(40):
        watched.tell(out(number * output.PIECE_BYTES, bytes(output.PIECE_BYTES)))
    chunks = watched.so_far()
    assert len(text(chunks)) == output.LIVE_BYTES
    assert chunks[0].gap_bytes == 40 * output.PIECE_BYTES - output.LIVE_BYTES
    assert sum(chunk.gap_bytes for chunk in chunks[1:]) == 0


def attached(watched: Watched) -> livelog.Reader:
    reader = watched.reader()
    reader.attach()
    return reader


def test_nothing_is_dropped_that_an_attached_reader_has_not_taken(watched: Watched) -> None:
    """The log grows up to a bound; beyond it a chunk is refused, and the worker keeps it."""
    reader, sent = attached(watched), 0
    while not watched.tell(out(sent, bytes(output.LIVE_BYTES))).is_full:
        sent += output.LIVE_BYTES
    assert output.UNREAD_BYTES <= sent <= output.UNREAD_BYTES + output.LIVE_BYTES
    pieces = list(reader.so_far())
    assert (len(text(pieces)), [piece.gap_bytes for piece in pieces if piece.gap_bytes]) == (sent, [])
    reader.attach()
    assert not watched.tell(out(sent, b"x")).is_full
    assert len(text(watched.so_far())) <= output.LIVE_BYTES


def test_a_reader_that_is_gone_is_waited_for_no_more(watched: Watched) -> None:
    """The worker says who is; whoever gives a sign of life again is there again."""
    reader, sent = attached(watched), 0
    while not (reply := watched.tell(out(sent, bytes(output.LIVE_BYTES)))).is_full:
        sent += output.LIVE_BYTES
    reply = watched.tell(out(sent, bytes(output.LIVE_BYTES)), gone=list(reply.signs))
    assert (reply.is_full, reply.signs) == (False, {})
    assert sum(piece.gap_bytes for piece in reader.so_far()) > output.UNREAD_BYTES // 2
    reader.attach()
    assert len(watched.tell(out(sent + output.LIVE_BYTES, b"x")).signs) == 1


def test_a_job_has_no_more_readers_than_its_worker_can_look_at(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livelog, "_MOST_READERS", 2)
    first, second, third = (watched.reader() for _ in range(3))
    first.attach()
    second.attach()
    with pytest.raises(errors.StoreRefused, match=r"^job j1 has 2 readers of its output already; try again later$"):
        third.attach()
    first.attach()
    second.detach()
    third.attach()
    assert len(watched.log.beginning("j1", 1).signs) == 2


def test_of_two_readers_the_slower_counts(watched: Watched) -> None:
    fast, slow = attached(watched), attached(watched)
    watched.tell(out(0, bytes(output.LIVE_BYTES)))
    watched.tell(out(output.LIVE_BYTES, bytes(output.LIVE_BYTES)))
    list(fast.so_far())
    fast.detach()
    watched.tell(out(2 * output.LIVE_BYTES, b"x"))
    assert len(text(list(slow.so_far()))) == 2 * output.LIVE_BYTES + 1


def test_a_log_shrinks_when_the_last_reader_of_an_ended_job_leaves(watched: Watched) -> None:
    reader = attached(watched)
    for number in range(4):
        watched.tell(out(number * output.LIVE_BYTES, bytes(output.LIVE_BYTES)))
    watched.finish()
    assert len(text(list(reader.so_far()))) == 4 * output.LIVE_BYTES
    reader.detach()
    assert len(text(watched.so_far())) <= output.LIVE_BYTES
    assert watched.client.keys("*read*") == []


def test_the_worker_learns_who_reads_which_job(watched: Watched) -> None:
    assert watched.log.readers() == {}
    assert watched.log.beginning("j1", 1) == Beginning({}, {OUT: 0, ERR: 0})
    reader = attached(watched)
    watched.tell(out(0, b"abc"), Piece(ERR, 1, 0, b"x"))
    ((job_id, signs),) = watched.log.readers().items()
    assert (job_id, len(signs)) == ("j1", 1)
    assert watched.log.beginning("j1", 1) == Beginning(signs, {OUT: 3, ERR: 1})
    assert watched.log.beginning("j1", 2) == Beginning(signs, {OUT: 0, ERR: 0})
    reader.detach()
    assert watched.log.readers() == {}


def test_attempts_come_one_after_the_other(watched: Watched) -> None:
    watched.tell(out(0, b"first"))
    watched.tell(out(0, b"second", attempt=2))
    watched.tell(out(5, b"too late"))
    assert [(part.attempt, part.data, part.gap_bytes) for part in watched.so_far()] == [
        (1, b"first", 0),
        (2, b"second", 0),
    ]


def test_a_reader_goes_on_where_it_was(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Output that was read, but not given when Redis went away, is read again; the last lines are still the same."""
    monkeypatch.setattr(livelog, "AT_ONCE", 1)
    watched.tell(out(0, b"one\n"), out(4, b"two\n"))
    reader, reads = watched.reader(), 0
    read = watched.bytes.client.xread

    def fails_once(*args: Any, **kwargs: Any) -> Any:
        nonlocal reads
        reads += 1
        if reads == 2:
            raise redis.ConnectionError
        return read(*args, **kwargs)

    monkeypatch.setattr(watched.bytes.client, "xread", fails_once)
    with pytest.raises(errors.StoreAway):
        list(reader.so_far(lines=1))
    assert text(list(reader.so_far(lines=1))) == b"two\n"
    watched.tell(out(8, b"three\n"), out(14, b"four\n"))
    assert text(list(reader.so_far(lines=1))) == b"three\nfour\n"


def test_somebody_who_is_not_the_owner_is_not_heard(watched: Watched) -> None:
    watched.log.append([Chunk("j1", "node2", watched.fence, [out(0, b"x")])])
    watched.log.append([Chunk("j1", HOST, watched.fence + 1, [out(0, b"x")])])
    watched.log.append([Chunk("j2", HOST, 1, [out(0, b"x")])])
    assert watched.so_far() == []
    assert not watched.client.exists(keys.log("j1"), keys.log("j2"), keys.job("j2"))


def test_a_log_outlives_its_job_by_an_hour_and_then_the_receipt_is_read(watched: Watched) -> None:
    watched.tell(out(0, b"all of it\n"))
    assert watched.client.ttl(keys.log("j1")) > 15 * 86_400
    watched.finish()
    watched.tell(out(10, b"after the end"))
    watched.store.settle("j1", host=HOST, retention_s=7200)
    assert 3500 < watched.client.ttl(keys.log("j1")) <= 3600
    assert text(watched.so_far()) == b"all of it\n"
    watched.client.delete(keys.log("j1"))
    assert list(watched.reader().follow()) == [Output(OUT, 1, b"the end\n", 0)]
    assert list(watched.reader(streams=[ERR]).follow()) == []


def test_a_reader_that_comes_again_is_told_nothing_twice(watched: Watched) -> None:
    """Nor by the receipt, when the job has ended meanwhile."""
    reader = watched.reader()
    watched.tell(out(0, b"the end\n"))
    assert text(list(reader.so_far())) == b"the end\n"
    watched.finish()
    assert list(reader.so_far()) == []


def test_of_a_long_output_the_receipt_has_the_end(watched: Watched) -> None:
    watched.finish()
    cut = {**RECEIPT, "stdout_bytes": 1000, "output_truncated": True}
    watched.client.hset(keys.job("j1"), "receipt", json.dumps(cut))
    assert watched.so_far() == [Output(OUT, 1, b"the end\n", 992)]


def test_the_last_lines_and_one_stream(watched: Watched) -> None:
    watched.tell(out(0, b"a\nb\n"), Piece(ERR, 1, 0, b"e\nf\n"), out(4, b"c\n"))
    assert text(watched.so_far(lines=2)) == b"f\nc\n"
    assert text(list(watched.reader(streams=[OUT]).so_far(lines=2))) == b"b\nc\n"
    assert [chunk.gap_bytes for chunk in watched.so_far(lines=2)] == [0, 0]


def test_following_ends_with_the_job_and_misses_nothing(watched: Watched) -> None:
    chunks: list[Output] = []
    thread = Thread(target=lambda: chunks.extend(watched.reader().follow()), daemon=True)
    thread.start()
    for number in range(3):
        watched.tell(out(number, b"x"))
        eventually(lambda number=number: watched.client.xlen(keys.log("j1")) == number + 1)  # type: ignore[misc]
    assert thread.is_alive()
    watched.tell(out(3, b"end"))
    watched.finish()
    thread.join(10)
    assert not thread.is_alive()
    assert text(chunks) == b"xxxend"


def test_a_job_that_nobody_knows_has_no_log(watched: Watched) -> None:
    with pytest.raises(errors.NoSuchJob, match="'j9'"):
        list(livelog.Reader(livelog.RedisLog(watched.bytes), "j9").follow())
