"""The pace of a batch: how many of its jobs have ended, how fast they end, and when all will have. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from celery_docker.core.lifecycle import State

_ENDED = frozenset(state for state in State if state.is_final)


def done(counts: Mapping[str, int]) -> int:
    """Return how many jobs have ended, in whatever way."""
    return sum(count for state, count in counts.items() if state in _ENDED)


def rate(counts: Mapping[str, int], elapsed_s: float, already: int = 0) -> float | None:
    """Return how many jobs end per second; None before there is anything to judge by.

    `already` had ended before the clock of `elapsed_s` began.
    """
    ended = done(counts) - already
    return ended / elapsed_s if ended > 0 and elapsed_s > 0 else None


def eta_s(counts: Mapping[str, int], total: int, elapsed_s: float, already: int = 0) -> float | None:
    """Return in how many seconds all will have ended at this rate; None if that is not known."""
    per_second = rate(counts, elapsed_s, already)
    return max(0, total - done(counts)) / per_second if per_second else None
