"""Growing pauses between tries, the one source of them for workers and clients. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def delays(first_s: float, factor: float, longest_s: float) -> Iterator[float]:
    """Yield pauses without end: `first_s` seconds, then each `factor` times the last one, `longest_s` at most."""
    delay_s = first_s
    while True:
        yield delay_s
        delay_s = min(delay_s * factor, longest_s)
