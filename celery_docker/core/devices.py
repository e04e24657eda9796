"""Devices of the host that a job asks for: which paths a rule stands for, and what no rule gives to a job.

Pure. A device is judged by what it is, its kind, numbers and driver, whatever its name says. Invariant: nobody comes by
one to the host's disks, memory or power, or to what people type and see there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

_DISK = "is a disk of the host, or a way to its disks"
_MEMORY = "is a way to the memory of the host"
_CONSOLE = "is a terminal, keyboard or screen of the host"
_POWER = "can switch the host off, or restart it"
_MAKER = "makes or changes devices of the host"

# Of the devices with major number 1, as of memory: null, zero, full, random, urandom.
_MEM, _HARMLESS_MEM = 1, (3, 5, 7, 8, 9)
# Consoles; serial lines have the same number and follow them.
_TTY, _FIRST_SERIAL = 4, 64
# Numbers that Linux has given out for ever, in its list of devices.
_NEVER_MAJORS = {
    **dict.fromkeys((5, 7, 13, 29, *range(136, 144)), _CONSOLE),
    **dict.fromkeys((21, 90, 162), _DISK),
    202: _MEMORY,
}
# Drivers with numbers of the moment, as /proc/devices and /proc/misc name them.
_NEVER_DRIVERS = {
    **dict.fromkeys(
        (
            *("bsg", "btrfs-control", "cachefiles", "device-mapper", "loop-control", "megadev", "megadev_legacy"),
            *("megaraid_sas_ioctl", "mpt2ctl", "mpt3ctl", "mptctl", "mtd", "nvme", "nvme-fabrics", "nvme-generic"),
            *("aac", "pmcraid", "raw", "sg", "snapshot", "twa", "twe", "twl", "ubi_ctrl", "zfs"),
        ),
        _DISK,
    ),
    **dict.fromkeys(("cpu/msr", "crash", "dax", "device_dax", "mcelog", "nvram", "uio", "vboxdrv"), _MEMORY),
    **dict.fromkeys(("fb", "input", "uhid", "uinput", "vcs", "vhci"), _CONSOLE),
    **dict.fromkeys(("apm_bios", "ipmidev", "watchdog"), _POWER),
    **dict.fromkeys(("autofs", "cuse", "vduse"), _MAKER),
}


@dataclass(frozen=True)
class Node:
    """The device that a path leads to; `drivers` are the names that the kernel has for its number.

    `is_character`: it is one of characters. A disk is none, nor is what is no device. `is_swappable`: others than root
    can put another thing in its place, and nothing more is said of it.
    """

    is_character: bool
    is_block: bool = False
    major: int = 0
    minor: int = 0
    drivers: tuple[str, ...] = ()
    is_swappable: bool = False


def allows(rules: Iterable[str], path: str) -> bool:
    """Tell whether one of the rules stands for a path; a * in one stands for text between two slashes."""
    return any(PurePosixPath(path).match(rule) for rule in rules)


def never(node: Node) -> str:
    """Return why no rule gives a device to a job, in words that go on after its path; empty: one may."""
    if node.is_swappable:
        return "lies in a folder that others than root can change"
    if node.is_block:
        return _DISK
    if not node.is_character:
        return "is no device"
    if node.major == _MEM:
        return "" if node.minor in _HARMLESS_MEM else _MEMORY
    if node.major == _TTY:
        return _CONSOLE if node.minor < _FIRST_SERIAL else ""
    if not node.drivers:
        return "has no driver that the kernel names"
    reasons = [_NEVER_DRIVERS[name] for name in node.drivers if name in _NEVER_DRIVERS]
    return _NEVER_MAJORS.get(node.major) or (reasons[0] if reasons else "")
