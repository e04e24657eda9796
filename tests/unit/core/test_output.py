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
from celery_docker.core.output import JSON_BYTES, TAIL_BYTES, Tail


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
    shown = tail_of(text.encode()).text()
    assert "\ufffd" not in shown
    assert text.endswith(shown)
    assert JSON_BYTES * 0.8 < len(json.dumps(shown)) <= JSON_BYTES


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
