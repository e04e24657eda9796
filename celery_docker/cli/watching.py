"""Following a batch to its end: a bar that rewrites its line on a terminal, lines now and then elsewhere.

Owns when Redis is asked and when a batch counts as ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from celery_docker.cli import exitcodes, progress, screen
from celery_docker.client.outages import Outages
from celery_docker.client.ports import Queries
from celery_docker.core import lifecycle, pace
from celery_docker.core.receipt import Receipt
from celery_docker.store import listing

# Counting a batch keeps Redis busy: it is asked again after this, and after twenty times as long as the answer took.
_PAUSE_S = 0.5
_SHARE = 20
# Of a batch that is smaller than it was to be: somebody may still be submitting it, if it has grown so lately.
_GRACE_S = 5.0
_WIDTH = 80


@dataclass
class ProgressDisplay:
    """The progress of a batch, shown on one stream."""

    stream: TextIO
    _last: progress.PlainLine | None = None
    _first_done: int | None = None
    _since: float = field(default_factory=time.monotonic)
    _is_open: bool = False

    def show(self, counts: Mapping[str, int], total: int) -> None:
        """Show these numbers, if there is anything new to say. Raises `BrokenPipeError` once nobody can read them."""
        if not screen.is_read(self.stream):
            raise BrokenPipeError
        now = time.monotonic()
        if self._first_done is None:
            self._first_done = pace.done(counts)
        elapsed_s = now - self._since
        if self.stream.isatty():
            # One less than there is: a full line would begin the next.
            width = self._columns() - 1
            line = progress.line(counts, total, elapsed_s, width, self._first_done)
            self._write(f"\r{line.ljust(width)}")
            self._is_open = True
        elif progress.is_plain_line_due(self._last, counts, total, now):
            self._write(progress.plain_line(counts, total, elapsed_s, self._first_done) + "\n")
            self._last = progress.PlainLine(pace.done(counts), now)

    def end(self) -> None:
        """Leave the line of the bar as it is."""
        if self._is_open:
            self._write("\n")
            self._is_open = False

    def note(self, line: str) -> None:
        """Write a line between."""
        self.end()
        self._write(f"{line}\n")

    def _write(self, text: str) -> None:
        self.stream.write(text)
        self.stream.flush()

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self.stream.fileno()).columns or _WIDTH
        except OSError:
            return _WIDTH


def until_end(queries: Queries, batch_id: str, display: ProgressDisplay, outages: Outages) -> int:
    """Show a batch until all its jobs have ended; return how many it was to have. Raises `NoSuchJob` or `StoreRefused`.

    One that nobody gets on submitting has ended with fewer.
    """
    most, grown_at_s = 0, time.monotonic()
    while True:
        asked_at_s = time.monotonic()
        row = outages.answer(lambda: queries.batches.row(batch_id))
        submitted = sum(row.counts.values())
        if submitted > most:
            most, grown_at_s = submitted, asked_at_s
        is_whole = submitted >= row.size or asked_at_s - grown_at_s > _GRACE_S
        display.show(row.counts, row.size)
        if is_whole and pace.done(row.counts) == submitted:
            display.end()
            return row.size
        time.sleep(max(_PAUSE_S, _SHARE * (time.monotonic() - asked_at_s)))


def results(queries: Queries, batch_id: str) -> list[Receipt]:
    """Return a receipt for each job of a batch, in its order; only those of the first failures are whole.

    The others have the fields of a listing: id, state, exit code and reason.
    """
    rows = queries.jobs.rows(queries.batches.job_ids(batch_id))
    failed = [row.job_id for row in rows if row.state in lifecycle.FAILURES][: progress.FAILURES_SHOWN]
    stored = dict(zip(failed, queries.jobs.receipts(failed), strict=True))
    return [Receipt.from_dict(stored.get(row.job_id) or _listed(row)) for row in rows]


def batch_exit_status(receipts: Sequence[Receipt], size: int) -> int:
    """Return the exit status for a batch of this size: the highest of its jobs, and never 0 where one is not there."""
    missing = [exitcodes.NOT_RUN] if not receipts or len(receipts) < size else []
    return exitcodes.highest([*map(exitcodes.exit_status, receipts), *missing])


def _listed(row: listing.JobRow) -> dict[str, Any]:
    return {"id": row.job_id, "state": row.state.value, "exit_code": row.exit_code, "reason": row.reason}
