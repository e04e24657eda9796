"""Devices of this computer, looked at where they are."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from celery_docker.core.devices import Node
from celery_docker.host import devices
from celery_docker.host.devices import Place


@pytest.mark.parametrize(("path", "minor"), [("/dev/null", 3), ("/dev/urandom", 9)])
def test_a_device_of_every_linux(path: str, minor: int) -> None:
    assert devices.look(path) == Node(True, False, 1, minor, ("mem",))


def test_what_is_no_device() -> None:
    assert devices.look("/dev/shm") == Node(is_character=False)
    assert devices.node(Place(stat.S_IFBLK | 0o660, os.makedev(8, 0), is_swappable=False)) == Node(False, is_block=True)


@pytest.mark.parametrize(
    "path", ["/dev/stdin", "/dev/fd/0", "/dev/../dev/null", "/dev/./null", "//dev/null", "/etc/passwd"]
)
def test_a_link_and_what_is_elsewhere(path: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        devices.look(path)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.skipif(os.geteuid() != 0, reason="looks no further than where others than root can write")
def test_no_link_is_followed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It might lead to a file system that does not answer."""
    looked: list[str] = []
    lstat = os.lstat

    def look(path: str) -> os.stat_result:
        looked.append(path)
        return lstat(path)

    monkeypatch.setattr(devices, "FOLDER", str(tmp_path))
    monkeypatch.setattr(os, "lstat", look)
    tmp_path.chmod(0o755)
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        devices.place(f"{tmp_path}/link/a/b")
    assert looked == [str(tmp_path), f"{tmp_path}/link"]


def test_what_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        devices.look("/dev/celery-docker-none")


def test_a_folder_that_others_can_change(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as /dev/shm: whoever can put a file there can put another one."""
    monkeypatch.setattr(devices, "FOLDER", str(tmp_path))
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "x").write_text("")
    is_own = os.geteuid() == 0
    for mode, is_swappable in ((0o755, not is_own), (0o1777, True), (0o775, True)):
        folder.chmod(mode)
        assert devices.place(str(folder / "x")).is_swappable is is_swappable


def test_names_of_numbers() -> None:
    """Those of characters, not those of disks; a misc device has the name of its own driver."""
    lines = Path("/proc/misc").read_text().splitlines()
    for line in lines:
        minor, name = line.split()
        assert devices.node(Place(stat.S_IFCHR, os.makedev(10, int(minor)), is_swappable=False)).drivers == (name,)
    assert devices.node(Place(stat.S_IFCHR, os.makedev(1, 3), is_swappable=False)).drivers == ("mem",)
