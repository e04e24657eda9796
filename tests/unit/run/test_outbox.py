"""The buffer between a job's output and those who watch it."""

from __future__ import annotations

import itertools

from celery_docker.core.container import Frame, Stream
from celery_docker.core.output import LIVE_BYTES, PIECE_BYTES, Piece
from celery_docker.run.outbox import Outbox

OUT, ERR = Stream.STDOUT, Stream.STDERR


def filled(*frames: tuple[Stream, bytes]) -> Outbox:
    outbox = Outbox(1)
    for stream, payload in frames:
        outbox.add(Frame(stream, payload))
    return outbox


def test_pieces_come_in_order_and_neighbours_are_joined() -> None:
    outbox = filled((OUT, b"a"), (OUT, b"b"), (ERR, b"c"), (OUT, b"d"))
    assert outbox.take() == [Piece(OUT, 1, 0, b"ab"), Piece(ERR, 1, 0, b"c"), Piece(OUT, 1, 2, b"d")]
    assert outbox.take() == []


def test_offsets_go_on_after_a_take() -> None:
    outbox = filled((OUT, b"abc"))
    outbox.take()
    outbox.add(Frame(OUT, b"d"))
    assert outbox.take() == [Piece(OUT, 1, 3, b"d")]


def test_no_piece_is_longer_than_promised() -> None:
    pieces = filled((OUT, bytes(PIECE_BYTES * 2 + 1))).take()
    assert [(piece.offset, len(piece.data)) for piece in pieces] == [
        (0, PIECE_BYTES),
        (PIECE_BYTES, PIECE_BYTES),
        (2 * PIECE_BYTES, 1),
    ]


def test_of_too_much_the_oldest_goes() -> None:
    outbox = filled(*[(OUT, bytes(PIECE_BYTES))] * 100)
    pieces = outbox.take()
    assert LIVE_BYTES - 2 * PIECE_BYTES < sum(len(piece.data) for piece in pieces) <= LIVE_BYTES
    assert pieces[-1].end == 100 * PIECE_BYTES
    assert all(earlier.end == later.offset for earlier, later in itertools.pairwise(pieces))


def test_a_word_at_a_time_on_both_streams_takes_no_more_room() -> None:
    outbox = filled(*[(OUT, b"x"), (ERR, b"x")] * 50_000)
    assert len(outbox.take()) <= LIVE_BYTES // 64


def test_what_is_put_back_comes_first() -> None:
    outbox = filled((OUT, b"abc"), (ERR, b"x"))
    taken = outbox.take()
    outbox.add(Frame(OUT, b"d"))
    outbox.put_back(taken)
    assert outbox.take() == [*taken, Piece(OUT, 1, 3, b"d")]


def test_what_is_put_back_is_the_first_to_go() -> None:
    outbox = filled((OUT, bytes(2 * PIECE_BYTES)))
    taken = outbox.take()
    for _ in range(LIVE_BYTES // PIECE_BYTES):
        outbox.add(Frame(OUT, bytes(PIECE_BYTES)))
    outbox.put_back(taken)
    assert outbox.take()[0].offset > 0
