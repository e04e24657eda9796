"""Patterns of images: an image is allowed only where the pattern's reader would expect it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import imagerules, kinds

DIGEST = "sha256:2" + "0" * 63
OTHER = "sha256:1" + "f" * 63


@pytest.mark.parametrize(
    ("pattern", "image", "allowed"),
    [
        # Docker ignores the tag beside a digest: the digest of any other tag would pass under an allowed one.
        ("reg.org/x:2.*", "reg.org/x:2.0", True),
        ("reg.org/x:2.*", f"reg.org/x:2.0@{OTHER}", False),
        ("reg.org/x:2.*", f"reg.org/x@{DIGEST}", False),
        ("busybox", f"busybox@{DIGEST}", False),
        ("busybox", f"busybox:latest@{DIGEST}", False),
        ("busybox:1.36", f"busybox:1.36@{DIGEST}", False),
        # The digits of a digest are no tag, though they follow a colon.
        ("lab/*:2*", f"lab/x@{DIGEST}", False),
        ("lab/x*:2*", f"lab/x:2@{OTHER}", False),
        ("lab/*0", f"lab/x@{DIGEST}", False),
        ("lab/?*:[12]*", f"lab/x@{DIGEST}", False),
        # A pattern that names the digest, with any tag beside it or none
        (f"reg.org/x@{DIGEST}", f"reg.org/x@{DIGEST}", True),
        (f"reg.org/x@{DIGEST}", f"reg.org/x:9@{DIGEST}", True),
        (f"reg.org/x:2.0@{DIGEST}", f"reg.org/x:2.0@{DIGEST}", True),
        (f"reg.org/x:2.0@{DIGEST}", f"reg.org/x@{DIGEST}", True),
        (f"reg.org/x:2.0@{DIGEST}", f"reg.org/x:2.0@{OTHER}", False),
        (f"reg.org/x:2.0@{DIGEST}", "reg.org/x:2.0", False),
        (f"reg.org/x@{DIGEST}", f"reg.org/y@{DIGEST}", False),
        ("reg.org/x@sha256:*", f"reg.org/x:1@{OTHER}", True),
        ("reg.org:5000/x@*", f"reg.org:5000/x@{OTHER}", True),
        # A pattern that allows every tag
        ("*", f"reg.org/x:2.0@{OTHER}", True),
        ("reg.org/*", f"reg.org/x:2.0@{OTHER}", True),
        ("reg.org/x*", f"reg.org/x@{OTHER}", True),
        ("reg.org/x:*", f"reg.org/x@{OTHER}", True),
        ("reg.org/x:*", f"reg.org/xy@{OTHER}", False),
        # An id names no repository and has no tag; Docker takes the beginning of one as well.
        ("*", DIGEST, True),
        ("*", "0123456789ab", True),
        ("*:2*", DIGEST, False),
        ("*:2*", "sha256:2", False),
        ("sha256:*", "sha256:20", False),
        ("cafe*", "cafe0123456789", False),
        ("[a-z]*", "cafe0123456789", False),
        ("*" * 2, "cafe0123456789", False),
        ("sha256:2", "sha256:2", True),
        (DIGEST, DIGEST, True),
        (DIGEST, "2" + "0" * 63, False),
        ("cafe*", "cafe", True),
        # A registry is compared by itself: a pattern without one is not about the registries whose names begin so.
        ("busybox:*", "busybox:5000/evil", False),
        ("busybox:5*", "busybox:5000/evil:1", False),
        ("busybox*", "busybox.evil.org/x", False),
        ("lab*", "lab:5000/x", False),
        ("lab*", "lab/x", True),
        ("localhost*", "localhost/x", False),
        ("localhost/*", "localhost/x", True),
        ("Lab*", "Lab/x", False),
        ("reg.org*", "reg.org.evil.org/x", False),
        ("reg.org*", "reg.org/x", False),
        ("reg.org*/lab/*", "reg.org/evil/lab/x", False),
        ("*.reg.org/lab/*", "evil.org/a.reg.org/lab/x", False),
        ("*.reg.org/lab/*", "a.reg.org/lab/x", True),
        ("reg.org:*/lab/*", "reg.org:5000/lab/x", True),
        ("reg.org/*", "reg.org:5000/x", False),
        ("reg.org:5000/*", "reg.org:50001/x", False),
        # Begins with *: any registry
        ("*/lab/x", "reg.org/a/lab/x", True),
        ("*tool", "reg.org/lab/tool", True),
        ("*:1", "reg.org:5000/lab/tool:1", True),
        # As it is written: another spelling of the same image is another name.
        ("busybox", "docker.io/library/busybox", False),
        ("docker.io/library/busybox", "busybox", False),
        ("docker.io/library/*", "docker.io/library/busybox", True),
        ("reg.org/lab/*", "REG.org/lab/x", False),
        ("library/busybox", "busybox", False),
    ],
)
def test_a_pattern_allows(pattern: str, image: str, allowed: bool) -> None:
    assert kinds.IMAGE.parse(image) == image
    assert imagerules.allows([pattern], image) is allowed


TAGS = st.text("0123456789abf.", min_size=1, max_size=4)
PATTERNS = st.text("x/*?:@2a[]", max_size=9)


@given(PATTERNS, TAGS, st.sampled_from([None, *"ab"]))
def test_a_digest_passes_only_where_every_tag_does(pattern: str, tag: str, beside: str | None) -> None:
    name = f"x:{beside}@{DIGEST}" if beside else f"x@{DIGEST}"
    if "@" not in pattern and imagerules.allows([pattern], name):
        assert imagerules.allows([pattern], f"x:{tag}")


@given(PATTERNS)
def test_the_tag_beside_a_digest_changes_nothing(pattern: str) -> None:
    answers = {imagerules.allows([pattern], f"x{tag}@{DIGEST}") for tag in ("", ":2", ":a")}
    assert len(answers) == 1


def test_any_of_several() -> None:
    assert imagerules.allows(["a", "b"], "b")
    assert not imagerules.allows([], "b")
