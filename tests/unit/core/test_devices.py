"""Which devices no rule gives to a job, each with its reason; they are judged by what they are."""

from __future__ import annotations

import pytest

from celery_docker.core import devices
from celery_docker.core.devices import Node

DISK = "is a disk of the host, or a way to its disks"
MEMORY = "is a way to the memory of the host"
CONSOLE = "is a terminal, keyboard or screen of the host"


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        pytest.param(Node(False, is_block=True), DISK, id="a disk"),
        pytest.param(Node(False), "is no device", id="a file, a folder, a socket"),
        *(
            pytest.param(Node(True, False, 1, minor, ("mem",)), reason, id=f"mem {minor}")
            for minor, reason in ((1, MEMORY), (2, MEMORY), (4, MEMORY), (11, MEMORY), (12, MEMORY), (99, MEMORY))
        ),
        *(pytest.param(Node(True, False, 1, minor, ("mem",)), "", id=f"mem {minor}") for minor in (3, 5, 7, 8, 9)),
        pytest.param(Node(True, False, 4, 1, ("tty",)), CONSOLE, id="tty1"),
        pytest.param(Node(True, False, 4, 64, ("ttyS",)), "", id="ttyS0"),
        pytest.param(Node(True, False, 5, 1, ("/dev/console",)), CONSOLE, id="console"),
        pytest.param(Node(True, False, 136, 0, ("pts",)), CONSOLE, id="pts/0"),
        pytest.param(Node(True, False, 143, 0, ("pts",)), CONSOLE, id="pts/1792"),
        pytest.param(Node(True, False, 13, 64, ("input",)), CONSOLE, id="a keyboard"),
        pytest.param(Node(True, False, 10, 223, ("uinput",)), CONSOLE, id="uinput"),
        pytest.param(Node(True, False, 21, 0, ("sg",)), DISK, id="sg0"),
        pytest.param(Node(True, False, 248, 0, ("bsg",)), DISK, id="bsg"),
        pytest.param(Node(True, False, 240, 0, ("nvme",)), DISK, id="nvme0"),
        pytest.param(Node(True, False, 10, 236, ("device-mapper",)), DISK, id="device-mapper"),
        pytest.param(Node(True, False, 202, 0, ("cpu/msr",)), MEMORY, id="msr"),
        pytest.param(Node(True, False, 250, 0, ("watchdog",)), "can switch the host off, or restart it", id="watchdog"),
        pytest.param(Node(True, False, 10, 203, ("cuse",)), "makes or changes devices of the host", id="cuse"),
        pytest.param(Node(True, False, 188, 0, ("ttyUSB",)), "", id="ttyUSB0"),
        pytest.param(Node(True, False, 226, 128, ("drm",)), "", id="renderD128"),
        pytest.param(Node(True, False, 10, 232, ("kvm",)), "", id="kvm"),
        pytest.param(
            Node(True, False, 250, 0, ("ttyUSB", "watchdog")), "can switch the host off, or restart it", id="2"
        ),
        pytest.param(Node(True, False, 99, 0), "has no driver that the kernel names", id="unknown"),
        pytest.param(
            Node(is_character=False, is_swappable=True),
            "lies in a folder that others than root can change",
            id="swappable",
        ),
    ],
)
def test_never(node: Node, expected: str) -> None:
    assert devices.never(node) == expected
