"""The images of one host: what its report says of them, and which of them go when there are too many. Pure.

Invariant: an image goes only if this package pulled it under every name that it has, no container is made of it, no
other image stands on it, and no job wants it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker.core import imagepin, plan, strictjson

# The most images that a report names: those that were used last.
MOST_REPORTED = 200
_MOST_NAMES = 8


@dataclass(frozen=True)
class HostImage:
    """An image as Docker lists it; `layers` are its layers with their sizes, each named by all that lie below it."""

    image_id: str
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    parent_id: str = ""
    layers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageNote:
    """The memory of one image: when a job used it last, by this host's clock, and the names it was pulled under."""

    used_s: float = 0.0
    pulled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surplus:
    """An image that is to go, and the bytes of the layers that no other image has."""

    image: HostImage
    freed_bytes: int


def report(images: Sequence[HostImage], notes: Mapping[str, ImageNote], now_s: float) -> dict[str, Any]:
    """Return what a host reports of its images: all in number and bytes, and those that were used last by name."""
    ordered = sorted(images, key=lambda image: notes.get(image.image_id, ImageNote()).used_s, reverse=True)
    return {
        "count": len(images),
        "images": [_entry(image, notes.get(image.image_id, ImageNote()), now_s) for image in ordered[:MOST_REPORTED]],
    }


def _entry(image: HostImage, note: ImageNote, now_s: float) -> dict[str, Any]:
    return {
        "id": image.image_id,
        "names": list(image.tags[:_MOST_NAMES]),
        "digests": list(image.digests[:_MOST_NAMES]),
        "size_bytes": image.size_bytes,
        "used_s": round(max(0.0, now_s - note.used_s)) if note.used_s else None,
        "pulled": bool(note.pulled),
    }


def parse_report(text: str) -> dict[str, Any]:
    """Return a report as a host wrote it; what cannot be read is left out."""
    try:
        table = strictjson.table(text)
    except strictjson.NotUsable:
        return {"count": None, "images": []}
    entries = table.get("images")
    images = [_checked(entry) for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    count = table.get("count")
    return {"count": count if _is_count(count) else None, "images": images}


def _checked(entry: Mapping[str, Any]) -> dict[str, Any]:
    image_id, size, used_s = entry.get("id"), entry.get("size_bytes"), entry.get("used_s")
    return {
        "id": image_id if isinstance(image_id, str) else "",
        "names": _texts(entry.get("names")),
        "digests": _texts(entry.get("digests")),
        "size_bytes": size if _is_count(size) else None,
        "used_s": used_s if _is_count(used_s) else None,
        "pulled": entry.get("pulled") is True,
    }


def _texts(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def surplus(
    images: Sequence[HostImage],
    notes: Mapping[str, ImageNote],
    *,
    used_ids: Collection[str],
    wanted: Iterable[str],
    budget_bytes: int,
    short_bytes: int,
) -> list[Surplus]:
    """Return the images that have to go, the one that was used longest ago first.

    Those that were pulled may have `budget_bytes` together; `short_bytes` is what the disk lacks besides. A layer
    counts once, however many images have it.
    """
    left = {image.image_id: image for image in images}
    own = {image.image_id for image in images if is_own(image, notes)}
    parents = {image.parent_id for image in images}
    names = {familiar(name) for name in wanted}
    going: list[Surplus] = []
    total, freed = _bytes(left[image_id] for image_id in own), 0
    for image_id in sorted(own, key=lambda key: (notes[key].used_s, key)):
        if total <= budget_bytes and freed >= short_bytes:
            break
        image = left[image_id]
        if image_id in used_ids or image_id in parents or names & {familiar(name) for name in _names(image)}:
            continue
        del left[image_id]
        own.remove(image_id)
        alone = _alone(image, left.values())
        going.append(Surplus(image, alone))
        freed += alone
        total = _bytes(left[other] for other in own)
    return going


def is_own(image: HostImage, notes: Mapping[str, ImageNote]) -> bool:
    """Return True for an image that has no name but those under which this package pulled it."""
    note = notes.get(image.image_id)
    if note is None or not note.pulled:
        return False
    pulled = {familiar(name) for name in note.pulled}
    repositories = {imagepin.repository(name) for name in note.pulled}
    return {familiar(tag) for tag in image.tags} <= pulled and all(
        imagepin.repository(digest) in repositories for digest in image.digests
    )


def familiar(name: str) -> str:
    """Return a name as Docker shows it, with its tag or digest."""
    digest = name.partition("@")[2]
    if digest:
        return f"{imagepin.repository(name)}@{digest}"
    tagged = plan.tagged(name)
    return f"{imagepin.repository(tagged)}:{tagged.rpartition(':')[2]}"


def _names(image: HostImage) -> tuple[str, ...]:
    return (*image.tags, *image.digests)


def _bytes(images: Iterable[HostImage]) -> int:
    layers: dict[str, int] = {}
    for image in images:
        layers |= image.layers
    return sum(layers.values())


def _alone(image: HostImage, others: Iterable[HostImage]) -> int:
    counts = Counter(layer for other in others for layer in other.layers)
    return sum(size for layer, size in image.layers.items() if not counts[layer])
