"""The patterns that allow images: which name of an image a pattern stands for. Pure.

A name is compared as the job gives it: `busybox` and `docker.io/library/busybox` are two names. Invariant: a pattern
never allows an image that its reader would not expect. So a registry is compared by itself, a digest is not judged by
the tag beside it, which Docker ignores, and the id of an image is no name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

_ANY = "*"
# The id of an image, or the beginning of one, is taken by Docker for what no image has as its name.
_IMAGE_ID = re.compile(r"[0-9a-f]{12,64}|sha256:.*")


def is_id(image: str) -> bool:
    """Return True where Docker may take a name for the id of an image, or for the beginning of one."""
    return "@" not in image and _IMAGE_ID.fullmatch(image) is not None


def allows(patterns: Iterable[str], image: str) -> bool:
    """Return True if one of the patterns stands for an image's name."""
    return any(_stands_for(pattern, image) for pattern in patterns)


def _stands_for(pattern: str, image: str) -> bool:
    if pattern in (_ANY, image):
        return True
    if is_id(image):
        return False
    name, at, digest = image.partition("@")
    if not at:
        return _matches(pattern, image)
    name = untagged(name)
    rule, at, digest_rule = pattern.partition("@")
    if at:
        return fnmatchcase(digest, digest_rule) and _matches(untagged(rule), name)
    # A pattern that ends so and matches the name with a colon matches it with every tag.
    return pattern.endswith(_ANY) and _matches(pattern, f"{name}:")


def _matches(pattern: str, name: str) -> bool:
    """Compare a name with a pattern, its registry by itself: `busybox:*` must not allow `busybox:5000/other`."""
    registry, _, rest = name.partition("/")
    rule, slash, rest_rule = pattern.partition("/")
    is_open = rule == _ANY or (not slash and pattern.startswith(_ANY))
    if is_open or not rest or not _is_registry(registry):
        return fnmatchcase(name, pattern)
    return bool(slash) and fnmatchcase(registry, rule) and fnmatchcase(rest, rest_rule)


def _is_registry(part: str) -> bool:
    """Return True for the first part of a name that Docker takes for a registry, not for a folder of Docker Hub's."""
    return "." in part or ":" in part or part == "localhost" or part != part.lower()


def untagged(name: str) -> str:
    """Return a name without its tag."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}"
