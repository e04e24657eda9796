"""Admission: the room of a host, what one job takes of it, and whether it starts now. Pure.

Owns the arithmetic of CPUs, memory and GPUs. Invariant: what needs 0 of something fits, however little of it is there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

# Numbers that Redis' scripts can count.
_NUMBER = "[0-9]{1,16}"
_DEVICE = "[^ ,|]{1,128}"
_TEXT = re.compile(f"({_NUMBER}) ({_NUMBER}) ({_NUMBER})(?: ({_DEVICE}(?:,{_DEVICE}){{0,63}}))?", re.ASCII)
_BETWEEN = "|"


@dataclass(frozen=True)
class Needs:
    """The part of a host's offer that one job takes; 0: nothing of it. `gpus` is a number of devices.

    `devices` are their names, where the job asks for these and no others.
    """

    millicpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text form, in the record's field `needs` and in a container's label."""
        names = f" {','.join(self.devices)}" if self.devices else ""
        return f"{self.millicpus} {self.memory_bytes} {self.gpus}{names}"


# A job that takes a slot only.
NOTHING = Needs()


@dataclass(frozen=True)
class Lease:
    """The part of a host's offer that a job has: its needs, and the names of its GPUs."""

    needs: Needs = NOTHING
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Room:
    """The part of an offer that is free. Less than 0 where more is in use than the host offers.

    `gpus` is the number that may be taken of the free `devices`.
    """

    millicpus: int
    memory_bytes: int
    gpus: int
    devices: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the text form, like that of needs; with no number less than 0: nothing fits into either."""
        return str(Needs(max(self.millicpus, 0), max(self.memory_bytes, 0), max(self.gpus, 0), self.devices))


@dataclass(frozen=True)
class Offer:
    """The resources that a host has for jobs. `gpus` are names of devices, in the order in which they are leased."""

    millicpus: int
    memory_bytes: int
    gpus: tuple[str, ...] = ()

    @property
    def whole(self) -> Room:
        """The room of the host while no job is there."""
        return Room(self.millicpus, self.memory_bytes, len(self.gpus), self.gpus)

    def could_hold(self, needs: Needs) -> bool:
        """Tell whether a job would fit if it were alone."""
        return fits(needs, self.whole)


# More of everything than any job can ask for, but GPUs: for a host whose offer is not known.
UNBOUNDED = Offer(2**53, 2**53)


class Verdict(StrEnum):
    """The verdict on a job whose message is here: start it, or park it until there is room."""

    START = "start"
    PARK = "park"


@dataclass(frozen=True)
class Parked:
    """A job that is parked, since a time in seconds since the epoch by Redis' clock, and the Redis list of its queue.

    `holder` is the host that has reserved room for it, empty if none has.
    """

    job_id: str
    needs: Needs
    parked_at: float
    queue_list: str = ""
    holder: str = ""


@dataclass(frozen=True)
class Listed:
    """Parked jobs as they were at a time, in seconds since the epoch by Redis' clock."""

    now: float
    jobs: tuple[Parked, ...] = ()


@dataclass(frozen=True)
class Use:
    """A host's use of its offer: what each job has by its id, and the job that room is reserved for, if any."""

    leases: Mapping[str, Lease] = field(default_factory=dict)
    reserved_id: str = ""
    reserved: Needs = NOTHING


@dataclass(frozen=True)
class FreeRoom:
    """The room of a host for the next job: for any, for the one that it has reserved room for, and while it is empty.

    `reserved_id` is empty where it has reserved none.
    """

    free: Room
    reserved: Room
    whole: Room
    reserved_id: str = ""


def parse(text: str | None) -> Needs | None:
    """Return the needs that a text form says; None for anything else, which somebody may have written."""
    match = _TEXT.fullmatch(text or "")
    if match is None:
        return None
    return Needs(int(match[1]), int(match[2]), int(match[3]), tuple(match[4].split(",")) if match[4] else ())


def needs_of(cpus: float | None, memory_bytes: int | None, gpus: int = 0, devices: tuple[str, ...] = ()) -> Needs:
    """Return what a job takes that gets so much; None: it gets no limit, and takes nothing of it."""
    return Needs(max(round((cpus or 0) * 1000), 1 if cpus else 0), memory_bytes or 0, gpus, devices)


def group(queue_list: str, needs: Needs) -> str:
    """Return the name of the group of parked jobs that wait in one Redis list and need the same."""
    return f"{queue_list}{_BETWEEN}{needs}"


def of_group(name: str) -> tuple[str, Needs] | None:
    """Return the Redis list and the needs of a group; None for a name that is none."""
    queue_list, between, text = name.rpartition(_BETWEEN)
    needs = parse(text)
    return None if needs is None or not between else (queue_list, needs)


def room(offer: Offer, leases: Iterable[Lease], reserved: Needs = NOTHING) -> Room:
    """Return the room that is left of an offer; what is reserved counts as taken."""
    millicpus, memory_bytes = offer.millicpus - reserved.millicpus, offer.memory_bytes - reserved.memory_bytes
    leased: set[str] = set()
    for held in leases:
        millicpus -= held.needs.millicpus
        memory_bytes -= held.needs.memory_bytes
        leased.update(held.gpus)
    free = [name for name in offer.gpus if name not in leased]
    devices = tuple([name for name in free if name not in reserved.devices])
    return Room(millicpus, memory_bytes, len(free) - reserved.gpus, devices)


def fits(needs: Needs, free: Room) -> bool:
    """Tell whether a job fits a room."""
    return (
        (needs.millicpus == 0 or needs.millicpus <= free.millicpus)
        and (needs.memory_bytes == 0 or needs.memory_bytes <= free.memory_bytes)
        and (needs.gpus == 0 or needs.gpus <= free.gpus)
        and set(needs.devices) <= set(free.devices)
    )


def free_room(offer: Offer, use: Use) -> FreeRoom:
    """Return the room for the next job. A job that has its part already has no room reserved any more."""
    reserved_id = "" if use.reserved_id in use.leases else use.reserved_id
    leases = use.leases.values()
    unreserved = room(offer, leases)
    free = room(offer, leases, use.reserved) if reserved_id else unreserved
    return FreeRoom(free, unreserved, offer.whole, reserved_id)


def verdict(job_id: str, needs: Needs, offer: Offer, use: Use) -> Verdict:
    """Decide whether a job starts now on a host. One that takes nothing always does."""
    rooms = free_room(offer, use)
    place = rooms.reserved if job_id == rooms.reserved_id else rooms.free
    return Verdict.START if fits(needs, place) else Verdict.PARK


def to_reserve(listed: Listed, offer: Offer, host: str, *, lists: Collection[str], after_s: float) -> Parked | None:
    """Choose the parked job for which a host keeps its room from others; None: there is no need.

    It is the oldest of those that are parked for so many seconds, in the lists that the host serves, that it could
    hold, and that no other host has reserved room for.
    """
    waiting = [job for job in listed.jobs if job.parked_at <= listed.now - after_s and job.queue_list in lists]
    free = [job for job in waiting if job.holder in ("", host) and offer.could_hold(job.needs)]
    return min(free, key=lambda job: (job.parked_at, job.job_id), default=None)


def lease(offer: Offer, needs: Needs, leased: Collection[str]) -> Lease:
    """Give a job its part of an offer: the GPUs that it names, else the first that are free, if there are any."""
    free = tuple(name for name in offer.gpus if name not in leased)
    return Lease(needs, needs.devices or free[: needs.gpus])
