"""Usage, age and processes of a container, from the kernel's own files: no call to Docker, no privilege.

Owns the layout of cgroups version 1 and 2. What cannot be read is None.
"""

from __future__ import annotations

import contextlib
import os
import time

from celery_docker.core import container

_ROOT = "/sys/fs/cgroup"
_RUNTIMES = ("runc", "crun")
# Field 22 of /proc/PID/stat, counted from the one behind the program's name.
_START_TIME = 19


def usage(c: container.Container, *, root: str = _ROOT, proc: str = "/proc") -> container.Usage:
    """Return the CPU seconds and the memory peak of a running container so far."""
    folders = _folders(c, root, proc)
    unified = folders.get("", root)
    if "cpuacct" in folders:
        cpu_s = _scaled(_number(folders["cpuacct"] + "/cpuacct.usage"), 1e9)
    else:
        cpu_s = _scaled(_number(unified + "/cpu.stat", "usage_usec"), 1e6) if "" in folders else None
    if "memory" in folders:
        peak = _number(folders["memory"] + "/memory.max_usage_in_bytes")
    else:
        peak = _number(unified + "/memory.peak") if "" in folders else None
    return container.Usage(cpu_s=cpu_s, memory_peak_bytes=peak)


def age_s(c: container.Container, *, proc: str = "/proc") -> float | None:
    """Return for how many seconds a container's first process has run, by a clock that nobody can set."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"{proc}/{c.pid}/stat", encoding="utf-8") as file:
        # The second field is the program's name, in parentheses, and may hold anything (proc(5)).
        ticks = int(file.read().rpartition(")")[2].split()[_START_TIME])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return None


def processes(container_id: str, *, proc: str = "/proc") -> list[int]:
    """Return the processes of a container that run its command, whatever Docker knows of them.

    Whatever manages the cgroups, and wherever, the kernel names each process' own, and its name has the container's id.
    """
    pids = []
    for name in filter(str.isdigit, os.listdir(proc)):
        with contextlib.suppress(OSError):
            if container_id in _text(f"{proc}/{name}/cgroup") and _runs_command(_text(f"{proc}/{name}/cmdline")):
                pids.append(int(name))
    return sorted(pids)


def _runs_command(line: str) -> bool:
    """Return False for a process that has ended, and for one of the runtime that waits for the order to start."""
    words = line.split("\0")
    return bool(line) and not (os.path.basename(words[0]) in _RUNTIMES and words[1:2] == ["init"])


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _folders(c: container.Container, root: str, proc: str) -> dict[str, str]:
    """Return the container's folders by controller; version 2 has one for all, under an empty name."""
    folders: dict[str, str] = {}
    with contextlib.suppress(OSError), open(f"{proc}/{c.pid}/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if c.container_id not in path:  # the process id may be somebody else's by now
                continue
            base = f"{root}/{controllers}" if controllers else root
            folders.update(dict.fromkeys(controllers.split(","), base + path))
    return folders


def _number(path: str, key: str = "") -> int | None:
    """Return the number in a kernel's file, or the one behind `key`."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
        for line in file:
            name, _, value = line.rpartition(" ")
            if name == key:
                return int(value)
    return None


def _scaled(number: int | None, unit: float) -> float | None:
    return None if number is None else number / unit
