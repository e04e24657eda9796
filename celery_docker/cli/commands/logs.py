"""The command `logs`: the output of a job, from any machine, while it runs and afterwards."""

from __future__ import annotations

import codecs
from collections.abc import Iterable
from functools import partial

from celery_docker.cli import attached, operands
from celery_docker.cli.context import Context
from celery_docker.cli.screen import Screen
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.core import wording
from celery_docker.core.container import Stream
from celery_docker.store.livelog import BOTH, Output, Reader


def logs(context: Context) -> int:
    """Show a job's output, its two streams on ours."""
    lines = context.arguments.flags.get("--lines")
    (name,) = context.operands
    with context.client() as client:
        job_id = operands.job_id(client.queries, name, f"list its jobs with: {PROGRAM} ps -a --batch")
        reader = client.logs_of(job_id, streams=_streams(context))
        show = _show_json if context.wants_json else _show
        if context.has("--follow"):
            outages = context.outages()
            with context.detaching("logs -f", job_id), attached.attached(reader):
                reader.attach()
                pieces = outages.each(lambda: reader.follow(lines=lines, while_silent=partial(_check, context.screen)))
                show(context.screen, reader, pieces)
        else:
            show(context.screen, reader, reader.so_far(lines=lines))
        if reader.is_of_receipt:
            context.screen.note(f"{PROGRAM}: this is the end of both streams, in one, as the receipt keeps it")
    return 0


def _streams(context: Context) -> tuple[Stream, ...]:
    streams = tuple(stream for stream in BOTH if context.has(f"--{stream.name.lower()}"))
    return streams or BOTH


def _check(screen: Screen) -> None:
    """Raise `BrokenPipeError` once nobody can read what the job may print yet, as behind `| grep -m1 ready`."""
    if not screen.is_read:
        raise BrokenPipeError


def _show(screen: Screen, reader: Reader, pieces: Iterable[Output]) -> None:
    attempt = 1
    for piece in pieces:
        if piece.attempt > attempt:
            attempt = piece.attempt
            screen.note(f"{PROGRAM}: attempt {attempt}")
        if piece.gap_bytes > 0:
            gone = wording.size(piece.gap_bytes)
            screen.note(f"{PROGRAM}: {gone} of {piece.stream.name.lower()} are not kept here; see the job's --log-file")
        for part in attached.parts(piece.data):
            screen.raw(part, to_err=piece.stream is Stream.STDERR)
            reader.keep_alive()


def _show_json(screen: Screen, reader: Reader, pieces: Iterable[Output]) -> None:
    # A piece may end in the middle of a character.
    decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in BOTH}
    for piece in pieces:
        _write(screen, piece.stream, piece.attempt, piece.gap_bytes, decoders[piece.stream].decode(piece.data))
        reader.keep_alive()
    for stream, decoder in decoders.items():
        if rest := decoder.decode(b"", final=True):
            _write(screen, stream, None, 0, rest)


def _write(screen: Screen, stream: Stream, attempt: int | None, gap_bytes: int, text: str) -> None:
    screen.line_of_json({"stream": stream.name.lower(), "attempt": attempt, "gap_bytes": gap_bytes, "text": text})
    screen.out.flush()
