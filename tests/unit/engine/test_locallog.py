"""The line ends that Docker 20.10 leaves out of a replay, put back."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.engine.locallog import RECORD_BYTES, Records

_SIZES = [0, 1, 5, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, 3 * RECORD_BYTES]
_LINES = st.lists(st.tuples(st.sampled_from(_SIZES), st.booleans()), max_size=8)


def records(data: bytes) -> Iterator[tuple[bytes, bool, bool]]:
    """Cut an output as Docker's copier does: the record, whether the line goes on, and whether it ends in it."""
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        body, is_whole, continued = line, number < len(lines) - 1, False
        while len(body) >= RECORD_BYTES:
            yield body[:RECORD_BYTES], continued, False
            body, continued = body[RECORD_BYTES:], True
        if is_whole or body:
            yield body, continued, is_whole


def old_frames(data: bytes, stream: int = 1) -> bytes:
    """Return the replay of Docker 20.10: behind a line of several records there is no line end."""
    framed, first = b"", 0
    for number, (record, continued, ends) in enumerate(records(data)):
        first = first if continued else number
        payload = b"2026-11-26T10:00:00.%09dZ " % first + record + (b"\n" if ends and not continued else b"")
        framed += struct.pack(">BxxxL", stream, len(payload)) + payload
    return framed


def replayed(data: bytes, log: Path | None = None) -> bytes:
    """Return what is read from such a replay, which comes in chunks of any size."""
    taken, framed = Records(log), old_frames(data)
    pieces = [piece for at in range(0, len(framed), 777) for piece in taken.feed(framed[at : at + 777])]
    return b"".join(piece for _, piece in (*pieces, *taken.rest()))


def written(folder: Path, data: bytes, source: bytes = b"stdout") -> Path:
    """Write the log of an output in the format of the driver."""
    log = folder / "container.log"
    with log.open("ab") as file:
        for record, continued, ends in records(data):
            is_partial = continued or not ends
            entry = b"\x0a" + bytes([len(source)]) + source + b"\x10\x96\x01\x1a" + varint(len(record)) + record
            if is_partial:
                entry += b"\x20\x01\x2a" + (b"\x02\x08\x01" if ends else b"\x03\x12\x01x")
            file.write(struct.pack(">L", len(entry)) + entry + struct.pack(">L", len(entry)))
    return log


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


@given(_LINES)
def test_every_line_end_is_there_again(tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, bool]]) -> None:
    """Whatever the lengths of the lines, and whether the last one has an end."""
    data = b"\n".join((b"\r" if odd else b"x") * size for size, odd in lines)
    log = written(tmp_path_factory.mktemp("log"), data)
    assert replayed(data, log) == data


@pytest.mark.parametrize("size", [1, RECORD_BYTES - 1, RECORD_BYTES, 100_000])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_the_log_tells_of_the_last_line(tmp_path: Path, size: int, end: bytes) -> None:
    """The other stream may have written behind it."""
    log = written(tmp_path, b"x" * size + end)
    written(tmp_path, b"aside\n" * 50, b"stderr")
    assert replayed(b"x" * size + end, log) == b"x" * size + end


def test_where_nobody_can_tell_a_long_last_line_is_whole(tmp_path: Path) -> None:
    data = b"x" * 20_000 + b"\n"
    (tmp_path / "broken").write_bytes(b"\xff" * 100)
    for log in (tmp_path / "missing", tmp_path / "broken"):
        assert replayed(data, log) == data


def test_of_a_container_that_runs_nobody_asks() -> None:
    """Its last line may go on; the next replay knows."""
    assert replayed(b"x" * 20_000 + b"\n") == b"x" * 20_000


def test_the_streams_are_told_apart() -> None:
    data = old_frames(b"o" * 20_000 + b"\n") + old_frames(b"e\n", 2) + old_frames(b"p\n")
    pieces = list(Records().feed(data))
    assert b"".join(piece for stream, piece in pieces if stream == 1) == b"o" * 20_000 + b"\np\n"
    assert b"".join(piece for stream, piece in pieces if stream == 2) == b"e\n"


def test_a_line_that_a_restart_of_docker_tore_gets_no_end() -> None:
    """The next Docker begins with a record of its own time."""
    torn = old_frames(b"a" * RECORD_BYTES)
    rest = old_frames(b"b" * 20_000).replace(b"10:00:00", b"10:00:09")
    assert b"".join(piece for _, piece in Records().feed(torn + rest)) == b"a" * RECORD_BYTES + b"b" * 20_000
