"""The kept end of a job's output, and its last line."""

from __future__ import annotations

import itertools
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import output
from celery_docker.core.container import Frame, Stream
from celery_docker.core.output import JSON_BYTES, TAIL_BYTES, Gap, Tail, after, new_gaps, placed


def tail_of(*payloads: bytes) -> Tail:
    tail = Tail()
    for payload, stream in zip(payloads, itertools.cycle(Stream), strict=False):
        tail.add(Frame(stream, payload))
    return tail


def test_nothing_yet() -> None:
    tail = Tail()
    assert tail.text() == ""
    assert not tail.truncated
    assert tail.byte_counts == {Stream.STDOUT: 0, Stream.STDERR: 0}


def test_both_streams_are_kept_in_the_order_they_came_and_counted_apart() -> None:
    tail = tail_of(b"out 1\n", b"err\n", b"out 2\n")
    assert tail.text() == "out 1\nerr\nout 2\n"
    assert tail.byte_counts == {Stream.STDOUT: 12, Stream.STDERR: 4}


@given(st.lists(st.sampled_from([1, 7, 1000, 4096, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1]), max_size=12))
def test_the_tail_is_the_end_however_it_was_cut_into_pieces(sizes: list[int]) -> None:
    letters = itertools.cycle(b"abcdefghijklmnopqrstuvwxyz\n")
    payloads = [bytes(itertools.islice(letters, size)) for size in sizes]
    tail, whole = tail_of(*payloads), b"".join(payloads)
    assert tail.text() == whole[-TAIL_BYTES:].decode()
    assert tail.truncated is (len(whole) > TAIL_BYTES)
    assert sum(tail.byte_counts.values()) == len(whole)


@pytest.mark.parametrize("size", [72, 65536], ids=["short lines", "large pieces"])
def test_memory_is_bounded(size: int) -> None:
    """However much a job prints, no more is held than twice the tail and one piece."""
    tail, most = Tail(), 0
    for _ in range(4 * 2**20 // size):
        tail.add(Frame(Stream.STDOUT, b"x" * size))
        most = max(most, sys.getsizeof(tail._end))
    assert most < 4 * TAIL_BYTES


@pytest.mark.parametrize("shift", range(8))
def test_a_character_that_was_cut_in_two_is_left_out(shift: int) -> None:
    """The cut falls somewhere into é (2 bytes), 漢 (3) or 😀 (4)."""
    text = "a" * shift + "é漢😀" * TAIL_BYTES
    text_of_tail = tail_of(text.encode()).text()
    assert "\ufffd" not in text_of_tail
    assert text.endswith(text_of_tail)
    assert JSON_BYTES * 0.8 < len(json.dumps(text_of_tail)) <= JSON_BYTES


def test_bytes_that_are_no_text_become_marks() -> None:
    assert tail_of(b"a\xff\xfeb").text() == "a\ufffd\ufffdb"


def test_binary_output_is_cut_too() -> None:
    tail = tail_of(b"\x80" * TAIL_BYTES)
    assert set(tail.text()) == {"\ufffd"}
    assert JSON_BYTES * 0.8 < len(json.dumps(tail.text())) <= JSON_BYTES
    assert tail.truncated, "JSON writes six bytes for each, and the result must stay below 100 KiB"


def test_a_character_split_between_two_pieces_is_whole_again() -> None:
    tail = Tail()
    for byte in "😀".encode():
        tail.add(Frame(Stream.STDOUT, bytes([byte])))
    assert tail.text() == "😀"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("\n \n\t\n", ""),
        ("one", "one"),
        ("one\ntwo\n", "two"),
        ("one\ntwo\n\n   \n", "two"),
        ("  indented  ", "indented"),
        ("progress 1%\rprogress 2%\r", "progress 2%"),
        ("a\u2028b", "b"),
        ("x" * 300 + "END", "x" * 197 + "END"),
    ],
)
def test_last_line(text: str, expected: str) -> None:
    assert output.last_line(text) == expected


@given(st.text())
def test_a_last_line_is_one_line(text: str) -> None:
    assert len(output.last_line(text).splitlines()) <= 1


