"""The paths of a job as a process of root's has found and pinned them for Docker. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from celery_docker.core.devices import Node
from celery_docker.core.plan import Resolved

# Returns where the path in a field leads, given the folders below which it must lie. Raises `paths.Outside`, `OSError`.
Follow = Callable[[str, str, tuple[str, ...]], str]
# Returns what is at the path of a device. Raises `OSError`, as for a link.
Look = Callable[[str], Node]
# Returns a descriptor of a log file, to append to. Raises `OSError` and `HostError`.
OpenLog = Callable[[str], int]


@dataclass(frozen=True)
class Found:
    """Where the paths of a job lead, and the pins of those that its container is to see, by field."""

    follow: Follow
    pins: Mapping[str, str]

    def pinned(self, resolved: Resolved) -> Resolved:
        """Return the same with the pins in place of the paths."""
        mounts = tuple(self.pins[f"mounts.{number}"] for number in range(len(resolved.mounts)))
        own = {name: self.pins.get(name) for name in ("inputpath", "outputpath")}
        return replace(resolved, **dict[str, Any](own), mounts=mounts)
