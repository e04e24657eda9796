"""The last 24 hours in samples: how many jobs waited and ran, how many ended, and how full the hosts were. Pure.

Invariant: a sample that is missing or damaged is a gap, and so is a number in one that cannot be.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core import strictjson
from celery_docker.core.admission import Offer, Room

STEP_S = 300
PLACES = 288
# One before the first place, to count from.
KEPT = PLACES + 1
MOST_HOSTS = 16
_MOST_NAME = 64
_MOST_BYTES = 8192
_MOST = 2**53
_PARTS = ("slots", "cpus", "memory")
_NUMBERS = ("queued", "running", "in_queues")


@dataclass(frozen=True)
class Sample:
    """A sample of the step that began at `at`.

    `queued` jobs have not ended and are with no host, `in_queues` of them in the lists of queues; hosts have `running`
    ones. `ended` are all that ever have, by class. `hosts` has the parts of slots, CPUs and memory in use, in percent.
    """

    at: int
    queued: int | None = None
    running: int | None = None
    in_queues: int | None = None
    ended: Mapping[str, int] = field(default_factory=dict)
    hosts: Mapping[str, Sequence[int | None]] = field(default_factory=dict)

    def text(self) -> str:
        """Return the sample as it is stored."""
        table = {name: getattr(self, name) for name in ("at", *_NUMBERS)}
        return json.dumps({**table, "ended": dict(self.ended), "hosts": dict(self.hosts)}, separators=(",", ":"))


def step_of(now: float) -> int:
    """Return the beginning of the step that a time is in."""
    return int(now) // STEP_S * STEP_S


def use(jobs: int, slots: int, offer: Offer | None, room: Room | None) -> list[int | None]:
    """Return the parts of a host that are in use, in percent, None where nobody knows."""
    if offer is None or room is None:
        return [_percent(jobs, slots), None, None]
    return [
        _percent(jobs, slots),
        _percent(offer.millicpus - room.millicpus, offer.millicpus),
        _percent(offer.memory_bytes - room.memory_bytes, offer.memory_bytes),
    ]


def _percent(part: int, whole: int) -> int | None:
    return min(max(round(100 * part / whole), 0), 100) if whole > 0 else None


def chosen(hosts: Mapping[str, tuple[int, Sequence[int | None]]]) -> dict[str, Sequence[int | None]]:
    """Return the parts in use of the hosts that are sampled, from slots and parts: those with the most slots."""
    named = [host for host in hosts if len(host) <= _MOST_NAME]
    order = sorted(named, key=lambda host: (-hosts[host][0], host))
    return {host: hosts[host][1] for host in order[:MOST_HOSTS]}


def parse(text: str) -> Sample | None:
    """Return a stored sample, None for what is none."""
    if len(text) > _MOST_BYTES:
        return None
    try:
        table = strictjson.table(text)
    except strictjson.NotUsable:
        return None
    at = _count(table.get("at"))
    if at is None or at % STEP_S:
        return None
    ended, hosts = (value if isinstance(value, dict) else {} for value in (table.get("ended"), table.get("hosts")))
    return Sample(
        at,
        **{name: _count(table.get(name)) for name in _NUMBERS},
        ended={name: count for name, value in ended.items() if (count := _count(value)) is not None},
        hosts={name: parts for name, value in [*hosts.items()][:MOST_HOSTS] if (parts := _parts(value)) is not None},
    )


def _count(value: Any) -> int | None:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return value if is_count else None


def _parts(value: Any) -> list[int | None] | None:
    if not isinstance(value, list) or len(value) != len(_PARTS):
        return None
    counts = [_count(part) for part in value]
    return [None if count is None or count > 100 else count for count in counts]


def document(samples: Iterable[Sample], now: float) -> dict[str, Any]:
    """Return the last 24 hours for programs: a list for each thing, with a place for each step, None for a gap."""
    first = step_of(now) - (PLACES - 1) * STEP_S
    by_time = {sample.at: sample for sample in samples}
    places = [by_time.get(first + number * STEP_S) for number in range(PLACES)]
    before = by_time.get(first - STEP_S)
    return {
        "step_s": STEP_S,
        "from": first,
        **{name: [sample and getattr(sample, name) for sample in places] for name in _NUMBERS},
        "ended": _ended([before, *places]),
        "hosts": _hosts(places),
    }


def _ended(samples: Sequence[Sample | None]) -> dict[str, list[int | None]]:
    """Return how many jobs ended before each sample and after the one before it, by class."""
    names = sorted({name for sample in samples if sample for name in sample.ended})
    return {
        name: [_rise(name, samples[place - 1], samples[place]) for place in range(1, len(samples))] for name in names
    }


def _rise(name: str, earlier: Sample | None, later: Sample | None) -> int | None:
    if earlier is None or later is None:
        return None
    rise = later.ended.get(name, 0) - earlier.ended.get(name, 0)
    # Redis was emptied, or is an older copy.
    return rise if rise >= 0 else None


def _hosts(places: Sequence[Sample | None]) -> list[dict[str, Any]]:
    counts = Counter(name for sample in places if sample for name in sample.hosts)
    names = sorted(name for name, _ in counts.most_common(MOST_HOSTS))
    nothing = (None,) * len(_PARTS)
    return [
        {
            "host": name,
            **{
                part: [sample and sample.hosts.get(name, nothing)[number] for sample in places]
                for number, part in enumerate(_PARTS)
            },
        }
        for name in names
    ]