def said(*texts: bytes) -> list[output.Piece]:
    return [output.Piece(Stream.STDOUT, 1, sum(map(len, texts[:number])), text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("texts", "count", "kept"),
    [
        ((b"a\nb\nc\n",), 2, [(2, b"b\nc\n")]),
        ((b"a\nb\nc",), 2, [(2, b"b\nc")]),
        ((b"a\nb", b"b\nc", b"c\n"), 2, [(2, b"b"), (3, b"b\nc"), (6, b"c\n")]),
        ((b"a\n", b"b\n"), 1, [(2, b"b\n")]),
        ((b"a\n", b"b\n"), 9, [(0, b"a\n"), (2, b"b\n")]),
        ((b"a\n",), 0, []),
        ((b"\n\n\n",), 1, [(2, b"\n")]),
        ((), 3, []),
    ],
)
def test_the_last_lines_of_pieces(texts: tuple[bytes, ...], count: int, kept: list[tuple[int, bytes]]) -> None:
    assert [(piece.offset, piece.data) for piece in output.last_lines(said(*texts), count)] == kept


def test_the_last_complaint_is_that_of_the_standard_error_alone() -> None:
    """Whatever order the two streams came in, and however long the last line is."""
    assert output.Tail().last_stderr_line is None
    tail = output.Tail()
    tail.add(Frame(Stream.STDERR, b"first\nno such sample: 5\n\n"))
    tail.add(Frame(Stream.STDOUT, b"reads 5\n"))
    assert tail.last_stderr_line == "no such sample: 5"
    tail.add(Frame(Stream.STDERR, b"x" * 100_000 + b"end"))
    assert (tail.last_stderr_line or "")[-4:] == "xend"


OUT, ERR = Stream.STDOUT, Stream.STDERR


@pytest.mark.parametrize(
    ("logged", "gaps", "read", "expected"),
    [
        ({OUT: 10, ERR: 5}, [], {OUT: 10, ERR: 5}, []),
        ({OUT: 12, ERR: 5}, [], {OUT: 10, ERR: 0}, []),
        ({OUT: 6, ERR: 5}, [], {OUT: 10, ERR: 5}, [Gap(OUT, 6, 4)]),
        ({OUT: 0, ERR: 0}, [], {OUT: 1, ERR: 2}, [Gap(OUT, 0, 1), Gap(ERR, 0, 2)]),
        ({OUT: 6, ERR: 0}, [Gap(OUT, 3, 4)], {OUT: 10, ERR: 0}, []),
        ({OUT: 6, ERR: 0}, [Gap(OUT, 3, 4)], {OUT: 12, ERR: 0}, [Gap(OUT, 6, 2)]),
    ],
    ids=["complete", "ahead of us", "behind us", "nothing logged", "behind by the gap before", "behind once more"],
)
def test_the_gaps_of_a_log_whose_docker_has_gone(
    logged: dict[Stream, int], gaps: list[Gap], read: dict[Stream, int], expected: list[Gap]
) -> None:
    assert new_gaps(logged, gaps, read) == expected


def test_gaps_stand_at_their_places() -> None:
    frames = [Frame(OUT, b"abc"), Frame(ERR, b"x"), Frame(OUT, b"def")]
    gaps = [Gap(OUT, 2, 10), Gap(OUT, 6, 1), Gap(ERR, 5, 1)]
    items = list(placed(frames, gaps))
    assert items == [Frame(OUT, b"ab"), gaps[0], Frame(OUT, b"c"), Frame(ERR, b"x"), Frame(OUT, b"def"), gaps[1]]


@given(st.lists(st.tuples(st.sampled_from(list(Stream)), st.binary(min_size=1, max_size=20)), max_size=10), st.data())
def test_the_rest_of_a_log_with_gaps_goes_on_where_the_copy_ends(
    printed: list[tuple[Stream, bytes]], data: st.DataObject
) -> None:
    """Docker passed on all of it and forgot some before it went; what came later is read once."""
    later = data.draw(st.integers(0, len(printed)))
    copy = {stream: b"".join(payload for s, payload in printed[:later] if s is stream) for stream in Stream}
    whole = {stream: b"".join(payload for s, payload in printed if s is stream) for stream in Stream}
    logged = {stream: data.draw(st.integers(0, len(copy[stream]))) for stream in Stream}
    counts = {stream: len(copy[stream]) for stream in Stream}
    log = [Frame(stream, copy[stream][: logged[stream]]) for stream in Stream if logged[stream]]
    log += [Frame(stream, payload) for stream, payload in printed[later:]]
    rest = after(placed(log, new_gaps(logged, [], counts)), counts)
    for item in rest:
        assert isinstance(item, Frame)
        copy[item.stream] += item.payload
    assert copy == whole
