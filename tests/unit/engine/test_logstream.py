"""Docker's framed stream, taken apart, in whatever pieces it arrives."""

from __future__ import annotations

import itertools
import queue
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core.container import Frame, Stream
from celery_docker.engine.logstream import Demultiplexer, LogStream
from tests.waiting import eventually

_FRAMES = st.lists(st.tuples(st.integers(0, 3), st.binary(max_size=40)), max_size=20)


def framed(stream: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(payload)) + payload


def joined(frames: list[Frame]) -> dict[int, bytes]:
    return {stream: b"".join(f.payload for f in frames if f.stream is stream) for stream in Stream}


@given(_FRAMES, st.lists(st.integers(1, 30)))
def test_every_byte_arrives_in_its_stream(sent: list[tuple[int, bytes]], sizes: list[int]) -> None:
    """However the network cuts it; what is neither stdout nor stderr is left out."""
    data = b"".join(framed(*frame) for frame in sent)
    demultiplexer, frames, at = Demultiplexer(), list[Frame](), 0
    for size in itertools.chain(sizes, itertools.repeat(len(data) + 1)):
        frames += demultiplexer.feed(data[at : at + size])
        at += size
        if at >= len(data):
            break
    assert joined(frames) == {s: b"".join(p for number, p in sent if number == s) for s in (1, 2)}
    assert all(frame.payload for frame in frames)


def test_short_lines_come_as_one_frame() -> None:
    """Ten thousand writes of a line each cost one write of ours, and the order between the streams stays."""
    chunk = framed(1, b"a") * 3 + framed(2, b"b") + framed(1, b"c")
    expected = [Frame(Stream.STDOUT, b"aaa"), Frame(Stream.STDERR, b"b"), Frame(Stream.STDOUT, b"c")]
    assert list(Demultiplexer().feed(chunk)) == expected


def test_a_stream_that_breaks_off_ends() -> None:
    """The bytes that came before are there; the rest of the frame never comes."""
    ours, theirs = socket.socketpair()
    released: list[str] = []
    chunks = iter([framed(1, b"whole") + framed(1, b"broken")[:10]])
    with ours, theirs, LogStream(chunks, ours, lambda: released.append("once")) as stream:
        assert joined(list(stream)) == {1: b"wholebr", 2: b""}
        assert list(stream) == []
    assert released == ["once"]


def streamed(*chunks: bytes) -> tuple[LogStream, list[bytes]]:
    """Return a stream of these chunks, and what is left to be read of them."""
    left = list(chunks)
    ours, theirs = socket.socketpair()

    def source() -> Iterator[bytes]:
        with theirs:
            while left:
                yield left.pop(0)

    return LogStream(source(), ours, ours.close), left


def test_what_is_left_at_the_end_is_read_at_once_and_in_order() -> None:
    """Whether anybody asks for it just then or not."""
    chunks = [framed(1, bytes([number])) for number in range(9)]
    stream, left = streamed(*chunks)
    with stream:
        frames = iter(stream)
        assert next(frames).payload == b"\0"
        assert len(left) == 8
        stream.read_ahead()
        eventually(lambda: not left)
        assert joined(list(frames)) == {1: bytes(range(1, 9)), 2: b""}


def test_without_a_thread_the_rest_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stream, left = streamed(framed(1, b"a"), framed(1, b"b"))
    with stream:
        monkeypatch.setattr(threading.Thread, "start", fail)
        stream.read_ahead()
        assert len(left) == 2
        assert joined(list(stream)) == {1: b"ab", 2: b""}


def test_a_closed_stream_gives_nothing_that_was_read_ahead() -> None:
    stream, left = streamed(framed(1, b"a"), framed(1, b"b"), framed(1, b"c"))
    with stream:
        frames = iter(stream)
        next(frames)
        stream.read_ahead()
        eventually(lambda: not left)
        stream.close()
        assert list(frames) == []


def test_who_reads_just_now_reads_all_of_the_rest() -> None:
    ours, theirs = socket.socketpair()
    chunks: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    got: list[Frame] = []
    with theirs, LogStream(iter(chunks.get, b""), ours, ours.close) as stream:
        reader = threading.Thread(target=lambda: got.append(next(iter(stream))), daemon=True)
        reader.start()
        eventually(stream._reading.locked)
        stream.read_ahead()
        for chunk in (framed(1, b"a"), framed(1, b"b"), b""):
            chunks.put(chunk)
        reader.join(60)
        assert chunks.empty()
        assert joined([*got, *stream]) == {1: b"ab", 2: b""}
