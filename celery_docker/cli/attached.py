"""A job that `run` is attached to: its output on the command's own streams, and what ends it early.

Owns the order of reading, writing and signals. Invariants: a missing byte of the output is told, with its place; a job
whose command was told to end, or whose output nobody takes any more, is cancelled and does not go on in silence.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self

from celery_docker import errors
from celery_docker.cli import exitcodes, jobargs
from celery_docker.cli.screen import Screen
from celery_docker.cli.syntax.grammar import PROGRAM
from celery_docker.client.outages import Outages
from celery_docker.core import wording
from celery_docker.core.container import Stream
from celery_docker.core.lifecycle import State
from celery_docker.core.receipt import Receipt

if TYPE_CHECKING:
    from celery_docker.cli.waitlines import WaitLines
    from celery_docker.client.client import Client
    from celery_docker.store import livelog

_PAUSE_S = 0.2
# A pipe takes this much at once or nothing, so that each write shows that its reader is alive.
_WRITE_BYTES = 4096


class Cancellation:
    """The causes that cancel the job: Ctrl-C, SIGTERM, or nobody who reads its output; a second Ctrl-C leaves at once.

    A signal is only noted, so that no piece of output is torn. SIGTERM may come again: timeout(1) sends it twice.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._cause = ""
        self.is_marked = False
        self.job_id = ""

    def ask(self, cause: str) -> None:
        """Have the job cancelled at the next opportunity; the first cause counts."""
        self._cause = self._cause or cause

    def carry_out(self, client: Client) -> None:
        """Cancel the job if that was asked for, once; while Redis is away, later."""
        if not self._cause or self.is_marked or not self.job_id:
            return
        with contextlib.suppress(errors.StoreAway):
            client.cancel(self.job_id, reason=f"cancelled by {jobargs.login()} with {self._cause}")
            self.is_marked = True
            again = "; Ctrl-C again leaves at once" if self._cause == "Ctrl-C" else f", because of {self._cause}"
            note(self._screen, f"\n{PROGRAM}: cancelling {self.job_id}{again}")

    def __enter__(self) -> Self:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        signal.signal(signal.SIGINT, self._interrupt)
        signal.signal(signal.SIGTERM, lambda *_: self.ask("SIGTERM"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self.job_id and kind is not None and issubclass(kind, KeyboardInterrupt | errors.StoreAway):
            remedy = "status" if self.is_marked else "cancel"
            purpose = "see its state" if self.is_marked else "the job is not cancelled; cancel it"
            if issubclass(kind, errors.StoreAway):
                purpose = "the job may be queued all the same; cancel it"
            note(self._screen, f"\n{purpose} with: {PROGRAM} {remedy} {self.job_id}")

    def _interrupt(self, *_: object) -> None:
        self.ask("Ctrl-C")
        signal.signal(signal.SIGINT, signal.default_int_handler)


class Attached:
    """Shows one job's output as it comes, until its receipt is there.

    `repeats`: the output of several attempts, one after the other, is what was asked for.
    """

    def __init__(
        self,
        screen: Screen,
        client: Client,
        cancellation: Cancellation,
        reader: livelog.Reader | None,
        wait_lines: WaitLines,
        *,
        repeats: bool,
    ) -> None:
        self._screen = screen
        self._client = client
        self._cancellation = cancellation
        # None: the output is not to be shown.
        self._reader = reader
        self._wait_lines = wait_lines
        self._repeats = repeats
        self._attempt = 1
        self._ends = {Stream.STDOUT: 0, Stream.STDERR: 0}
        # Why the output cannot be written any more.
        self.failure: OSError | None = None
        self._is_dropped = False
        self._is_incomplete = False
        # The standard output has that of an attempt before the last.
        self._is_repeated = False

    def follow(self, outages: Outages) -> Mapping[str, Any]:
        """Show the output and return the receipt; of a cancelled job once its container is gone.

        Raises `NoSuchJob` for a job whose record is gone.
        """
        job_id = self._cancellation.job_id
        while True:
            with outages:
                self._cancellation.carry_out(self._client)
                # Before the output: after an end there is nothing more to come.
                receipt = self._client.queries.jobs.receipt(job_id)
                if self._reader is not None:
                    self._show_new(self._reader)
                if receipt is not None:
                    self._wait_lines.end(Receipt.from_dict(receipt))
                    self._conclude(Receipt.from_dict(receipt))
                    break
                self._wait_lines.look()
                self._pause()
                continue
            time.sleep(_PAUSE_S)
        while self._cancellation.is_marked and receipt.get("container_id"):
            with outages:
                if self._client.queries.jobs.is_settled(job_id, receipt["host"]):
                    break
            time.sleep(_PAUSE_S)
        return receipt

    def _show_new(self, reader: livelog.Reader) -> None:
        for piece in reader.so_far():
            self._show(reader, piece)
            self._cancellation.carry_out(self._client)
        reader.keep_alive()
        if self._writes and not self._screen.is_read:
            self._give_up(BrokenPipeError())

    def _pause(self) -> None:
        if self._reader is None:
            time.sleep(_PAUSE_S)
        else:
            self._reader.wait(_PAUSE_S)

    def _show(self, reader: livelog.Reader, piece: livelog.Output) -> None:
        if piece.attempt > self._attempt:
            note(self._screen, f"{PROGRAM}: attempt {piece.attempt}")
            self._is_repeated |= self._ends[Stream.STDOUT] > 0
            self._attempt, self._ends = piece.attempt, dict.fromkeys(self._ends, 0)
        self._miss(piece.stream, piece.gap_bytes)
        self._ends[piece.stream] += len(piece.data)
        for part in parts(piece.data):
            self._write(part, to_err=piece.stream is Stream.STDERR)
            reader.keep_alive()

    def _write(self, data: bytes, *, to_err: bool) -> None:
        while self._writes and not self._screen.takes_more(_PAUSE_S, to_err=to_err):
            self._cancellation.carry_out(self._client)
            # Whoever ends this command does not wait for its reader.
            self._is_dropped = self._cancellation.is_marked
        if self._writes:
            try:
                self._screen.raw(data, to_err=to_err)
            except OSError as exc:
                self._give_up(exc)

    @property
    def _writes(self) -> bool:
        return self.failure is None and not self._is_dropped

    def _give_up(self, failure: OSError) -> None:
        self.failure = failure
        closed = isinstance(failure, BrokenPipeError)
        self._cancellation.ask("nobody reading its output" if closed else f"its output on a file: {failure.strerror}")

    def _miss(self, stream: Stream, size: int) -> None:
        if size <= 0:
            return
        name = stream.name.lower()
        place = f"after byte {self._ends[stream]}" if self._ends[stream] else "at its beginning"
        note(self._screen, f"{PROGRAM}: {wording.size(size)} of {name} are missing {place}; --log-file keeps all of it")
        self._ends[stream] += size
        self._is_incomplete = True

    def _conclude(self, receipt: Receipt) -> None:
        """Say how much of the last attempt is missing at its end."""
        if self._reader is not None and self._writes and len(receipt.attempts) >= self._attempt:
            if len(receipt.attempts) > self._attempt:
                self._attempt, self._ends = len(receipt.attempts), dict.fromkeys(self._ends, 0)
            self._miss(Stream.STDOUT, (receipt.stdout_bytes or 0) - self._ends[Stream.STDOUT])
            self._miss(Stream.STDERR, (receipt.stderr_bytes or 0) - self._ends[Stream.STDERR])

    def exit_status(self, receipt: Receipt) -> int:
        """Return the exit status; `INCOMPLETE` for a job that ended by itself and whose output is not all there."""
        status = exitcodes.exit_status(receipt)
        doubtful = self._is_incomplete or (self._is_repeated and not self._screen.is_terminal and not self._repeats)
        if receipt.state in (State.SUCCEEDED, State.FAILED) and doubtful:
            return exitcodes.INCOMPLETE
        return status


def parts(data: bytes) -> Iterator[bytes]:
    """Yield output in parts of which each write shows that somebody takes them."""
    for start in range(0, len(data), _WRITE_BYTES):
        yield data[start : start + _WRITE_BYTES]


@contextlib.contextmanager
def attached(reader: livelog.Reader | None) -> Iterator[None]:
    """Let the job go on without the reader afterwards."""
    try:
        yield
    finally:
        if reader is not None:
            reader.detach()


def note(screen: Screen, line: str) -> None:
    """Write a note if somebody reads notes."""
    with contextlib.suppress(OSError):
        screen.note(line)
