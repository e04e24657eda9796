"""Values that only a container has, each accepted form and each refusal as a row."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import containerkinds, kinds, limitkinds, privilegekinds, tmpfskinds
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
    assert limitkinds.SPACE.parse(value) == expected


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
    assert refusal(limitkinds.SPACE, value).startswith(expected)


@pytest.mark.parametrize("value", [0, 1, -1, 2**22 + 1, True, "7", 2.0, float("nan")], ids=ascii)
def test_numbers_of_processes_that_no_container_can_have(value: Any) -> None:
    """Docker would take 0 and -1 for no limit."""
    assert refusal(limitkinds.PIDS, value) == "must be a whole number from 2 to 4194304"


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
    assert limitkinds.ULIMIT.parse(value) == expected
    if expected is not None:
        assert limitkinds.ULIMIT.parse(expected) == expected


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
    assert refusal(limitkinds.ULIMIT, value).startswith(expected)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (privilegekinds.CAPABILITY, ["NET_RAW", "cap_chown", "all"], ("NET_RAW", "CHOWN", "ALL")),
        (privilegekinds.CAPABILITY, [], None),
        (privilegekinds.ADDED_CAPABILITY, ["CAP_NET_ADMIN", "chown"], ("NET_ADMIN", "CHOWN")),
        (privilegekinds.ADDED_CAPABILITY, [], None),
        (containerkinds.HOST, ["a:1.2.3.4", "a:::1"], ("a:1.2.3.4", "a:::1")),
        (containerkinds.HOST, {"db_1.x": "1.2.3.4"}, ("db_1.x:1.2.3.4",)),
        (containerkinds.HOST, {}, None),
        (containerkinds.ADDRESS, ["10.0.0.53", "fe80::1"], ("10.0.0.53", "fe80::1")),
        (containerkinds.ADDRESS, [], None),
        (tmpfskinds.TMPFS, ["/scratch", "/a/b/:size=1g,exec"], {"/scratch": "", "/a/b": f"size={2**30},exec"}),
        (tmpfskinds.TMPFS, {"/a": None, "/b": "", "/c": "mode=1777"}, {"/a": "", "/b": "", "/c": "mode=1777"}),
        (tmpfskinds.TMPFS, ["/a:ro", "/a:uid=7,gid=8"], {"/a": "uid=7,gid=8"}),  # as in docker run
        (tmpfskinds.TMPFS, {"/device": "nosuid,nodev,rw,noexec"}, {"/device": "nosuid,nodev,rw,noexec"}),
        (tmpfskinds.TMPFS, [], None),
        (containerkinds.PLATFORM, "linux/arm/v7", "linux/arm/v7"),
        (privilegekinds.GROUP, ["video", 44, "44", "www-data", 0], ("video", "44", "44", "www-data", "0")),
        (privilegekinds.GROUP, [], None),
    ],
    ids=str,
)
def test_what_is_accepted_and_stored(kind: kinds.Kind, value: Any, expected: Any) -> None:
    assert kind.parse(value) == expected
    if expected is not None:
        assert kind.parse(expected) == expected


NO_FOLDER = "which must lie outside of /proc, /sys, /dev, /input, /output, /celery-docker"


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (privilegekinds.CAPABILITY, "ALL", "must be a list like ['NET_RAW']"),
        (privilegekinds.CAPABILITY, [7], "must be a list like ['NET_RAW']"),
        (privilegekinds.CAPABILITY, [""], "has '', which is no capability; one is like 'NET_RAW'"),
        (privilegekinds.CAPABILITY, ["CAP_CAP_CHOWN"], "has 'CAP_CAP_CHOWN', which is no capability"),
        (privilegekinds.CAPABILITY, ["BPF"], "has 'BPF', which is no capability"),
        (privilegekinds.CAPABILITY, ["\u017fYSLOG"], "has '\u017fYSLOG', which is no capability"),
        (privilegekinds.CAPABILITY, ["-x"], "has '-x', which is no capability"),
        *(
            (
                privilegekinds.ADDED_CAPABILITY,
                [name],
                f"has {name!r}, which no host gives to a job; it can have AUDIT_WRITE",
            )
            for name in (
                "ALL",
                "SYS_ADMIN",
                "SYS_MODULE",
                "SYS_RAWIO",
                "DAC_READ_SEARCH",
                "SYS_BOOT",
                "MAC_ADMIN",
                "SYSLOG",
            )
        ),
        (containerkinds.HOST, "a:1.2.3.4", "must be a table, or a list of 'db.example.org:10.0.0.7'"),
        (containerkinds.HOST, ["a"], "has a at None, which must be an IP address"),
        (containerkinds.HOST, ["a:"], "has a at '', which must be an IP address"),
        (containerkinds.HOST, ["a:1.2.3"], "has a at '1.2.3', which must be an IP address"),
        (containerkinds.HOST, ["a:host-gateway"], "has a at 'host-gateway', which must be an IP address"),
        (containerkinds.HOST, ["a:010.0.0.1"], "has a at '010.0.0.1', which must be an IP address"),
        (containerkinds.HOST, ["a:fe80::1%eth0"], "has a at 'fe80::1%eth0', which must be an IP address"),
        (containerkinds.HOST, ["a:1.2.3.4\n1.1.1.1 b"], "has a at "),
        (containerkinds.HOST, {"a": 16909060}, "has a at 16909060, which must be an IP address"),
        (containerkinds.HOST, [":1.2.3.4"], "has '', which is no host name"),
        (containerkinds.HOST, ["-a:1.2.3.4"], "has '-a', which is no host name"),
        (containerkinds.HOST, ["a b:1.2.3.4"], "has 'a b', which is no host name"),
        (containerkinds.HOST, ["a\n:1.2.3.4"], "has 'a\\n', which is no host name"),
        (containerkinds.HOST, {"ä": "1.2.3.4"}, "has 'ä', which is no host name"),
        (containerkinds.HOST, {"a" * 254: "1.2.3.4"}, "has 'aaa"),
        (containerkinds.ADDRESS, "1.2.3.4", "must be a list like ['10.0.0.53']"),
        (containerkinds.ADDRESS, [""], "has '', which must be an IP address"),
        (containerkinds.ADDRESS, ["ns.example.org"], "has 'ns.example.org', which must be an IP address"),
        (containerkinds.ADDRESS, ["1.2.3.٤"], "has '1.2.3.٤', which must be an IP address"),
        (tmpfskinds.TMPFS, "/a", "must be a table, or a list of '/scratch:size=1g'"),
        (tmpfskinds.TMPFS, [""], "has '', which must be an absolute path in the container"),
        (tmpfskinds.TMPFS, ["a"], "has 'a', which must be an absolute path in the container"),
        (tmpfskinds.TMPFS, ["/"], f"has '/', {NO_FOLDER}"),
        (tmpfskinds.TMPFS, ["/proc/x"], f"has '/proc/x', {NO_FOLDER}"),
        (tmpfskinds.TMPFS, ["/output"], f"has '/output', {NO_FOLDER}"),
        (tmpfskinds.TMPFS, ["/input/a/b"], f"has '/input/a/b', {NO_FOLDER}"),
        (tmpfskinds.TMPFS, ["/dev/shm"], f"has '/dev/shm', {NO_FOLDER}; shm_size is the size of /dev/shm"),
        (
            tmpfskinds.TMPFS,
            ["/x/../output"],
            "has '/x/../output', which must be written without '..', '.' and '//'",
        ),
        (tmpfskinds.TMPFS, ["//output"], "has '//output', which must be written without '..', '.' and '//'"),
        (tmpfskinds.TMPFS, ["/a//b"], "has '/a//b', which must be written without '..', '.' and '//'"),
        (tmpfskinds.TMPFS, ["/a/./b"], "has '/a/./b', which must be written without '..', '.' and '//'"),
        (tmpfskinds.TMPFS, {"/a": 7}, "has '/a' with 7, which must be a string of options"),
        (tmpfskinds.TMPFS, ["/a:size=0"], "has '/a' with 'size=0': size must be at least 4k"),
        (tmpfskinds.TMPFS, ["/a:size=9000t"], "has '/a' with 'size=9000t': size must be at most 1024t"),
        (
            tmpfskinds.TMPFS,
            ["/a:size=50%"],
            "has '/a' with 'size=50%': size must be a number of bytes, or one with k, ",
        ),
        (tmpfskinds.TMPFS, ["/a:size"], "has '/a' with 'size', which is none of "),
        (tmpfskinds.TMPFS, ["/a:exec=1"], "has '/a' with 'exec=1', which is none of "),
        (
            tmpfskinds.TMPFS,
            ["/a:mode=888"],
            "has '/a' with 'mode=888': mode must be three or four digits from 0 to 7, like",
        ),
        (tmpfskinds.TMPFS, ["/a:uid=2147483648"], "has '/a' with 'uid=2147483648': uid must be a number from 0 to 2"),
        (tmpfskinds.TMPFS, ["/a:uid=-1"], "has '/a' with 'uid=-1': uid must be a number from 0 to 2147483647"),
        (tmpfskinds.TMPFS, ["/a:suid"], "has '/a' with 'suid', which is none of "),
        (tmpfskinds.TMPFS, ["/a:dev"], "has '/a' with 'dev', which is none of "),
        (tmpfskinds.TMPFS, ["/a:shared"], "has '/a' with 'shared', which is none of "),
        (tmpfskinds.TMPFS, ["/a:remount,rw"], "has '/a' with 'remount', which is none of "),
        (tmpfskinds.TMPFS, ["/a:,"], "has '/a' with '', which is none of "),
        (
            tmpfskinds.TMPFS,
            ["/a:size=1m,size=2m"],
            "has '/a' with 'size=1m,size=2m', which says twice what 'size' says",
        ),
        (tmpfskinds.TMPFS, ["/a:rw,ro"], "has '/a' with 'rw,ro', which says twice what 'ro' says"),
        (tmpfskinds.TMPFS, {"/a:b": ""}, "has '/a:b', which must have no ':' and at most 1,024 bytes"),
        (tmpfskinds.TMPFS, ["/" + "a/" * 513], "has '/a/a/"),
        (tmpfskinds.TMPFS, ["/" + "ä" * 128], "has '/ää"),
        (tmpfskinds.TMPFS, [f"/{number}" for number in range(65)], "has 65 entries; 64 are the most"),
        (containerkinds.HOST, {f"h{number}": "::1" for number in range(1000)}, "has 1,000 entries; 64 are the most"),
        (containerkinds.ADDRESS, ["::1"] * 65, "has 65 entries; 64 are the most"),
        (privilegekinds.GROUP, list(range(65)), "has 65 entries; 64 are the most"),
        (privilegekinds.CAPABILITY, ["CHOWN"] * 65, "has 65 entries; 64 are the most"),
        (containerkinds.PLATFORM, "", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, "amd64", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, "windows/amd64", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, "linux/AMD64", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, "linux/amd64\n", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, "linux/amd64/v2/x", "must be like 'linux/amd64'"),
        (containerkinds.PLATFORM, ["linux/amd64"], "must be a string, not list"),
        (privilegekinds.GROUP, "video", "must be a list of groups, like ['video', 44]"),
        (privilegekinds.GROUP, [""], "has '', which must be a group's name or a gid"),
        (privilegekinds.GROUP, [-1], "has -1, which must be a group's name or a gid"),
        (privilegekinds.GROUP, [2**31], "has 2147483648, which must be a group's name or a gid"),
        (privilegekinds.GROUP, ["9" * 5000], "has '999"),
        (privilegekinds.GROUP, [True], "has True, which must be a group's name or a gid"),
        (privilegekinds.GROUP, ["-x"], "has '-x', which must be a group's name or a gid"),
        (privilegekinds.GROUP, ["a:b"], "has 'a:b', which must be a group's name or a gid"),
        (privilegekinds.GROUP, ["٣"], "has '٣', which must be a group's name or a gid"),
        (privilegekinds.GROUP, [None], "has None, which must be a group's name or a gid"),
    ],
    ids=ascii,
)
def test_what_is_refused(kind: kinds.Kind, value: Any, expected: str) -> None:
    assert refusal(kind, value).startswith(expected)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (containerkinds.HOSTNAME, "node-1.example.org", "a_b"),
        (limitkinds.SPACE, "1.5G", "1.5 G"),
        (limitkinds.ULIMIT, "nofile=64:-1", "nproc=7"),
        (privilegekinds.CAPABILITY, "NET_RAW", "NET RAW"),
        (containerkinds.HOST, "a:::1", "a b:::1"),
        (containerkinds.ADDRESS, "::1", "x"),
        (tmpfskinds.TMPFS, "/a:size=1g,exec", "a:size=1g"),
        (containerkinds.PLATFORM, "linux/arm/v7", "arm"),
        (privilegekinds.GROUP, "www-data", "-x"),
    ],
)
def test_the_pattern_of_a_schema_is_the_parsers(kind: kinds.Kind, good: str, bad: str) -> None:
    *_, pattern = patterns(kind.schema)
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)
    is_list = "anyOf" in kind.schema or kind.schema["type"] == "array"
    kind.parse([good] if is_list else good)
    refusal(kind, [bad] if is_list else bad)
