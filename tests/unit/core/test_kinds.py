"""Single values: sizes, numbers of CPUs, times and words, each accepted form and each refusal as a row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import kinds, sizes


def refusal(kind: kinds.Kind, value: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        kind.parse(value)
    return str(caught.value)


# Sizes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", 7),
        ("7b", 7),
        ("1k", 2**10),
        ("3M", 3 * 2**20),
        ("2g", 2**31),
        ("1t", 2**40),
        (" 1k ", 2**10),
        ("1.5g", 3 * 2**29),
        ("0.5k", 512),
        ("1.0000", 1),
        ("1.9b", 1),  # Docker cuts it off too
        ("2GB", 2**31),
        ("2Gi", 2**31),
        ("2GiB", 2**31),
        ("512MB", 2**29),
        ("512mib", 2**29),
        ("1.5kB", 1536),
        ("1Tb", 2**40),
    ],
)
def test_parse_size(text: str, expected: int) -> None:
    assert sizes.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m",
        "1 m",
        "1i",
        "1bb",
        "1kbi",
        "1e",
        "1mm",
        "ib",
        "GB",
        "-1",
        "1e3",
        "0x10",
        "٣m",
        ".5g",
        "1.g",
        "1.5.5g",
        "9" * 5000,
        "1." + "9" * 5000,
    ],
)
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of bytes"):
        sizes.parse(text)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (512 * 2**20, "512m"),
        (2**31, "2g"),
        (3 * 2**29, "1536m"),
        (2**40, "1t"),
        (1024, "1k"),
        (10**7, "10000000 bytes"),
        (7, "7 bytes"),
        (0, "0 bytes"),
    ],
)
def test_shown_size(size: int, expected: str) -> None:
    assert sizes.shown(size) == expected


@given(st.integers(0, 2**50))
def test_a_shown_size_is_exact(size: int) -> None:
    assert sizes.parse(sizes.shown(size).removesuffix(" bytes")) == size


@pytest.mark.parametrize(
    ("value", "expected"),
    [("512m", 2**29), ("6m", 6 * 2**20), (6 * 2**20, 6 * 2**20), ("6291456", 6 * 2**20), ("1024T", 2**50)],
)
def test_memory(value: Any, expected: int) -> None:
    assert kinds.MEMORY.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("5m", "must be at least 6m, the least that Docker accepts"),
        (6 * 2**20 - 1, "must be at least 6m, the least that Docker accepts"),
        (0, "must be at least 6m, the least that Docker accepts"),
        (-1, "must be at least 6m, the least that Docker accepts"),
        ("1025t", "must be at most 1024t"),
        (10**30, "must be at most 1024t"),
        (True, "must be a number of bytes, or one with k, m, g or t, like '512m'"),
        (1e9, "must be a number of bytes, or one with k, m, g or t, like '512m'"),
        ("lots", "must be a number of bytes, or one with k, m, g or t, like '512m'"),
        (["8g"], "must be a number of bytes, or one with k, m, g or t, like '512m'"),
    ],
)
def test_memory_that_is_none(value: Any, expected: str) -> None:
    assert refusal(kinds.MEMORY, value) == expected


# CPUs


@pytest.mark.parametrize(
    ("value", "expected"), [(2, 2.0), (0.5, 0.5), ("1.5", 1.5), ("2", 2.0), (0.01, 0.01), (8192, 8192.0)]
)
def test_cpus(value: Any, expected: float) -> None:
    assert kinds.CPUS.parse(value) == expected


@pytest.mark.parametrize(
    "value",
    [0, -1, 0.001, 8193, 10**400, True, "", "two", "1e3", "-1", "0", "nan", float("nan"), float("inf"), [2], "٣"],
    ids=lambda value: repr(value)[:20],
)
def test_cpus_that_are_none(value: Any) -> None:
    assert refusal(kinds.CPUS, value) == "must be a number of CPUs from 0.01 to 8192, like 2 or 0.5"


# Times


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1d", 86400), ("0", 0)]
)
def test_a_flags_text_may_have_a_unit_of_time(text: str, expected: int) -> None:
    assert kinds.duration(0, 10**6).from_text(text) == expected


@pytest.mark.parametrize("text", ["", "s", "-1", "1.5h", "5M", "1h30m", "5 m", "1w", "٣", "9" * 5000])
def test_a_text_that_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be seconds, or a number with s, m, h or d, like '90' or '2h'$"):
        kinds.duration(0, 10**6).from_text(text)


def test_on_the_wire_a_time_is_a_number_of_seconds() -> None:
    assert refusal(kinds.duration(1, 60), "30s") == "must be a whole number from 1 to 60"


# Words


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/bin/sh", ("/bin/sh",)),
        ("sh -c", ("sh -c",)),  # one word, as docker run takes it
        (["sh", "-c"], ("sh", "-c")),
        ("", ()),
        ([], ()),
    ],
)
def test_entrypoint(value: Any, expected: tuple[str, ...]) -> None:
    assert kinds.ENTRYPOINT.parse(value) == expected


@pytest.mark.parametrize("value", ["a", "night run 7", "ä" * 128, "漢字"])
def test_name(value: str) -> None:
    assert kinds.NAME.parse(value) == value


@pytest.mark.parametrize("value", ["", "a" * 129, "a\nb", "a\tb", "a\x1b[31m", "\u202ea", "a\u2028b"], ids=ascii)
def test_name_that_is_none(value: str) -> None:
    assert refusal(kinds.NAME, value) == "must be 1 to 128 printable characters in one line"


@pytest.mark.parametrize("value", ["celery", "gpu.big_2", "celery@host-1.dq2", "7"])
def test_queue(value: str) -> None:
    assert kinds.QUEUE.parse(value) == value


@pytest.mark.parametrize(
    "value", ["", "a b", "a,b", "celery-docker:job:1", "_kombu.binding.x", "a\x06\x163", "a" * 129]
)
def test_queue_that_is_none(value: str) -> None:
    assert refusal(kinds.QUEUE, value).startswith("must be letters, digits, ")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["a", "b-1"], ("a", "b-1")),
        ([], ()),
    ],
)
def test_job_ids(value: Any, expected: tuple[str, ...]) -> None:
    assert kinds.JOB_IDS.parse(value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (kinds.JOB_IDS, "a", "must be a list of job ids"),
        (kinds.JOB_IDS, ["a b"], "must be letters, digits, '_', '.' or '-', at most 128 of them"),
        (kinds.JOB_IDS, [7], "must be letters, digits, '_', '.' or '-', at most 128 of them"),
        (kinds.choice("a", "b"), "c", "must be 'a' or 'b'"),
        (kinds.choice("a", "b"), ["a"], "must be 'a' or 'b'"),
        (kinds.choice("a", "b"), True, "must be 'a' or 'b'"),
        (kinds.BOOLEAN, 1, "must be true or false"),
        (kinds.BOOLEAN, "true", "must be true or false"),
        (kinds.path("in the container"), "work", "must be an absolute path in the container"),
    ],
)
def test_refusals(kind: kinds.Kind, value: Any, expected: str) -> None:
    assert refusal(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (kinds.number(0, 9), "7", 7),
        (kinds.number(0, 9), "-7", -7),
        # What is no number goes on as it is: the parser names the bounds.
        (kinds.number(0, 9), "seven", "seven"),
        (kinds.number(0, 9), "1.0", "1.0"),
        (kinds.EXIT_CODES, "3", [3]),
        (kinds.EXIT_CODES, "3, 5", [3, 5]),
        (kinds.EXIT_CODES, "3,x", [3, "x"]),
        (kinds.EXIT_CODES, "", [""]),
        (kinds.NAME, "7", "7"),
    ],
)
def test_from_text(kind: kinds.Kind, text: str, expected: Any) -> None:
    assert kind.from_text(text) == expected


def patterns(schema: object) -> Iterator[str]:
    """Return every regular expression in a schema."""
    if isinstance(schema, list):
        for part in schema:
            yield from patterns(part)
    if isinstance(schema, dict):
        for key, part in schema.items():
            yield from [part] if key == "pattern" else patterns(part)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        (kinds.IMAGE, "r.example.org:5000/lab/tool:1@sha256:" + "0" * 64, "Busy box"),
        (kinds.USER, "alice:100", "al ice"),
        (kinds.QUEUE, "celery@host.dq2", "a:b"),
        (kinds.MEMORY, "1.5G", "1.5 G"),
        (kinds.CPUS, "0.5", "1e3"),
        (kinds.SIGNAL, "SIGINT", "SIG INT"),
        (kinds.JOB_IDS, "a-1", "a/1"),
        (kinds.path("there"), "/x", "x"),
    ],
)
def test_the_pattern_of_a_schema_is_the_parsers(kind: kinds.Kind, good: str, bad: str) -> None:
    (pattern,) = patterns(kind.schema)
    assert re.search(pattern, good)
    assert not re.search(pattern, bad)
    kind.parse([good] if kind is kinds.JOB_IDS else good)
    refusal(kind, [bad] if kind is kinds.JOB_IDS else bad)
