"""Tables that fit their terminal, and values as people read them."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.cli import tables
from celery_docker.cli.tables import Align, Column
from celery_docker.core import wording
from celery_docker.core.ids import resolve_prefix
from celery_docker.core.lifecycle import State

JOBS = (
    Column("id"),
    Column("image", min_width=8, may_shrink=True),
    Column("status"),
    Column("exit", Align.RIGHT),
    Column("command", min_width=8, may_shrink=True),
)
ROWS = [
    ["1a2b3c4d", "registry.example.org:5000/lab/tool:1.2", "running", "", "sh -c 'tool --in /input > /output/x'"],
    ["5e6f7a8b", "busybox", "failed", "127", "true"],
]


def test_a_table_as_wide_as_it_is() -> None:
    assert tables.render(JOBS, ROWS, None) == [
        "ID        IMAGE                                   STATUS   EXIT  COMMAND",
        "1a2b3c4d  registry.example.org:5000/lab/tool:1.2  running        sh -c 'tool --in /input > /output/x'",
        "5e6f7a8b  busybox                                 failed    127  true",
    ]


def test_a_table_in_sixty_columns() -> None:
    assert tables.render(JOBS, ROWS, 60) == [
        "ID        IMAGE             STATUS   EXIT  COMMAND",
        "1a2b3c4d  registry.exampl…  running        sh -c 'tool --in…",
        "5e6f7a8b  busybox           failed    127  true",
    ]


def test_a_column_that_may_not_shrink_is_shown_whole() -> None:
    assert tables.render(JOBS, ROWS, 20)[1] == "1a2b3c4d  registr…  running        sh -c '…"


def test_a_table_without_rows_has_its_header() -> None:
    assert tables.render(JOBS, [], 60) == ["ID  IMAGE  STATUS  EXIT  COMMAND"]


@pytest.mark.parametrize("width", [None, 60])
def test_wide_characters_and_marks_are_counted_as_they_are_shown(width: int | None) -> None:
    columns = (Column("name"), Column("n", Align.RIGHT))
    cells = [["漢字", "1"], ["cafe\u0301", "22"], [unicodedata.normalize("NFD", "한글"), "3"], ["A\u20dd", "4"]]
    assert [len(line) for line in tables.render(columns, cells, width)] == [8, 6, 9, 10, 9]


def test_colours_only_when_asked_and_outside_of_the_alignment() -> None:
    columns, cells = (Column("status"), Column("n")), [["failed", "1"], ["running", "2"], ["queued", "failed?"]]
    assert tables.render(columns, cells, 60, colour=True) == [
        "STATUS   N",
        "\x1b[31mfailed\x1b[0m   1",
        "\x1b[34mrunning\x1b[0m  2",
        "queued   failed?",
    ]
    assert "\x1b" not in "".join(tables.render(columns, cells, 60))


def test_every_final_state_has_a_colour() -> None:
    assert all(tables.paint(state) != state for state in State if state.is_final)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain é 漢 😀", "plain é 漢 😀"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\x9b2J", "\\x9b2J"),
        ("user\u202etxt.exe", "user\\u202etxt.exe"),
        ("\u200b\u2028\ufeff", "\\u200b\\u2028\\ufeff"),
        ("\udcff", "\\udcff"),
    ],
)
def test_nothing_reaches_the_terminal_that_it_would_obey(text: str, expected: str) -> None:
    assert wording.harmless(text) == expected
    assert tables.render((Column("x"),), [[text]], None)[1] == expected


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("abcdef", -1, ""),
        ("", 0, ""),
        ("漢字漢字", 8, "漢字漢字"),
        ("漢字漢字", 7, "漢字漢…"),
        ("漢字漢字", 6, "漢字…"),
        ("漢", 1, "…"),
        ("e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_truncate(text: str, width: int, expected: str) -> None:
    assert tables.truncate(text, width) == expected


ANY_TEXT = st.text(st.characters() | st.sampled_from("漢字한e\u0301\u200d😀\x1b\t "))


@given(ANY_TEXT, st.integers(0, 30))
def test_a_cut_text_is_never_too_wide(text: str, width: int) -> None:
    text = wording.harmless(text)
    cut = tables.truncate(text, width)
    assert tables.display_width(cut) <= width
    assert cut == text or text.startswith(cut.removesuffix("…"))


@given(st.lists(st.lists(ANY_TEXT, min_size=3, max_size=3), max_size=4), st.integers(13, 80))
def test_a_table_that_may_shrink_fits(cells: list[list[str]], width: int) -> None:
    columns = [
        Column("a", min_width=3, may_shrink=True),
        Column("bb", Align.RIGHT, 3, True),
        Column("c", may_shrink=True),
    ]
    plain = tables.render(columns, cells, width)
    assert all(tables.display_width(line) <= width and line == line.rstrip() for line in plain)
    assert all(line.isprintable() for line in plain)
    coloured = tables.render(columns, cells, width, colour=True)
    assert [re.sub(r"\x1b\[[0-9]*m", "", line) for line in coloured] == plain


# Values


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (-3, "0s"),
        (0, "0s"),
        (0.04, "0s"),
        (0.5, "0.5s"),
        (4, "4s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m"),
        (184, "3m 4s"),
        (3599.7, "1h"),
        (3600 + 59, "1h"),
        (3600 + 61, "1h 1m"),
        (86400 + 7200 + 5, "1d 2h"),
        (400 * 86400, "400d"),
    ],
)
def test_duration(seconds: float | None, expected: str) -> None:
    assert wording.duration(seconds) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "-"),
        (-5, "now"),
        (0.9, "now"),
        (1, "1s ago"),
        (59.9, "59s ago"),
        (3599, "59m ago"),
        (7300, "2h ago"),
        (86400 * 30, "30d ago"),
    ],
)
def test_ago(seconds: float | None, expected: str) -> None:
    assert wording.ago(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (512 * 2**20, "512 MiB"),
        (2**20 - 1, "1 MiB"),
        (2**20 - 2**10, "1023 KiB"),
        (int(1.5 * 2**30), "1.5 GiB"),
        (2**40, "1 TiB"),
        (3 * 2**60, "3072 PiB"),
    ],
)
def test_size(count: int | None, expected: str) -> None:
    assert wording.size(count) == expected


# Ids

A = "1a2b3c4d-0000-4000-8000-000000000001"
B = "1a2b9999-0000-4000-8000-000000000002"


@pytest.mark.parametrize(
    ("job_id", "expected"),
    [
        (A, "1a2b3c4d"),
        ("nightly-backup", "nightly-backup"),
        ("abcdef0123456789", "abcdef0123456789"),
        (A + "x", A + "x"),
    ],
)
def test_short_id(job_id: str, expected: str) -> None:
    assert wording.short_id(job_id) == expected


@pytest.mark.parametrize(
    ("prefix", "expected"), [(A, A), ("1a2b3", A), ("1a2b9", B), ("job", "job"), ("job-", "job-2"), ("job-2", "job-2")]
)
def test_resolve_prefix(prefix: str, expected: str) -> None:
    assert resolve_prefix(prefix, [A, B, "job-2", "job", "job"]) == expected


@pytest.mark.parametrize("prefix", ["", "x", A + "0", "1A2B3", "2b3c"])
def test_no_such_job(prefix: str) -> None:
    with pytest.raises(errors.NoSuchJob, match="celery-docker ps --all") as caught:
        resolve_prefix(prefix, [A])
    assert repr(prefix) in str(caught.value)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([B, A], f"'1a2b' is the beginning of 2 ids ({A}, {B}); type more of it"),
        (
            ["1a2b4", "1a2b3", "1a2b2", "1a2b1"],
            "'1a2b' is the beginning of 4 ids (1a2b1, 1a2b2, 1a2b3, ...); type more of it",
        ),
    ],
)
def test_ambiguous_id(ids: list[str], expected: str) -> None:
    with pytest.raises(errors.AmbiguousId) as caught:
        resolve_prefix("1a2b", ids)
    assert str(caught.value) == expected
