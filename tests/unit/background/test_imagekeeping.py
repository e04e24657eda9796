"""Too many images: what is asked before one goes, and what is reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.background.imagekeeping import Budget, ImageKeeping
from celery_docker.core.hostimages import HostImage
from celery_docker.host.imagenotes import ImageNotes


class Docker:
    """Docker with images of one layer each."""

    def __init__(self, count: int) -> None:
        self.list = [HostImage(f"sha256:{n}", (f"tool:{n}",), (), 10) for n in range(count)]
        self.used: set[str] = set()
        self.keeps: set[str] = set()

    def folder(self) -> str:
        return "/"

    def images(self) -> list[HostImage]:
        return list(self.list)

    def with_layers(self, image: HostImage) -> HostImage:
        return HostImage(image.image_id, image.tags, image.digests, 10, layers={image.image_id: 10})

    def used_images(self) -> set[str]:
        return self.used

    def remove_image(self, image: HostImage) -> bool:
        if image.image_id in self.keeps:
            return False
        self.list = [other for other in self.list if other.image_id != image.image_id]
        return True

    @property
    def ids(self) -> list[str]:
        return [image.image_id.partition(":")[2] for image in self.list]


class Reports:
    """Redis, with the images that jobs want."""

    def __init__(self) -> None:
        self.written: Mapping[str, Any] = {}
        self.names: set[str] = set()
        self.asked = 0
        self.failure: Exception | None = None

    def report(self, host: str, report: Mapping[str, Any]) -> None:
        self.written = report

    def wanted(self) -> set[str]:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return self.names


class World:
    """Five images that were pulled, used in their order, and two that somebody else has brought."""

    def __init__(self, folder: Path, budget: int, free: int = 0) -> None:
        self.docker, self.reports, self.notes = Docker(7), Reports(), ImageNotes(folder)
        for number in range(5):
            self.notes.note_pull(f"sha256:{number}", f"tool:{number}", float(number + 1))
        self.keeping = ImageKeeping(self.docker, self.reports, self.notes, "node1", Budget(budget, free), lambda: [])


def test_without_a_budget_nothing_goes_and_nothing_is_asked(tmp_path: Path) -> None:
    world = World(tmp_path, 0, 2**60)
    world.keeping.turn()
    assert len(world.docker.ids) == 7
    assert world.reports.asked == 0
    assert world.reports.written["count"] == 7


def test_what_is_too_much_goes_and_is_not_reported(tmp_path: Path) -> None:
    world = World(tmp_path, 25)
    world.keeping.turn()
    assert world.docker.ids == ["3", "4", "5", "6"]
    assert [entry["names"] for entry in world.reports.written["images"]][:2] == [["tool:4"], ["tool:3"]]
    assert world.reports.written["count"] == 4
    world.keeping.turn()
    assert world.docker.ids == ["3", "4", "5", "6"]
    assert world.reports.asked == 1


def test_too_little_room_takes_all_that_nobody_needs(tmp_path: Path) -> None:
    """The disk has less than it shall have, whatever goes."""
    world = World(tmp_path, 1000, 2**60)
    world.docker.used, world.reports.names = {"sha256:0"}, {"tool:2"}
    world.keeping.turn()
    assert world.docker.ids == ["0", "2", "5", "6"]


def test_what_docker_keeps_is_passed_over(tmp_path: Path) -> None:
    """A container was made of it just now."""
    world = World(tmp_path, 25)
    world.docker.keeps = {"sha256:1"}
    world.keeping.turn()
    assert world.docker.ids == ["1", "3", "4", "5", "6"]
    assert world.reports.written["count"] == 5


def test_without_redis_nobody_knows_what_is_wanted(tmp_path: Path) -> None:
    world = World(tmp_path, 25)
    world.reports.failure = errors.StoreAway("no answer")
    with pytest.raises(errors.StoreAway):
        world.keeping.turn()
    assert len(world.docker.ids) == 7
    world.reports.failure = None
    world.keeping.turn()
    assert world.docker.ids == ["3", "4", "5", "6"]


def test_what_another_process_pulled_is_remembered(tmp_path: Path) -> None:
    World(tmp_path, 0).keeping.turn()
    world = World(tmp_path, 25)
    world.keeping = ImageKeeping(world.docker, world.reports, ImageNotes(tmp_path), "node1", Budget(25, 0), lambda: [])
    world.keeping.turn()
    assert world.docker.ids == ["3", "4", "5", "6"]
