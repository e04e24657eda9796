"""Usage, age and processes of a container, from the kernel's own files: no call to Docker, no privilege.

Owns the layout of control groups, version 1 and 2. What cannot be read is None.

Relied upon, by version. 1: `cpuacct.usage` in nanoseconds, `memory.max_usage_in_bytes`. 2: `usage_usec` in `cpu.stat`,
and `memory.peak`, which Linux has since 5.19 (Debian 12: 6.1). Both count all of the group's life, processes that have
ended too, until the folder is removed; so they do the kernel's kills for want of memory, as `oom_kill` in
`memory.oom_control` (1) and `memory.events` (2). Both list the processes in `cgroup.procs`, and let everybody read.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping

from celery_docker.core import container

ROOT, PROC = "/sys/fs/cgroup", "/proc"
_CONTROLLERS = ("cpuacct", "memory")
_RUNTIMES = ("runc", "crun")
# Field 22 of /proc/PID/stat, counted from the one behind the program's name.
_START_TIME = 19
_PART_BYTES = 65_536


# The folders of one container's control group by controller; version 2 has one for all, under an empty name.
Folders = Mapping[str, str]


def folders(pid: int, container_id: str, *, root: str = ROOT, proc: str = PROC) -> Folders:
    """Return the folders of a container from one of its processes; none if it is not one of that container's."""
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in _text(f"{proc}/{pid}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            before, own_id, rest = path.partition(container_id)
            if not own_id:  # the process id may be somebody else's by now
                continue
            base = f"{root}/{controllers}" if controllers else root
            # A process may have moved into a group of its own below.
            own = f"{base}{before}{own_id}{rest.partition('/')[0]}"
            found.update(dict.fromkeys(controllers.split(","), own))
    return found


def usual_folders(container_id: str, slice_path: str = "", *, root: str = ROOT) -> Iterator[Folders]:
    """Yield the folders that a container may have by its id alone, as Docker's two drivers name them.

    `slice_path` is the control group that it was made in, empty for Docker's own.
    """
    paths = (
        f"{slice_path or '/system.slice'}/docker-{container_id}.scope",
        f"{slice_path or '/docker'}/{container_id}",
    )
    for path in paths:
        yield {"": root + path} if _is_unified(root) else {name: f"{root}/{name}{path}" for name in _CONTROLLERS}


def members(places: Folders) -> list[int] | None:
    """Return the processes in a container's folders, and in those that it made below; None if its own are not there."""
    place = _place(places, "memory")
    try:
        pids = _pids(place)
    except (OSError, ValueError):
        return None
    for folder, names, _ in os.walk(place):
        for name in names:
            with contextlib.suppress(OSError, ValueError):
                pids += _pids(f"{folder}/{name}")
    return pids


def is_first(pid: int, container_id: str, *, proc: str = PROC) -> bool:
    """Return True for the first process of a container: with it all others have ended, by pid_namespaces(7)."""
    with contextlib.suppress(OSError):
        if container_id in _text(f"{proc}/{pid}/cgroup"):
            for line in _text(f"{proc}/{pid}/status").splitlines():
                # Its number here, and in the container's namespace.
                if line.startswith("NSpid:"):
                    return len(line.split()) == 3 and line.split()[2] == "1"
    return False


def usage(places: Folders) -> container.Usage:
    """Return the figures that the files in a container's folders have, as far as these are there."""
    cpu, memory = _place(places, "cpuacct"), _place(places, "memory")
    if "cpuacct" in places:
        cpu_s = _scaled(_number(f"{cpu}/cpuacct.usage"), 1e9)
    else:
        cpu_s = _scaled(_number(f"{cpu}/cpu.stat", "usage_usec"), 1e6)
    peak, kills = ("max_usage_in_bytes", "oom_control") if "memory" in places else ("peak", "events")
    oom_kills = _number(f"{memory}/memory.{kills}", "oom_kill")
    return container.Usage(
        cpu_s=cpu_s,
        memory_peak_bytes=_number(f"{memory}/memory.{peak}"),
        oom_killed=None if oom_kills is None else oom_kills > 0,
    )


def age_s(c: container.Container, *, proc: str = PROC) -> float | None:
    """Return for how many seconds a container's first process has run, by a clock that nobody can set."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # The second field is the program's name, in parentheses, and may hold anything (proc(5)).
        ticks = int(_text(f"{proc}/{c.pid}/stat").rpartition(")")[2].split()[_START_TIME])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return None


def processes(container_id: str, *, proc: str = PROC, is_waiting_too: bool = False) -> list[int]:
    """Return the processes of a container that run its command, whatever Docker knows of them.

    `is_waiting_too`: also one of the runtime that waits for the order to start. Whatever manages the cgroups, and
    wherever, the kernel names each process' own, and its name has the container's id.
    """
    pids = []
    for name in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError):
            if container_id not in _text(f"{proc}/{name}/cgroup"):
                continue
            line = _text(f"{proc}/{name}/cmdline")
            # One that has ended has none.
            if line and (is_waiting_too or not _waits(line)):
                pids.append(int(name))
    return sorted(pids)


def _waits(line: str) -> bool:
    words = line.split("\0")
    return os.path.basename(words[0]) in _RUNTIMES and words[1:2] == ["init"]


def _text(path: str) -> str:
    """Return the text of a kernel's file, by its bare calls: a file object makes five more, and each job has many."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _PART_BYTES):
            parts.append(part)
    finally:
        os.close(file)
    return b"".join(parts).decode(errors="replace")


def _pids(folder: str) -> list[int]:
    return [int(line) for line in _text(f"{folder}/cgroup.procs").split()]


def _place(places: Folders, controller: str) -> str:
    return places.get(controller) or places.get("", "")


def _is_unified(root: str) -> bool:
    return os.path.exists(f"{root}/cgroup.controllers")


def _number(path: str, key: str = "") -> int | None:
    """Return the number in a kernel's file, or the one behind `key`."""
    with contextlib.suppress(OSError, ValueError):
        for line in _text(path).splitlines():
            name, _, value = line.rpartition(" ")
            if name == key:
                return int(value)
    return None


def _scaled(number: int | None, unit: float) -> float | None:
    return None if number is None else number / unit
