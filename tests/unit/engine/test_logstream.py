"""Docker's framed stream, taken apart, in whatever pieces it arrives."""

from __future__ import annotations

import itertools
import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core.container import Frame, Stream
from celery_docker.engine.logstream import Demultiplexer, LogStream

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
