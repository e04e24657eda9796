"""The CPUs and the memory of this machine, and the offer that a worker makes of them to jobs."""

from __future__ import annotations

import os

from celery_docker.core import admission, roomwords, settings
from celery_docker.core.admission import Offer

_LEAST_RESERVE = 512 * 2**20
_RESERVED_PART = 20


def cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0))


def memory_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def for_jobs(total_bytes: int) -> int:
    """Return the part of a machine's memory that jobs can have: the system needs some, and Docker, and page caches.

    Of a small machine it is half.
    """
    return max(total_bytes - max(_LEAST_RESERVE, total_bytes // _RESERVED_PART), total_bytes // 2)


def offer(chosen: settings.Settings, gpus: tuple[str, ...] = ()) -> Offer:
    """Return what a worker with these settings, and these GPUs, offers on this machine."""
    needs = admission.needs_of(chosen.cpus or cpus(), chosen.memory_bytes or for_jobs(memory_bytes()))
    return Offer(needs.millicpus, needs.memory_bytes, gpus)


def machine() -> Offer:
    """Return all that this machine has, but for GPUs."""
    return Offer((os.cpu_count() or 1) * 1000, memory_bytes())


def excess(offered: Offer) -> list[str]:
    """Return a line for each thing of which more is offered than this machine has."""
    return roomwords.excess(offered, machine())
