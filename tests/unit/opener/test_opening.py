"""Paths that are opened where they lead, whatever is put in their way between the look and the opening."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from celery_docker.host import paths
from celery_docker.opener import opening


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A root with a folder of somebody's, beside one that is closed to jobs."""
    tmp_path.chmod(0o755)
    for name in ("lab/mine", "secret"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "name").write_text(name)
    return tmp_path.resolve() / "lab"


def swap_by_link(lab: Path) -> None:
    (lab / "mine").rename(lab / "moved")
    (lab / "mine").symlink_to(lab.parent / "secret")


def swap_back(lab: Path) -> None:
    (lab / "mine").unlink()
    (lab / "moved").rename(lab / "mine")


def move_away(lab: Path) -> None:
    (lab / "mine").rename(lab.parent / "secret/mine")


def move_back(lab: Path) -> None:
    (lab.parent / "secret/mine").rename(lab / "mine")


def meet(monkeypatch: pytest.MonkeyPatch, deeds: Iterator[Callable[[], None]]) -> None:
    """Have one deed done after each look at a path, and none once they are used up."""
    follow = paths.follow

    def met(path: str, roots: list[str], *, must_exist: bool = True) -> str:
        place = follow(path, roots, must_exist=must_exist)
        next(deeds, lambda: None)()
        return place

    monkeypatch.setattr(paths, "follow", met)


def opened(path: Path, lab: Path) -> str:
    descriptor = opening.open_mount(str(path), [str(lab)])
    try:
        return Path(f"/proc/self/fd/{descriptor}").resolve().relative_to(lab).as_posix()
    finally:
        os.close(descriptor)


def test_a_folder_is_opened_where_its_links_lead(lab: Path) -> None:
    (lab / "link").symlink_to("mine")
    (lab.parent / "door").symlink_to(lab)
    assert opened(lab / "link", lab) == opened(lab.parent / "door/link", lab) == "mine"
    assert opened(lab / "link/name", lab) == "mine/name"


@pytest.mark.parametrize("swap", [swap_by_link, move_away])
def test_what_is_swapped_after_the_look_is_not_opened(
    lab: Path, monkeypatch: pytest.MonkeyPatch, swap: Callable[[Path], None]
) -> None:
    place = paths.follow(str(lab / "mine"), [str(lab)])
    swap(lab)
    name = Path(place, "name") if swap is swap_by_link else lab.parent / "secret/mine/name"
    assert name.read_text(), "by its name it would be the other one"
    (swap_back if swap is swap_by_link else move_back)(lab)
    meet(monkeypatch, iter([lambda: swap(lab)]))
    with pytest.raises((paths.Outside, FileNotFoundError)):
        opening.open_mount(str(lab / "mine"), [str(lab)])


def test_what_is_swapped_and_comes_back_is_opened(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow, looks = paths.follow, list[str]()

    def met(path: str, roots: list[str], *, must_exist: bool = True) -> str:
        if (lab / "mine").is_symlink():
            swap_back(lab)
        looks.append(follow(path, roots, must_exist=must_exist))
        if len(looks) < 4:
            swap_by_link(lab)
        return looks[-1]

    monkeypatch.setattr(paths, "follow", met)
    assert opened(lab / "mine", lab) == "mine"
    assert len(looks) == 4


def test_a_link_that_becomes_a_folder_before_it_is_read(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_by_link(lab)
    real = os.readlink

    def met(path: str, *args: Any, **kwargs: Any) -> str:
        if path == str(lab / "mine") and (lab / "mine").is_symlink():
            swap_back(lab)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "readlink", met)
    assert opened(lab / "mine", lab) == "mine"


def test_what_never_rests_is_refused_in_the_end(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow = paths.follow

    def met(path: str, roots: list[str], *, must_exist: bool = True) -> str:
        if (lab / "mine").is_symlink():
            swap_back(lab)
        place = follow(path, roots, must_exist=must_exist)
        swap_by_link(lab)
        return place

    monkeypatch.setattr(paths, "follow", met)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        opening.open_mount(str(lab / "mine"), [str(lab)])


@pytest.mark.parametrize("name", ["mine/job.log", "mine/new/job.log"])
def test_a_log_is_not_opened_through_a_folder_that_became_a_link(lab: Path, name: str) -> None:
    (lab.parent / "secret/job.log").write_text("precious")
    swap_by_link(lab)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        opening.open_log(str(lab / name))
    assert (lab.parent / "secret/job.log").read_text() == "precious"
    assert not (lab.parent / "secret/new").exists()


def test_a_link_in_place_of_a_log_is_not_followed(lab: Path) -> None:
    (lab / "job.log").symlink_to(lab.parent / "secret/name")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        opening.open_log(str(lab / "job.log"))
    assert (lab.parent / "secret/name").read_text() == "secret"


def test_a_folder_that_is_swapped_while_folders_are_made(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at it and the making of another in it."""
    real, deeds = opening._make_folder, iter([lambda: swap_by_link(lab)])

    def met(place: str) -> None:
        if place == str(lab / "mine"):
            next(deeds, lambda: None)()
        real(place)

    monkeypatch.setattr(opening, "_make_folder", met)
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        opening.open_log(str(lab / "mine/new/job.log"))
    assert not (lab.parent / "secret/new").exists()


def test_a_log_and_its_folders_are_made(lab: Path) -> None:
    path = lab / "mine/a/b/job.log"
    descriptor = opening.open_log(str(path))
    os.write(descriptor, b"line\n")
    os.close(descriptor)
    again = opening.open_log(str(path))
    os.write(again, b"line 2\n")
    os.close(again)
    assert path.read_text() == "line\nline 2\n"
    assert stat.S_IMODE(path.stat().st_mode) & 0o133 == 0


@pytest.mark.parametrize("name", ["a b", "ü", "new\nline", "quote'\"", "\udcff\udcfe", " (deleted)", "x (deleted)"])
def test_names_may_be_odd(lab: Path, name: str) -> None:
    (lab / name).mkdir()
    assert opened(lab / name, lab) == name


def test_a_removed_folder_is_not_there(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (lab / "empty").mkdir()
    meet(monkeypatch, iter([(lab / "empty").rmdir]))
    with pytest.raises(FileNotFoundError):
        opening.open_mount(str(lab / "empty"), [str(lab)])


def test_refusals_leave_no_descriptor(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(os.listdir("/proc/self/fd"))
    meet(monkeypatch, iter([lambda: move_away(lab)]))
    with pytest.raises(FileNotFoundError):
        opening.open_mount(str(lab / "mine"), [str(lab)])
    with pytest.raises(NotADirectoryError):
        opening.open_log(str(lab.parent / "secret/name/job.log"))
    assert len(os.listdir("/proc/self/fd")) == before
