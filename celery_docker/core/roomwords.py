"""CPUs, memory and GPUs in words: the offer of a host, and what is wrong with one. Pure."""

from __future__ import annotations

from celery_docker.core import wording
from celery_docker.core.admission import Offer


def cpus(millicpus: int) -> str:
    """Return a number of CPUs, like `1 CPU` or `2.5 CPUs`."""
    return "1 CPU" if millicpus == 1000 else f"{millicpus / 1000:.10g} CPUs"


def offer(offered: Offer) -> str:
    """Return an offer, like `8 CPUs, 15.1 GiB of memory and 2 GPUs`."""
    parts = [cpus(offered.millicpus), f"{wording.size(offered.memory_bytes)} of memory"]
    if offered.gpus:
        parts.append(wording.counted(len(offered.gpus), "GPU"))
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def excess(offered: Offer, machine: Offer) -> list[str]:
    """Return a line for each thing of which more is offered than a machine has."""
    lines = []
    if offered.millicpus > machine.millicpus:
        lines.append(f"{cpus(offered.millicpus)} are offered to jobs, and there are {machine.millicpus / 1000:.10g}")
    if offered.memory_bytes > machine.memory_bytes:
        sizes = wording.size(offered.memory_bytes), wording.size(machine.memory_bytes)
        lines.append("{} of memory is offered to jobs, and there is {}".format(*sizes))
    return lines
