"""CPUs, memory and GPUs in words: the offer of a host, what is free of it, and what a job needs. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from celery_docker.core import wording
from celery_docker.core.admission import Needs, Offer, Room

# Less than this part of what is offered is little.
_LITTLE = 8


def cpus(millicpus: int) -> str:
    """Return a number of CPUs, like `1 CPU` or `2.5 CPUs`."""
    return "1 CPU" if millicpus == 1000 else f"{millicpus / 1000:.10g} CPUs"


def offer(offered: Offer) -> str:
    """Return an offer, like `8 CPUs, 15.1 GiB of memory and 2 GPUs`."""
    gpus = [wording.counted(len(offered.gpus), "GPU")] if offered.gpus else []
    return together([cpus(offered.millicpus), f"{wording.size(offered.memory_bytes)} of memory", *gpus])


def free(room: Room, offered: Offer) -> str:
    """Return the room of a host that is free, like `2.5 of 8 CPUs, 12 of 15.1 GiB, 0 of 2 GPUs`."""
    parts = [
        f"{max(room.millicpus, 0) / 1000:.10g} of {cpus(offered.millicpus)}",
        sizes(room.memory_bytes, offered.memory_bytes),
    ]
    if offered.gpus:
        parts.append(f"{max(room.gpus, 0)} of {wording.counted(len(offered.gpus), 'GPU')}")
    return ", ".join(parts)


def needs(needed: Needs) -> str:
    """Return what a job takes, like `2 CPUs, 4 GiB and 1 GPU`; empty if that is a slot only."""
    parts = [
        cpus(needed.millicpus) if needed.millicpus else "",
        wording.size(needed.memory_bytes) if needed.memory_bytes else "",
        _gpus(needed),
    ]
    return together(filter(None, parts))


def _gpus(needed: Needs) -> str:
    if needed.devices:
        return f"the GPU{'s' if len(needed.devices) > 1 else ''} {' '.join(needed.devices)}"
    return wording.counted(needed.gpus, "GPU") if needed.gpus else ""


def together(parts: Iterable[str]) -> str:
    """Return words as a list, like `a, b and c`."""
    *first, last = list(parts) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def lacking(needed: Needs, room: Room, offered: Offer) -> str:
    """Return the parts of a host's room that are too small for a job, like `2 of 8 GiB free`; empty if it fits."""
    parts = []
    if needed.millicpus and needed.millicpus > room.millicpus:
        parts.append(f"{max(room.millicpus, 0) / 1000:.10g} of {cpus(offered.millicpus)}")
    if needed.memory_bytes and needed.memory_bytes > room.memory_bytes:
        parts.append(sizes(room.memory_bytes, offered.memory_bytes))
    if needed.gpus > room.gpus and not needed.devices:
        parts.append(f"{max(room.gpus, 0)} of {wording.counted(len(offered.gpus), 'GPU')}")
    if parts:
        return f"{together(parts)} free"
    missing = tuple(name for name in needed.devices if name not in room.devices)
    return f"{_gpus(replace(needed, devices=missing))} not free" if missing else ""


def nowhere(needed: Needs, offers: Mapping[str, Offer]) -> str:
    """Return the reason for which none of these hosts could ever hold a job, with the largest offer."""
    kinds: Sequence[tuple[int, Callable[[Offer], int], Callable[[int], str]]] = (
        (needed.memory_bytes, lambda offer: offer.memory_bytes, wording.size),
        (needed.millicpus, lambda offer: offer.millicpus, cpus),
        (
            0 if needed.devices else needed.gpus,
            lambda offer: len(offer.gpus),
            lambda count: wording.counted(count, "GPU"),
        ),
    )
    sentences = []
    for amount, part_of, words in kinds:
        host, most = max(((name, part_of(offer)) for name, offer in offers.items()), key=lambda row: row[1])
        if amount > most:
            largest = f"; the largest is {host} with {words(most)}" if most else ""
            sentences.append(f"no host offers {words(amount)}{largest}")
    missing = set(needed.devices).difference(*(offer.gpus for offer in offers.values()))
    if missing:
        sentences.append(f"no host offers {_gpus(replace(needed, devices=tuple(sorted(missing))))}")
    return "; ".join(sentences) or f"no host offers {needs(needed)} together"


def scarce(room: Room, offered: Offer) -> str:
    """Return the parts of an offer of which little is free, in the words of `free`; empty if there is none."""
    words = free(room, offered).split(", ")
    is_scarce = [
        room.millicpus * _LITTLE < offered.millicpus,
        room.memory_bytes * _LITTLE < offered.memory_bytes,
        room.gpus <= 0,
    ]
    return ", ".join(word for word, little in zip(words, is_scarce, strict=False) if little)


def sizes(part_bytes: int, whole_bytes: int) -> str:
    """Return a part of some memory, like `2 of 8 GiB` or `512 MiB of 8 GiB`."""
    whole = wording.size(whole_bytes)
    unit = whole.rpartition(" ")[2]
    part = wording.size(part_bytes) if part_bytes > 0 else "0"
    return f"{part.removesuffix(f' {unit}')} of {whole}"


def excess(offered: Offer, machine: Offer) -> list[str]:
    """Return a line for each thing of which more is offered than a machine has."""
    lines = []
    if offered.millicpus > machine.millicpus:
        lines.append(f"{cpus(offered.millicpus)} are offered to jobs, and there are {machine.millicpus / 1000:.10g}")
    if offered.memory_bytes > machine.memory_bytes:
        sizes = wording.size(offered.memory_bytes), wording.size(machine.memory_bytes)
        lines.append("{} of memory is offered to jobs, and there is {}".format(*sizes))
    return lines
