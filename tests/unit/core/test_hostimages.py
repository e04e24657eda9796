"""The images of a host: its report, and which of them go."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import hostimages
from celery_docker.core.hostimages import HostImage, ImageNote

DIGEST = f"sha256:{'a' * 64}"


def image(number: int, size: int = 10, **values: Any) -> HostImage:
    """Return an image with a layer of its own."""
    base = HostImage(f"sha256:{number}", (f"r/tool:{number}",), (), size, layers={f"layer{number}": size})
    return replace(base, **values)


def notes(*images: HostImage) -> dict[str, ImageNote]:
    """Return the notes of images that were pulled, and used in this order."""
    return {image.image_id: ImageNote(float(used_s), image.tags) for used_s, image in enumerate(images, 1)}


def going(images: list[HostImage], known: Mapping[str, ImageNote], **values: Any) -> list[str]:
    settings = {"used_ids": (), "wanted": (), "budget_bytes": 25, "short_bytes": 0, **values}
    return [entry.image.image_id for entry in hostimages.surplus(images, known, **settings)]


FOUR = [image(number) for number in range(4)]


def test_the_one_that_was_used_longest_ago_goes_first() -> None:
    assert going(FOUR, notes(*FOUR)) == ["sha256:0", "sha256:1"]
    assert going(FOUR, notes(*reversed(FOUR))) == ["sha256:3", "sha256:2"]


def test_within_the_budget_none_goes() -> None:
    assert going(FOUR, notes(*FOUR), budget_bytes=40) == []


@pytest.mark.parametrize(("short_bytes", "expected"), [(1, 1), (10, 1), (11, 2), (1000, 4)])
def test_a_disk_that_lacks_room_takes_more(short_bytes: int, expected: int) -> None:
    assert len(going(FOUR, notes(*FOUR), budget_bytes=40, short_bytes=short_bytes)) == expected


def test_one_that_a_container_has_stays() -> None:
    assert going(FOUR, notes(*FOUR), used_ids={"sha256:0"}) == ["sha256:1", "sha256:2"]


@pytest.mark.parametrize("name", ["r/tool:0", "docker.io/r/tool:0", f"r/tool@{DIGEST}"])
def test_one_that_a_job_wants_stays(name: str) -> None:
    """By whatever name it asks for it."""
    images = [image(0, digests=(f"r/tool@{DIGEST}",)), *FOUR[1:]]
    assert going(images, notes(*images), wanted={name}) == ["sha256:1", "sha256:2"]


def test_a_name_without_a_tag_is_the_latest() -> None:
    latest = image(0, tags=("busybox:latest",))
    assert going([latest], notes(latest), budget_bytes=1, wanted={"busybox"}) == []
    assert going([latest], notes(latest), budget_bytes=1, wanted={"busybox:1"}) == ["sha256:0"]


def test_one_that_another_stands_on_stays() -> None:
    child = image(9, parent_id="sha256:0")
    assert going([*FOUR, child], notes(*FOUR)) == ["sha256:1", "sha256:2"]


def test_one_that_somebody_else_pulled_or_named_stays_and_costs_no_budget() -> None:
    foreign, named = image(5, 1000), image(6, 1000, tags=("r/tool:6", "mine:1"))
    known = notes(named, *FOUR) | {named.image_id: ImageNote(0.5, ("r/tool:6",))}
    assert going([foreign, named, *FOUR], known) == ["sha256:0", "sha256:1"]


def test_one_whose_tag_was_moved_goes_like_any_other() -> None:
    """It has its digest left as a name."""
    moved = image(0, tags=(), digests=(f"r/tool@{DIGEST}",))
    assert going([moved], {moved.image_id: ImageNote(1, ("r/tool:0",))}, budget_bytes=1) == ["sha256:0"]
    other = replace(moved, digests=(f"r/other@{DIGEST}",))
    assert going([other], {other.image_id: ImageNote(1, ("r/tool:0",))}, budget_bytes=1) == []


def test_a_layer_of_several_counts_once() -> None:
    """And its room comes with the last of them only."""
    images = [image(number, layers={"base": 100, f"layer{number}": 1}) for number in range(3)]
    assert going(images, notes(*images), budget_bytes=103) == []
    surplus = hostimages.surplus(images, notes(*images), used_ids=(), wanted=(), budget_bytes=1, short_bytes=0)
    assert [entry.freed_bytes for entry in surplus] == [1, 1, 101]


IMAGES = st.lists(st.integers(0, 30), unique=True, max_size=8).map(lambda numbers: [image(n, n + 1) for n in numbers])


@given(IMAGES, st.data())
def test_what_goes_is_never_more_than_it_has_to_be(images: list[HostImage], data: st.DataObject) -> None:
    """Without the last one that goes there would still be too much; and nothing that is needed goes."""
    own = data.draw(st.permutations(images))[: data.draw(st.integers(0, len(images)))]
    used = {entry.image_id for entry in data.draw(st.permutations(images))[:2]}
    budget = data.draw(st.integers(0, 100))
    gone = going(images, notes(*own), used_ids=used, budget_bytes=budget)
    assert not set(gone) & used
    assert set(gone) <= {entry.image_id for entry in own}
    sizes = {entry.image_id: entry.size_bytes for entry in own}
    left = sum(sizes.values()) - sum(sizes[image_id] for image_id in gone)
    if gone:
        assert left + sizes[gone[-1]] > budget
    assert left <= budget or set(sizes) - set(gone) <= used


# The report


def test_a_report_has_those_that_were_used_last() -> None:
    images = [image(number) for number in range(hostimages.MOST_REPORTED + 5)]
    report = hostimages.report(images, notes(*images), 1000.0)
    assert report["count"] == len(images)
    assert report["images"][0] == {
        **{"id": images[-1].image_id, "names": list(images[-1].tags), "digests": [], "size_bytes": 10},
        **{"used_s": 1000 - len(images), "pulled": True},
    }
    assert len(report["images"]) == hostimages.MOST_REPORTED
    assert hostimages.parse_report(json.dumps(report)) == report


def test_an_image_without_a_note_was_never_used() -> None:
    (entry,) = hostimages.report([image(1)], {}, 5.0)["images"]
    assert (entry["used_s"], entry["pulled"]) == (None, False)


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", '{"images": 1}', '{"images": [1, {"id": 2, "names": [3], "size_bytes": -1, "used_s": "x"}]}'],
)
def test_a_report_that_somebody_has_damaged(text: str) -> None:
    """What can be read of it counts."""
    report = hostimages.parse_report(text)
    assert report["count"] is None
    empty: dict[str, object] = {
        "id": "",
        "names": [],
        "digests": [],
        "size_bytes": None,
        "used_s": None,
        "pulled": False,
    }
    assert [entry for entry in report["images"] if entry != empty] == []
