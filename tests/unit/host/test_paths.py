"""Paths followed to where they lead; of what lies outside of the roots nothing is told."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from celery_docker.core.jobspec import JobSpec
from celery_docker.core.policy import Policy, violations
from celery_docker.host import paths, resolver


@pytest.fixture
def place() -> Iterator[Path]:
    """A root `data` beside `etc`, which everybody may enter, and `closed`, which nobody may but root and its owner.

    pytest's own folder lies in one that is closed.
    """
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield _filled(Path(name).resolve())


def _filled(folder: Path) -> Path:
    for name in ("data/mine", "etc/ssl", "closed/secret", "project"):
        (folder / name).mkdir(parents=True)
    (folder / "closed/file").write_text("x")
    (folder / "data/file").write_text("x")
    (folder / "etc/file").write_text("x")
    links: dict[str, str | Path] = {
        "project/data": folder / "data",
        "etc/link": "ssl",
        "closed/way": folder / "data",
        "data/mine/etc": folder / "etc/ssl",
        "data/mine/there": folder / "closed/secret",
        "data/mine/not-there": folder / "closed/nothing",
        "data/mine/back": folder / "closed/secret/../../data/mine",
        "data/mine/no-way-back": folder / "closed/nothing/../../data/mine",
        "data/mine/by-a-link": folder / "closed/way/mine",
        "data/mine/round": "../../project/data/mine",
        "data/mine/loop": "loop",
        "data/mine/twice": "etc/../link",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    (folder / "closed").chmod(0o700)
    return folder


def answers(place: Path, path: str) -> list[str]:
    """Return what a job hears of a path in each of its fields, the path itself left out."""
    rules = Policy(mounts=(f"{place}/data",))
    heard = []
    for field in ("inputpath", "outputpath", "logoutfile", "logerrfile"):
        spec = JobSpec("busybox", **{field: f"{place}/{path}"})  # type: ignore[arg-type]
        _, request = resolver.resolve(spec, "unix:///run/docker.sock", rules)
        heard += [line.replace(f"{place}/{path}", "PATH") for line in violations(rules, request)]
    return heard


OUTSIDE = [
    *("closed/secret", "closed/file", "closed/nothing", "closed/file/below", "closed", "closed/way/nothing"),
    *("closed/secret/../../data", "closed/nothing/../../data", "closed/way/mine", "closed/way"),
    *("etc/ssl", "etc/file", "etc/nothing", "etc/link", "etc/link/x", "etc/file/below", "nothing", "nothing/at/all"),
    "etc/" + "x" * 300,
]


def test_outside_of_the_roots_every_path_has_the_same_answer(place: Path) -> None:
    heard = {tuple(answers(place, path)) for path in OUTSIDE}
    assert len(heard) == 1
    lines = next(iter(heard))
    assert [line.partition(":")[0] for line in lines] == ["inputpath", "outputpath", "logoutfile", "logerrfile"]
    assert all("'PATH' is outside what this host allows" in line for line in lines)


def test_the_way_out_by_dots_tells_no_more(place: Path) -> None:
    heard = {
        name: [line.replace(name, "NAME") for line in answers(place, f"data/../{name}")]
        for name in ("closed/secret", "closed/nothing", "etc/ssl", "etc/nothing")
    }
    assert len({tuple(lines) for lines in heard.values()}) == 1
    assert len(heard["etc/ssl"]) == 4


@pytest.mark.parametrize(
    ("one", "other"), [("there", "not-there"), ("back", "no-way-back"), ("by-a-link", "not-there/mine")]
)
def test_a_link_of_ones_own_opens_no_view_into_closed_folders(place: Path, one: str, other: str) -> None:
    """The answer has the text of the link, which whoever made it knows."""
    for name in (one, other):
        lines = answers(place, f"data/mine/{name}")
        assert len(lines) == 4
        assert all(f"'PATH' (which is '{place}/closed/" in line for line in lines)


def test_a_link_that_leaves_is_told_by_its_own_text(place: Path) -> None:
    assert f"'PATH' (which is '{place}/etc/ssl') is outside" in answers(place, "data/mine/etc")[0]
    # Not by what it leads to from there.
    (place / "data/mine/etc").unlink()
    (place / "data/mine/etc").symlink_to(place / "etc/link")
    assert f"'PATH' (which is '{place}/etc/link') is outside" in answers(place, "data/mine/etc")[0]


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("data/nothing", "No such file or directory"),
        ("data/file/below", "Not a directory"),
        ("data/mine/loop", "Too many levels of symbolic links"),
        ("project/data/nothing", "No such file or directory"),
    ],
)
def test_below_a_root_the_reason_is_told(place: Path, path: str, why: str) -> None:
    heard = answers(place, path)
    assert [line.rpartition(": ")[2] for line in heard] == [why, why]


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("data", "data"),
        ("data/mine/../file", "data/file"),
        ("data//mine/.", "data/mine"),
        ("project/data/mine", "data/mine"),
        ("data/mine/round/round", "data/mine"),
        ("etc/../data/file", "data/file"),
    ],
)
def test_where_a_path_leads(place: Path, path: str, real: str) -> None:
    roots = [f"{place}/data"]
    assert paths.follow(f"{place}/{path}", roots) == f"{place}/{real}" == os.path.realpath(f"{place}/{path}")
    assert paths.follow(f"{place}/{path}/new/x", roots, must_exist=False) == f"{place}/{real}/new/x"


def test_a_root_below_a_closed_folder_can_be_reached(place: Path) -> None:
    assert paths.follow(f"{place}/closed/secret", [f"{place}/closed/secret"]) == f"{place}/closed/secret"
    with pytest.raises(paths.Outside):
        paths.follow(f"{place}/closed/file", [f"{place}/closed/secret"])


def test_a_way_that_is_open_by_its_text_is_not_taken_for_where_it_leads(place: Path) -> None:
    """The text leads below a root, the link on it out again."""
    (place / "data/mine/out").symlink_to(place / "etc")
    (place / "project/hop").symlink_to(place / "data/mine/out/ssl")
    assert len(answers(place, "project/hop")) == 4
    assert paths.follow(f"{place}/data/mine/round", [f"{place}/data/mine"]) == f"{place}/data/mine"


def test_every_path_is_below_the_root_of_all(place: Path) -> None:
    assert paths.follow(f"{place}/closed/way", ["/"]) == f"{place}/data"
