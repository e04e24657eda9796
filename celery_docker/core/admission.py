"""Admission: the room of a host, what one job takes of it, and whether it starts now. Pure.

Owns the arithmetic of CPUs, memory and GPUs. Invariant: what needs 0 of something fits, however little of it is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# Numbers that Redis' scripts can count exactly.
_NUMBER = "[0-9]{1,15}"
_TEXT = re.compile(f"({_NUMBER}) ({_NUMBER}) ({_NUMBER})", re.ASCII)


@dataclass(frozen=True)
class Needs:
    """The part of a host's offer that one job takes; 0: nothing of it. `gpus` is a number of devices."""

    millicpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0

    def __str__(self) -> str:
        """Return the text form, in the record's field `needs` and in a container's label."""
        return f"{self.millicpus} {self.memory_bytes} {self.gpus}"

    def __bool__(self) -> bool:
        """Tell whether the job takes anything but a slot."""
        return bool(self.millicpus or self.memory_bytes or self.gpus)


# A job that takes a slot only.
NOTHING = Needs()


@dataclass(frozen=True)
class Room:
    """The part of an offer that is free. Less than 0 where more is in use than the host offers."""

    millicpus: int
    memory_bytes: int
    gpus: int

    def __str__(self) -> str:
        """Return the text form, with no number less than 0: nothing fits into either."""
        return f"{max(self.millicpus, 0)} {max(self.memory_bytes, 0)} {max(self.gpus, 0)}"


@dataclass(frozen=True)
class Offer:
    """The resources that a host has for jobs. `gpus` are names of devices, in the order in which they are leased."""

    millicpus: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()

    @property
    def whole(self) -> Room:
        """The room of the host while no job is there."""
        return Room(self.millicpus, self.memory_bytes, len(self.gpus))

    def could_hold(self, needs: Needs) -> bool:
        """Tell whether a job would fit if it were alone."""
        return fits(needs, self.whole)


# More of everything than any job can ask for, but GPUs: for a host whose offer is not known.
UNBOUNDED = Offer(10**15 - 1, 10**15 - 1)


class Verdict(StrEnum):
    """The verdict on a job whose message is here: start it, or park it until there is room."""

    START = "start"
    PARK = "park"


@dataclass(frozen=True)
class Parked:
    """A job that is parked, since a time in seconds since the epoch by Redis' clock."""

    job_id: str
    needs: Needs
    parked_at: float


@dataclass(frozen=True)
class Use:
    """A host's use of its offer: what each job takes by its id, and the job that room is reserved for, if there is one.

    A job that has room reserved and takes some already needs no more.
    """

    taken: Mapping[str, Needs] = field(default_factory=dict)
    reserved_id: str = ""
    reserved: Needs = NOTHING


def parse(text: str | None) -> Needs | None:
    """Return the needs that a text form says; None for anything else, which somebody may have written."""
    match = _TEXT.fullmatch(text or "")
    return Needs(*map(int, match.groups())) if match else None


def needs_of(cpus: float | None, memory_bytes: int | None, gpus: int = 0) -> Needs:
    """Return what a job takes that gets so much; None: it gets no limit, and takes nothing of it."""
    return Needs(max(round((cpus or 0) * 1000), 1 if cpus else 0), memory_bytes or 0, gpus)


def room(offer: Offer, taken: Iterable[Needs]) -> Room:
    """Return the room that is left of an offer."""
    all_taken = tuple(taken)
    return Room(
        offer.millicpus - sum(needs.millicpus for needs in all_taken),
        offer.memory_bytes - sum(needs.memory_bytes for needs in all_taken),
        len(offer.gpus) - sum(needs.gpus for needs in all_taken),
    )


def fits(needs: Needs, free: Room) -> bool:
    """Tell whether a job fits a room."""
    return (
        (needs.millicpus == 0 or needs.millicpus <= free.millicpus)
        and (needs.memory_bytes == 0 or needs.memory_bytes <= free.memory_bytes)
        and (needs.gpus == 0 or needs.gpus <= free.gpus)
    )


def room_for(job_id: str, offer: Offer, use: Use) -> Room:
    """Return the room that a job may take: the reserved part of it is for one job only."""
    spared = use.reserved_id not in ("", job_id) and use.reserved_id not in use.taken
    return room(offer, [*use.taken.values(), *([use.reserved] if spared else [])])


def verdict(job_id: str, needs: Needs, offer: Offer, use: Use) -> Verdict:
    """Decide whether a job starts now on a host. One that takes nothing always does."""
    return Verdict.START if fits(needs, room_for(job_id, offer, use)) else Verdict.PARK


def to_reserve(parked: Iterable[Parked], offer: Offer, *, before: float, reserved: Collection[str]) -> Parked | None:
    """Choose the parked job for which a host keeps its room from others; None: there is no need.

    It is the oldest of those that were parked before a time, that the host could hold, and that no host has `reserved`.
    """
    waiting = [job for job in parked if job.parked_at <= before and job.job_id not in reserved]
    held = [job for job in waiting if offer.could_hold(job.needs)]
    return min(held, key=lambda job: (job.parked_at, job.job_id), default=None)


def lease(offer: Offer, leased: Collection[str], count: int) -> tuple[str, ...]:
    """Choose that many GPUs for a job, the first that are free; fewer where the host has no more."""
    return tuple(name for name in offer.gpus if name not in leased)[:count]
