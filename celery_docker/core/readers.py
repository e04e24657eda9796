"""The readers of a running job's output: which of them the job waits for. Pure; the time comes from the caller.

Invariant: a reader from which no sign of life comes is waited for during `SILENCE_S` at most, and a Redis that is away
during `OUTAGE_S`. Time in which Redis did not answer is not a reader's silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SILENCE_S = 10.0
OUTAGE_S = 60.0
# Between two answers more may have passed, but then Redis was slow, and with it the readers.
_MOST_BETWEEN_S = 1.0


@dataclass
class Readers:
    """The readers of one job, by their last signs of life; a sign differs from the one before."""

    _signs: dict[str, str] = field(default_factory=dict)
    _silent_s: dict[str, float] = field(default_factory=dict)
    _answered_s: float = 0.0
    _away_since_s: float | None = None
    # Until Redis has answered there may be readers.
    _are_known: bool = False

    def hear(self, signs: Mapping[str, str], now_s: float) -> None:
        """Take note of the signs of all readers, as Redis has them now."""
        passed_s = min(now_s - self._answered_s, _MOST_BETWEEN_S)
        self._silent_s = {
            reader: self._silent_s[reader] + passed_s if self._signs.get(reader) == sign else 0.0
            for reader, sign in signs.items()
        }
        self._signs = dict(signs)
        self._answered_s = now_s
        self._away_since_s = None
        self._are_known = True

    def miss(self, now_s: float) -> None:
        """Take note that Redis does not answer."""
        if self._away_since_s is None:
            self._away_since_s = now_s

    @property
    def gone(self) -> list[str]:
        """The readers that have been silent for too long."""
        return [reader for reader, silent_s in self._silent_s.items() if silent_s >= SILENCE_S]

    def are_waited_for(self, now_s: float) -> bool:
        """Return whether the job has to wait until its output is read."""
        # Each is read once: another thread hears of the readers meanwhile, and may forget one who is gone.
        away_since_s, silent_s = self._away_since_s, self._silent_s
        is_away = away_since_s is not None and now_s - away_since_s >= OUTAGE_S
        return not is_away and (not self._are_known or any(each_s < SILENCE_S for each_s in silent_s.values()))
