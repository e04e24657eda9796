"""Values that only a container has, each accepted form and each refusal as a row."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import containerkinds, kinds
from tests.unit.core.test_kinds import patterns


def refusal(kind: kinds.Kind, value: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        kind.parse(value)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("value", ["a", "7", "node-1", "Node.example.org", "a" * 63])
def test_hostname(value: str) -> None:
    assert containerkinds.HOSTNAME.parse(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        ".",
        "-a",
        "a-",
        "a.",
        ".a",
        "a..b",
        "a_b",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "٣",
        "a" * 64,
        "a.-b",
        7,
        ["a"],
        True,
    ],
    ids=ascii,
)
def test_hostname_that_is_none(value: Any) -> None:
    assert refusal(containerkinds.HOSTNAME, value).startswith("must ")


@pytest.mark.parametrize(
    ("value", "expected"), [(4096, 4096), ("4k", 4096), ("1.5g", 3 * 2**29), ("2GiB", 2**31), (2**50, 2**50)]
)
def test_space(value: Any, expected: int) -> None:
    assert containerkinds.SPACE.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "must be at least 4k"),
        ("0", "must be at least 4k"),
        (-1, "must be at least 4k"),
        ("4095", "must be at least 4k"),
        (2**50 + 1, "must be at most 1024t"),
        ("", "must be a number of bytes, "),
        ("-1", "must be a number of bytes, "),
        (True, "must be a number of bytes, "),
        (1e9, "must be a number of bytes, "),
        (float("nan"), "must be a number of bytes, "),
        ("٣m", "must be a number of bytes, "),
    ],
    ids=ascii,
)
def test_space_that_is_none(value: Any, expected: str) -> None:
    assert refusal(containerkinds.SPACE, value).startswith(expected)


@pytest.mark.parametrize("value", [0, 1, -1, 2**22 + 1, True, "7", 2.0, float("nan")], ids=ascii)
def test_numbers_of_processes_that_no_container_can_have(value: Any) -> None:
    """Docker would take 0 and -1 for no limit."""
    assert refusal(containerkinds.PIDS, value) == "must be a whole number from 2 to 4194304"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["nofile=1024"], {"nofile": "1024:1024"}),
        (["nofile=1024:2048", "core=-1"], {"nofile": "1024:2048", "core": "-1:-1"}),
        (["core=0:-1"], {"core": "0:-1"}),
        (["core=1", "core=0"], {"core": "0:0"}),  # as in docker run, the last one counts
        ({"stack": 8192, "memlock": -1, "cpu": "1:2"}, {"stack": "8192:8192", "memlock": "-1:-1", "cpu": "1:2"}),
        ({}, None),
        ([], None),
    ],
    ids=str,
)
def test_ulimits(value: Any, expected: dict[str, str] | None) -> None:
    assert containerkinds.ULIMIT.parse(value) == expected
    if expected is not None:
        assert containerkinds.ULIMIT.parse(expected) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("nofile=1024", "must be a table, or a list of 'nofile=1024:2048'"),
        ([7], "must be a table, or a list of 'nofile=1024:2048'"),
        ({7: 7}, "must be a table, or a list of 'nofile=1024:2048'"),
        (["files=7"], "has 'files', which is none of core, cpu, fsize, "),
        (["=7"], "has '', which is none of core, "),
        (["-1=7"], "has '-1', which is none of core, "),
        (["NOFILE=77"], "has 'NOFILE', which is none of core, "),
        (["nproc=7"], "has 'nproc', which counts the processes of the user on the whole host; set pids_limit"),
        (["rss=7"], "has 'rss', which means nothing to Linux; set memory"),
        (["nofile"], "has nofile = None, which must be SOFT or SOFT:HARD, like '1024:2048'"),
        (["nofile="], "has nofile = '', which must be SOFT or SOFT:HARD"),
        (["nofile=-2"], "has nofile = '-2', which must be SOFT or SOFT:HARD"),
        (["nofile=1:2:3"], "has nofile = '1:2:3', which must be SOFT or SOFT:HARD"),
        (["nofile=unlimited"], "has nofile = 'unlimited', which must be SOFT or SOFT:HARD"),
        (["nofile=٣"], "has nofile = '٣', which must be SOFT or SOFT:HARD"),
        ({"nofile": True}, "has nofile = True, which must be SOFT or SOFT:HARD"),
        ({"nofile": 1e3}, "has nofile = 1000.0, which must be SOFT or SOFT:HARD"),
        ({"nofile": None}, "has nofile = None, which must be SOFT or SOFT:HARD"),
        ({"nofile": 10**400}, "has nofile = "),
        (["nofile=0"], "has nofile = '0', which must be from 64 to 9007199254740991, or -1: unlimited"),
        (["cpu=0"], "has cpu = '0', which must be from 1 to 9007199254740991, or -1: unlimited"),
        (["core=9007199254740992"], "has core = '9007199254740992', which must be from 0 to "),
        (["core=2:1"], "has core = '2:1', of which the soft limit is above the hard one"),
        (["core=-1:1"], "has core = '-1:1', of which the soft limit is above the hard one"),
    ],
    ids=ascii,
)
def test_ulimits_that_are_none(value: Any, expected: str) -> None:
    assert refusal(containerkinds.ULIMIT, value).startswith(expected)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (containerkinds.HOSTNAME, "node-1.example.org", "a_b"),
        (containerkinds.SPACE, "1.5G", "1.5 G"),
        (containerkinds.ULIMIT, "nofile=64:-1", "nproc=7"),
    ],
)
def test_the_pattern_of_a_schema_is_the_parsers(kind: kinds.Kind, good: str, bad: str) -> None:
    *_, pattern = patterns(kind.schema)
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)
    is_list = "anyOf" in kind.schema
    kind.parse([good] if is_list else good)
    refusal(kind, [bad] if is_list else bad)
