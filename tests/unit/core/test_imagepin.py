"""The pin of a job's image: which digest is its own, and which text in a record is believed."""

from __future__ import annotations

import pytest

from celery_docker.core import imagepin
from celery_docker.core.signingkeys import Keys

DIGEST, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
KEYS, NEXT, STRANGE = Keys(b"k" * 32), Keys(b"n" * 32, old=b"k" * 32), Keys(b"s" * 32)
SIGNED = imagepin.text(DIGEST, "j1", "arguments", KEYS)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("busybox", "busybox"),
        ("busybox:1.36", "busybox"),
        ("docker.io/library/busybox:1.36", "busybox"),
        ("index.docker.io/library/busybox", "busybox"),
        ("docker.io/lab/tool:1", "lab/tool"),
        ("registry.example.org:5000/lab/tool", "registry.example.org:5000/lab/tool"),
        ("registry.example.org:5000/lab/tool:1", "registry.example.org:5000/lab/tool"),
        (f"lab/tool:1@{DIGEST}", "lab/tool"),
        ("library/busybox", "library/busybox"),
    ],
)
def test_the_repository_of_a_name(image: str, expected: str) -> None:
    assert imagepin.repository(image) == expected


@pytest.mark.parametrize(
    ("image", "repo_digests", "expected"),
    [
        ("tool:1", [f"tool@{DIGEST}"], DIGEST),
        ("b/tool:1", [f"a/tool@{OTHER}", f"b/tool@{DIGEST}"], DIGEST),
        ("docker.io/library/tool:1", [f"tool@{DIGEST}"], DIGEST),
        # Nobody could pull it there.
        ("tool:1", [f"a/tool@{DIGEST}"], None),
        # Made on the host.
        ("tool:1", [], None),
        ("tool:1", [f"sha256:{'a' * 64}"], None),
        ("tool:1", ["tool@sha256:short", "tool@md5:0", "tool@"], None),
    ],
)
def test_the_digest_of_an_image_in_its_own_repository(
    image: str, repo_digests: list[str], expected: str | None
) -> None:
    assert imagepin.own_digest(image, repo_digests) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [("tool:1", True), ("tool", True), (f"tool@{DIGEST}", False), (DIGEST, False), ("0123456789ab", False)],
)
def test_an_image_that_can_be_pinned(image: str, expected: bool) -> None:
    assert imagepin.can_be_pinned(image) is expected


@pytest.mark.parametrize("image", ["r:5000/tool:1", "r:5000/tool", f"r:5000/tool@{OTHER}", f"r:5000/tool:1@{OTHER}"])
def test_the_name_by_a_digest(image: str) -> None:
    assert imagepin.pinned(image, DIGEST) == f"r:5000/tool@{DIGEST}"


@pytest.mark.parametrize("is_signed", [True, False])
@pytest.mark.parametrize("keys", [KEYS, NEXT], ids=["the same key", "in a change of keys"])
def test_a_pin_that_a_host_of_the_queue_has_signed(keys: Keys, is_signed: bool) -> None:
    assert imagepin.read(SIGNED, "j1", "arguments", keys, is_signed=is_signed) == DIGEST


@pytest.mark.parametrize(
    ("value", "job_id", "arguments", "keys"),
    [
        (DIGEST, "j1", "arguments", KEYS),
        (DIGEST, "j1", "arguments", None),
        (SIGNED, "j2", "arguments", KEYS),
        (SIGNED, "j1", "others", KEYS),
        (SIGNED.replace(DIGEST, OTHER), "j1", "arguments", KEYS),
        (SIGNED, "j1", "arguments", STRANGE),
        (SIGNED, "j1", "arguments", None),
        (SIGNED[:-1], "j1", "arguments", KEYS),
        (SIGNED[:-1] + ("0" if SIGNED[-1] != "0" else "1"), "j1", "arguments", KEYS),
        (f"{SIGNED} x", "j1", "arguments", KEYS),
        (SIGNED.upper(), "j1", "arguments", KEYS),
        (f"{SIGNED}\n", "j1", "arguments", KEYS),
        ("", "j1", "arguments", KEYS),
        ("\x00\u202e", "j1", "arguments", KEYS),
        ("x" * 10**6, "j1", "arguments", KEYS),
    ],
    ids=range(15),
)
def test_a_pin_that_does_not_count_for_a_signed_job(value: str, job_id: str, arguments: str, keys: Keys | None) -> None:
    assert imagepin.read(value, job_id, arguments, keys, is_signed=True) is None


def test_the_pin_of_an_unsigned_job_needs_no_key() -> None:
    """Whoever could forge it could forge its message; but a false sum by a key of this host is no pin."""
    assert imagepin.read(DIGEST, "j1", "arguments", None, is_signed=False) == DIGEST
    assert imagepin.read(SIGNED, "j1", "arguments", STRANGE, is_signed=False) == DIGEST
    assert imagepin.read(SIGNED, "j2", "arguments", KEYS, is_signed=False) is None
    assert imagepin.text(DIGEST, "j1", "arguments", None) == DIGEST
