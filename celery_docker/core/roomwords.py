"""CPUs, memory and GPUs in words: the offer of a host, and what is wrong with one. Pure."""

from __future__ import annotations

from celery_docker.core import wording
from celery_docker.core.admission import Offer, Room

# Less than this part of what is offered is little.
_LITTLE = 8


def cpus(millicpus: int) -> str:
    """Return a number of CPUs, like `1 CPU` or `2.5 CPUs`."""
    return "1 CPU" if millicpus == 1000 else f"{millicpus / 1000:.10g} CPUs"


def offer(offered: Offer) -> str:
    """Return an offer, like `8 CPUs, 15.1 GiB of memory and 2 GPUs`."""
    parts = [cpus(offered.millicpus), f"{wording.size(offered.memory_bytes)} of memory"]
    if offered.gpus:
        parts.append(wording.counted(len(offered.gpus), "GPU"))
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def free(room: Room, offered: Offer) -> str:
    """Return the room of a host that is free, like `2.5 of 8 CPUs, 12 of 15.1 GiB, 0 of 2 GPUs`."""
    parts = [
        f"{max(room.millicpus, 0) / 1000:.10g} of {cpus(offered.millicpus)}",
        sizes(room.memory_bytes, offered.memory_bytes),
    ]
    if offered.gpus:
        parts.append(f"{max(room.gpus, 0)} of {wording.counted(len(offered.gpus), 'GPU')}")
    return ", ".join(parts)


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
