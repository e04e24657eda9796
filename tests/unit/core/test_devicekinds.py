"""Devices as jobs name them, each accepted form and each refusal as a row."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import devicekinds
from tests.unit.core.test_kinds import patterns

A_DEVICE = "which must be a device below /dev, as '/dev/ttyUSB0' or '/dev/ttyUSB0:/dev/meter:rw'"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["/dev/ttyUSB0"], ("/dev/ttyUSB0:/dev/ttyUSB0:rwm",)),
        (["/dev/ttyUSB0:rw"], ("/dev/ttyUSB0:/dev/ttyUSB0:rw",)),
        (["/dev/ttyUSB0:/dev/meter"], ("/dev/ttyUSB0:/dev/meter:rwm",)),
        (["/dev/snd/seq:/dev/a/b:r"], ("/dev/snd/seq:/dev/a/b:r",)),
        (["/dev/null:/dev/a", "/dev/null:/dev/b"], ("/dev/null:/dev/a:rwm", "/dev/null:/dev/b:rwm")),
        ([], None),
    ],
    ids=str,
)
def test_what_is_accepted_and_stored(value: Any, expected: tuple[str, ...] | None) -> None:
    assert devicekinds.DEVICE.parse(value) == expected
    if expected is not None:
        assert devicekinds.DEVICE.parse(expected) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/dev/ttyUSB0", "must be a list like ['/dev/ttyUSB0']"),
        ([7], "must be a list like ['/dev/ttyUSB0']"),
        *(
            ([text], f"has {text!r}, {A_DEVICE}")
            for text in (
                *("", "/dev", "/dev/", "dev/x", "/etc/passwd", "/dev/../etc/passwd", "/dev/./x", "/dev//x", "//dev/x"),
                *("/dev/x/", "/dev/x/..", "/dev/x:", "/dev/x::", "/dev/x:/etc/y", "/dev/x:y", "/dev/x:/dev/../y"),
                *("/dev/x:/dev/y:", "/dev/x:/dev/y:x", "/dev/x:rr", "/dev/x:/dev/y:rwmr", "/dev/x:/dev/y:r:w"),
                *("/dev/x y", "/dev/x\n", "/dev/x\x1b", "/dev/x,y", "/run/docker.sock", "/proc/self/root/dev/sda"),
            )
        ),
        (["vendor.com/gpu=0"], "has 'vendor.com/gpu=0', which is a name of CDI; a job asks for GPUs by gpus"),
        (["/dev/zero"], "has '/dev/zero': '/dev/zero' is there in each container; name another place for it"),
        (["/dev/x:/dev/null"], "has '/dev/x:/dev/null': '/dev/null' is there in each container"),
        (["/dev/x:/dev/pts/0"], "has '/dev/x:/dev/pts/0': '/dev/pts/0' is there in each container"),
        (["/dev/x:/dev/shm/a"], "has '/dev/x:/dev/shm/a': '/dev/shm/a' is there in each container"),
        (["/dev/x:/dev/y", "/dev/y"], "has two devices for '/dev/y' in the container; name another place as in"),
        (["/dev/" + "a/" * 20 + "b"], "has '/dev/a/a/"),
        (["/dev/" + "a" * 65], "has '/dev/aaa"),
        ([f"/dev/x{number}" for number in range(65)], "has 65 entries; 64 are the most"),
    ],
    ids=ascii,
)
def test_what_is_refused(value: Any, expected: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(expected)) as caught:
        devicekinds.DEVICE.parse(value)
    assert str(caught.value).isprintable()


def test_the_pattern_of_the_schema_is_the_parsers() -> None:
    (pattern,) = patterns(devicekinds.DEVICE.schema)
    for good in ("/dev/ttyUSB0", "/dev/a:rw", "/dev/snd/seq:/dev/a/b:r"):
        assert re.search(pattern, good)
        devicekinds.DEVICE.parse([good])
    for bad in ("/etc/passwd", "/dev/a:/b", "/dev/a:x", "/dev//x"):
        assert not re.search(pattern, bad)
