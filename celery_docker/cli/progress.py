"""Progress of a batch as one line: a bar for a terminal, plain text for a pipe, and a summary at the end.

Owns what is counted as done and when a plain line is due. Pure: every time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from celery_docker.cli import exitcodes, tables
from celery_docker.core import pace, wording
from celery_docker.core.lifecycle import FAILURES, State
from celery_docker.core.receipt import Receipt

_BAR_MAX, _BAR_MIN = 40, 10
_STEP = 0.1
_EVERY_S = 60.0
FAILURES_SHOWN = 5
# What a progress line names, where there is any of it.
_NAMED = (State.RUNNING, *FAILURES, State.CANCELLED)


@dataclass(frozen=True)
class PlainLine:
    """The last plain line: how many jobs had ended, and when it was written, in seconds of any steady clock."""

    ended: int
    at_s: float


def line(counts: Mapping[str, int], total: int, elapsed_s: float, width: int, already: int = 0) -> str:
    """Return the progress for a terminal of `width` columns, never wider; the bar takes what the words leave."""
    words = _words(counts, total, elapsed_s, already)
    room = min(_BAR_MAX, width - tables.display_width(words) - len("[] "))
    bar = f"[{_bar(pace.done(counts), total, room)}] " if room >= _BAR_MIN else ""
    return tables.truncate(bar + words, width)


def plain_line(counts: Mapping[str, int], total: int, elapsed_s: float, already: int = 0) -> str:
    """Return the progress for a pipe or a log."""
    return _words(counts, total, elapsed_s, already)


def is_plain_line_due(
    last: PlainLine | None, counts: Mapping[str, int], total: int, now_s: float, every_s: float = _EVERY_S
) -> bool:
    """Tell whether to write a plain line: the first, the last, after each tenth of the jobs, or after `every_s`."""
    if last is None:
        return True
    ended = pace.done(counts)
    if ended >= total:
        return last.ended < ended
    return ended - last.ended >= total * _STEP or now_s - last.at_s >= every_s


def summary(results: Sequence[Receipt], batch_id: str, size: int) -> list[str]:
    """Return what became of a batch of this size: counts, its first failures, and what to type to run those again.

    `results` are receipts, in the order of the batch.
    """
    failures = [receipt for receipt in results if receipt.state in FAILURES]
    lines = [f"{wording.counted(len(results), 'job')}: {_by_state(results)}"]
    lines += [_failure(receipt) for receipt in failures[:FAILURES_SHOWN]]
    if len(failures) > FAILURES_SHOWN:
        lines.append(f"  and {len(failures) - FAILURES_SHOWN} more")
    if len(results) < size:
        of_all = f"{size - len(results):,} of {wording.counted(size, 'job')}"
        lines.append(f"{of_all} are not there: they were not submitted, or their records are gone")
    if failures:
        lines.append(f"Run the failed ones again: celery-docker retry --failed {batch_id}")
    return lines


def _words(counts: Mapping[str, int], total: int, elapsed_s: float, already: int) -> str:
    ended = pace.done(counts)
    # Rounded down: 100% is said when all have ended, not before.
    parts = [f"{ended}/{total} {ended * 100 // total if total else 100}%"]
    parts += [_count(counts[state], state) for state in _NAMED if counts.get(state)]
    per_second = pace.rate(counts, elapsed_s, already)
    if per_second:
        parts.append(_speed(per_second))
    left_s = pace.eta_s(counts, total, elapsed_s, already)
    if left_s:
        parts.append(f"ETA {wording.duration(left_s)}")
    return "  ".join(parts)


def _bar(ended: int, total: int, width: int) -> str:
    filled = width * min(ended, total) // total if total else width
    return "#" * filled + "." * (width - filled)


def _speed(per_second: float) -> str:
    for unit, seconds in (("s", 1), ("min", 60)):
        if per_second * seconds >= 1:
            return f"{per_second * seconds:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


def _by_state(results: Sequence[Receipt]) -> str:
    states = [receipt.state for receipt in results]
    return ", ".join(_count(states.count(state), state) for state in State if state in states) or "none"


def _count(count: int, state: State) -> str:
    return f"{count} {state.replace('_', ' ')}"


def _failure(receipt: Receipt) -> str:
    name = f"{wording.harmless(receipt.name)}: " if receipt.name else ""
    return f"  {wording.short_id(receipt.id)}  exit {exitcodes.exit_status(receipt)}  {name}{_why(receipt)}"


def _why(receipt: Receipt) -> str:
    """Return the last thing that a failed command said; where we or the kernel ended it, that tells more."""
    last_line = receipt.last_output_line()
    if last_line and receipt.state == State.FAILED and not receipt.oom_killed:
        return wording.harmless(last_line)
    return exitcodes.explain(receipt) or ""
