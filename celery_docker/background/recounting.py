"""Parked jobs whose needs depend on the host: each host counts them by its own settings and policy.

A job that asks for all GPUs, or for no memory, was parked with what one host would have given it. That host may have
other settings by now, or take no jobs. Invariant: a process looks at a job once for as long as it is parked the same.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from celery_docker.core import admission, wording
from celery_docker.core.admission import Needs, Offer
from celery_docker.run.periodic import Periodic

log = logging.getLogger(__name__)

_EVERY_S, _SOON_S = 60.0, 2.0
_AT_ONCE = 100


class Records(Protocol):
    """The questions to Redis."""

    def groups(self) -> Iterable[str]: ...
    def jobs_of(self, group: str) -> Sequence[str]: ...
    def envelopes(self, job_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]: ...
    def repark(self, job_id: str, queue_list: str, before: Needs, needs: Needs) -> bool: ...


@dataclass
class Recount:
    """Counts the needs of parked jobs anew; `start` and `stop` once.

    `lists` returns the Redis lists that the host serves, `needs_of` what it would give to the job of an envelope. Where
    the host could hold that, and not what the job is parked with, it waits for that from now on.
    """

    records: Records
    offer: Offer
    lists: Callable[[], Collection[str]]
    is_taking: Callable[[], bool]
    needs_of: Callable[[str, Mapping[str, Any]], Needs]
    # By their groups.
    _known: dict[str, set[str]] = field(default_factory=dict)
    _has_looked: bool = False
    _loop: Periodic = field(init=False)

    def __post_init__(self) -> None:
        self._loop = Periodic("recounting", self._pause_s, self.take_turn)

    def start(self) -> None:
        """Begin to look, and do it again each minute."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more."""
        self._loop.stop()

    def take_turn(self) -> None:
        """Look at each parked job that was not parked the same before. Raises `StoreAway`."""
        if not self.is_taking():
            return
        self._has_looked = True
        served, known, self._known = self.lists(), self._known, {}
        for group in self.records.groups():
            parts = admission.of_group(group)
            # One that it could hold as it is parked, it takes in its turn; so two hosts do not move one to and fro.
            if parts is not None and parts[0] in served and not self.offer.could_hold(parts[1]):
                job_ids = self.records.jobs_of(group)
                new = [job_id for job_id in job_ids if job_id not in known.get(group, ())]
                self._known[group] = set(job_ids) - self._moved(new, *parts)

    def _pause_s(self) -> float:
        return _EVERY_S if self._has_looked else _SOON_S

    def _moved(self, job_ids: Sequence[str], queue_list: str, before: Needs) -> set[str]:
        """Move those of the jobs whose needs differ here; return their ids."""
        moved = set()
        for first in range(0, len(job_ids), _AT_ONCE):
            for job_id, envelope in self.records.envelopes(job_ids[first : first + _AT_ONCE]).items():
                needs = self.needs_of(job_id, envelope)
                if self.offer.could_hold(needs):
                    moved.add(job_id)
                    self.records.repark(job_id, queue_list, before, needs)
        if moved:
            log.info("%s parked with other needs: this host would give less", wording.counted(len(moved), "job"))
        return moved
