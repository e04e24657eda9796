"""The file systems below a folder, as the kernel's table of mounts lists them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import submounts

ROOT = "20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def table(*mounts: str) -> str:
    """Return a table with a root; a mount is `number parent place [kind]`."""
    lines = [ROOT]
    for mount in mounts:
        number, parent, place, *kind = mount.split(" ")
        lines.append(f"{number} {parent} 0:4 / {place} rw,nosuid shared:9 master:2 - {(kind or ['tmpfs'])[0]} x rw")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("mounts", "places"),
    [
        ([], []),
        (["21 20 /data"], []),
        (["21 20 /data", "22 21 /data/a", "23 22 /data/a/b"], ["/data/a", "/data/a/b"]),
        # Upper ones first, in whatever order they were mounted
        (["23 20 /data/a", "21 23 /data/a/b/c", "22 20 /data/z"], ["/data/a", "/data/z", "/data/a/b/c"]),
        # Only below, by whole names
        (["21 20 /data2", "22 20 /dat", "23 20 /data2/x", "24 20 /other/data/x"], []),
        # Names as the kernel writes them
        (
            [r"21 20 /data/a\040b", r"22 20 /data/c\134d", r"23 20 /data/e\011\012f"],
            ["/data/a b", "/data/c\\d", "/data/e\t\nf"],
        ),
        (["21 20 /data/a\u2028b", "22 20 /data/a\x0c\x85b"], ["/data/a\x0c\x85b", "/data/a\u2028b"]),
        # A mount on a mount: the place is one
        (["21 20 /data/a", "22 21 /data/a"], ["/data/a"]),
        # A mount that another one hides
        (["21 20 /data/a/b", "22 20 /data/a"], ["/data/a"]),
        (["21 20 /data/a", "22 20 /data"], []),
        (["21 20 /data/a", "22 21 /data/a/b", "23 21 /data/a"], ["/data/a"]),
        (["21 20 /data/a", "22 20 /"], []),
        (["21 20 /", "22 21 /data/a"], ["/data/a"]),
        # A mount over a file looks as any other.
        (["21 20 /data/file ext4"], ["/data/file"]),
        # A place that waits for a look, and the file system that came after one
        (["21 20 /data/auto autofs"], []),
        (["21 20 /data/auto autofs", "22 21 /data/auto nfs4"], ["/data/auto"]),
        (["21 20 /data/auto autofs", "22 21 /data/auto/x nfs4"], ["/data/auto/x"]),
    ],
)
def test_below(mounts: list[str], places: list[str]) -> None:
    assert submounts.below(table(*mounts), "/data") == places


def test_the_root_of_all_has_everything_below() -> None:
    assert submounts.below(table("21 20 /data", "22 21 /data/a"), "/") == ["/data", "/data/a"]


def test_a_root_that_is_its_own_parent_as_in_a_chroot() -> None:
    text = table("21 20 /data/a").replace("20 1 8:1", "20 20 8:1")
    assert submounts.below(text, "/data") == ["/data/a"]


def test_hundreds() -> None:
    mounts = [f"{number} 20 /data/{number}" for number in range(100, 900)]
    assert len(submounts.below(table(*mounts), "/data")) == 800


@given(st.text("0123 /data-\\\n") | st.text())
def test_any_text_has_mounts_or_none(text: str) -> None:
    assert all(place.startswith("/data/") for place in submounts.below(text, "/data"))


def test_the_table_of_this_computer() -> None:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        places = submounts.below(file.read(), "/")
    assert "/proc" in places
