"""The sources of a batch: paths, arrays and manifests, and what is said about those with mistakes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import batchinputs
from celery_docker.core.batchinputs import Source

CSV, JSONL = batchinputs.from_csv, batchinputs.from_jsonl


def refusal(parse: Callable[[str], Any], text: str) -> str:
    with pytest.raises(errors.BatchError) as caught:
        parse(text)
    return str(caught.value)


# Paths


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # {}, {/}, {.}, {/.}, {//}
        ("/data/a.csv", ("/data/a.csv", "a.csv", "/data/a", "a", "/data")),
        ("/data/a.tar.gz", ("/data/a.tar.gz", "a.tar.gz", "/data/a.tar", "a.tar", "/data")),
        ("/data.d/raw", ("/data.d/raw", "raw", "/data.d/raw", "raw", "/data.d")),
        ("/home/x/.profile", ("/home/x/.profile", ".profile", "/home/x/.profile", ".profile", "/home/x")),
        (".profile", (".profile", ".profile", ".profile", ".profile", ".")),
        ("/data/run.1/", ("/data/run.1/", "run.1", "/data/run", "run", "/data")),
        ("/top.txt", ("/top.txt", "top.txt", "/top", "top", "/")),
        ("a.csv", ("a.csv", "a.csv", "a", "a", ".")),
        ("/data/ends.", ("/data/ends.", "ends.", "/data/ends.", "ends.", "/data")),
        ("/data/two words.csv", ("/data/two words.csv", "two words.csv", "/data/two words", "two words", "/data")),
        ("/", ("/", "/", "/", "/", "/")),
    ],
)
def test_the_parts_of_a_path(path: str, expected: tuple[str, ...]) -> None:
    (row,) = batchinputs.from_paths([path])
    assert tuple(row.fields[name] for name in ("", "/", ".", "/.", "//")) == expected


def test_paths_are_counted_from_one() -> None:
    assert [(row.index, row.fields["#"], row.place) for row in batchinputs.from_paths(["/a", "/b"])] == [
        (1, "1", "input 1"),
        (2, "2", "input 2"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("/a\n/b\n", [(1, "/a", 1), (2, "/b", 2)], id="one a line"),
        pytest.param("/a\n\n \n/b", [(1, "/a", 1), (2, "/b", 4)], id="blank lines are no paths but lines"),
        pytest.param("\ufeff/a\r\n/b\r\n", [(1, "/a", 1), (2, "/b", 2)], id="written on Windows"),
        pytest.param(" /a \n", [(1, " /a ", 1)], id="blanks belong to the name"),
        pytest.param("/a\0/b\nc\r\0", [(1, "/a", None), (2, "/b\nc\r", None)], id="between NULs all is name"),
        pytest.param("", [], id="nothing"),
        pytest.param(
            "/a\u2028b\n/\x85\n/\x0b\x0c\n", [(1, "/a\u2028b", 1), (2, "/\x85", 2), (3, "/\x0b\x0c", 3)], id="LF"
        ),
        pytest.param("/a\rb\r\r\n", [(1, "/a\rb\r", 1)], id="a CR inside a name is one"),
        pytest.param(
            "/a\r\n\0 \0", [(1, "/a\r\n", None), (2, " ", None)], id="nothing is translated or stripped between NULs"
        ),
    ],
)
def test_a_list_of_paths(text: str, expected: list[tuple[int, str, int | None]]) -> None:
    assert [(row.index, row.fields[""], row.line) for row in batchinputs.from_path_list(text)] == expected


# Arrays


@pytest.mark.parametrize(
    ("text", "numbers", "limit"),
    [
        ("7", [7], None),
        ("0-3", [0, 1, 2, 3], None),
        ("1-9:4", [1, 5, 9], None),
        ("1-10:4", [1, 5, 9], None),
        ("1,5,9-12", [1, 5, 9, 10, 11, 12], None),
        ("9-12,1", [1, 9, 10, 11, 12], None),
        ("1-3,2-4", [1, 2, 3, 4], None),
        ("007", [7], None),
        ("1-100:50%8", [1, 51], 8),
        ("3-3%1", [3], 1),
    ],
)
def test_arrays(text: str, numbers: list[int], limit: int | None) -> None:
    rows, found_limit = batchinputs.from_array(text)
    assert [row.index for row in rows] == numbers
    assert [row.fields for row in rows] == [{"": str(number), "#": str(number)} for number in numbers]
    assert found_limit == limit


def test_an_array_has_at_most_a_million_numbers() -> None:
    rows, _ = batchinputs.from_array("0-999999")
    assert len(rows) == batchinputs.MAX_ROWS
    assert "at most 1,000,000 jobs" in refusal(batchinputs.from_array, "0-1000000")
    assert "at most 1,000,000 jobs" in refusal(batchinputs.from_array, "0-999999999")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must be numbers and ranges like '1-100'"),
        ("a", "must be numbers and ranges"),
        ("1-", "must be numbers and ranges"),
        ("-1", "must be numbers and ranges"),
        ("1,,2", "must be numbers and ranges"),
        ("1, 2", "must be numbers and ranges"),
        ("5:2", "must be numbers and ranges"),
        ("1-5%", "must be numbers and ranges"),
        ("1-5%2%3", "must be numbers and ranges"),
        ("1-5\n", "must be numbers and ranges"),
        ("\u0661-\u0663", "must be numbers and ranges"),
        ("1" * 10, "must be numbers and ranges"),
        ("9-5", "counts down; write 5-9"),
        ("1-5:0", "has step 0"),
        ("1-5%0", "allows none at once"),
    ],
)
def test_refused_arrays(text: str, words: str) -> None:
    message = refusal(batchinputs.from_array, text)
    assert repr(text) in message
    assert words in message
    assert len(message.splitlines()) == 1


# CSV


def test_csv_columns_become_fields() -> None:
    first, second = batchinputs.from_csv("sample,lane\nS1,1\nS2,2\n")
    assert first.fields == {"sample": "S1", "lane": "1", "#": "1"}
    assert second.fields == {"sample": "S2", "lane": "2", "#": "2"}
    assert (first.line, second.line, second.index, second.source) == (2, 3, 2, Source.MANIFEST)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("\ufeffa,b\r\n1,2\r\n", [(2, "1", "2")], id="BOM and CRLF"),
        pytest.param("a,b\r1,2\r3,4", [(2, "1", "2"), (3, "3", "4")], id="CR alone"),
        pytest.param("a,b\n1,2", [(2, "1", "2")], id="no newline at the end"),
        pytest.param('a,b\n"x\ny",2\n3,4\n', [(2, "x\ny", "2"), (4, "3", "4")], id="a cell of two lines"),
        pytest.param('a,b\n"x\r\n\r\ny",2\r\n3,4', [(2, "x\r\n\r\ny", "2"), (5, "3", "4")], id="and of three"),
        pytest.param('a,b\n"say ""hi""","1,2"\n', [(2, 'say "hi"', "1,2")], id="quotes and commas"),
        pytest.param("a,b\n\n1,2\n\n\n3,4\n", [(3, "1", "2"), (6, "3", "4")], id="blank lines"),
        pytest.param("\n a , b\n x , y \n", [(3, " x ", " y ")], id="blanks in names are none, in cells they are"),
        pytest.param('a,b\n"",\n', [(2, "", "")], id="empty cells"),
        pytest.param("a,b\n,\n1,2\n,,,\n , \r\n", [(3, "1", "2")], id="rows of commas, as a spreadsheet adds them"),
        pytest.param(',\na,b\n"\n,\n",2\n', [(3, "\n,\n", "2")], id="commas inside a cell, and above the header"),
        pytest.param("a,b\nx\x85y,z\x0c\n3,4", [(2, "x\x85y", "z\x0c"), (3, "3", "4")], id="nor are these"),
        pytest.param("a,b\nx\u2028y,\x0bz\n3,4", [(2, "x\u2028y", "\x0bz"), (3, "3", "4")], id="no newlines"),
        pytest.param("a,b\n", [], id="no rows"),
    ],
)
def test_csv_forms(text: str, expected: list[tuple[int, str, str]]) -> None:
    assert [(row.line, row.fields["a"], row.fields["b"]) for row in batchinputs.from_csv(text)] == expected


@pytest.mark.parametrize(
    ("read", "text", "words"),
    [
        pytest.param(CSV, "", "line 1: is missing; the first line must name the columns", id="empty"),
        pytest.param(CSV, "\n\n", "line 1: is missing", id="blank"),
        pytest.param(CSV, "a,,c\n1,2,3", "line 1, column 2: has no name", id="no name"),
        pytest.param(CSV, "\na, \n1,2", "line 2, column 2: has no name", id="blank name"),
        pytest.param(CSV, "a,b,a\n1,2,3", "line 1, column 3: 'a' is the name of column 1 too", id="double name"),
        pytest.param(CSV, "a,b\n1,2\n3\n", "line 3, column b: is missing; the line has 1 of 2 cells", id="too few"),
        pytest.param(CSV, "a,b\n1,2,3\n", "line 2, column 3: '3' is a cell too many", id="too many"),
        pytest.param(CSV, 'a,b\n"x\ny",2\n3\n', "line 4, column b: is missing", id="after a cell of two lines"),
        pytest.param(CSV, 'a,b\n1,2\n"3,4\n5,6\n', "line 3: unexpected end of data", id="quote never closed"),
        pytest.param(CSV, 'a,b\n1,2\n"3"x,4\n', "line 3: ',' expected after '\"'", id="text after a quote"),
        pytest.param(CSV, "a\n" + "x" * 200_000, "line 2: field larger than field limit", id="a huge cell"),
        pytest.param(CSV, "a;b\n1;2\n", "line 1: has ';' and no comma; export the table with commas", id="semicolons"),
        pytest.param(CSV, "a\tb\n1\t2\n", "line 1: has TAB and no comma; export the table with commas", id="TABs"),
        pytest.param(CSV, "sep=;\na;b\n", "line 1: 'sep=;' is for a spreadsheet; remove it", id="Excel's own line"),
        pytest.param(CSV, "sep=,\na,b\n", "line 1: 'sep=' is for a spreadsheet; remove it", id="the same with a comma"),
        pytest.param(CSV, "a,b\n1,2\nx\0,3\n", "line 3: has a NUL byte", id="no text"),
        pytest.param(CSV, "a,\x1b[31m\n1,2\n", "line 1, column 2: '\\x1b[31m' is no name for a column", id="escapes"),
        pytest.param(CSV, "a," + "b" * 129 + "\n1,2\n", "is no name for a column", id="a long name"),
        pytest.param(
            CSV, ",".join(f"c{n}" for n in range(10_001)), "has 10,001 columns; 10,000 are the most", id="columns"
        ),
        pytest.param(JSONL, '{"a": 1}\n{"a": }', "line 2, column 7: Expecting value", id="JSON: syntax"),
        pytest.param(JSONL, '  {"a": 1} x', "line 1, column 12: Extra data", id="JSON: two values"),
        pytest.param(
            JSONL, "[1]", 'line 1: must be a JSON object like {"sample": "a"}, not \'[1]\'', id="JSON: a list"
        ),
        pytest.param(JSONL, '{"a": 1, "a": 2}', "line 1: has the key 'a' twice", id="JSON: double key"),
        pytest.param(JSONL, '{"": 1}', "line 1: has a key without a name", id="JSON: no name"),
        pytest.param(JSONL, '{"a": NaN}', "line 1: NaN is not a number", id="JSON: no number"),
        pytest.param(JSONL, "[" * 100_000, "line 1: ", id="JSON: too deep"),
        pytest.param(JSONL, '{"a": 1}\n{\n}', "line 2, column 2: ", id="JSON: an object of two lines"),
    ],
)
def test_a_refused_manifest(read: Callable[[str], Any], text: str, words: str) -> None:
    assert words in refusal(read, text)


def test_all_mistakes_of_a_csv_are_told() -> None:
    message = refusal(batchinputs.from_csv, "a,b\n" + "1\n" * 14)
    assert message.splitlines()[0] == "line 2, column b: is missing; the line has 1 of 2 cells"
    assert message.splitlines()[9:] == [
        "line 11, column b: is missing; the line has 1 of 2 cells",
        "and 4 more like these",
    ]


@given(
    st.lists(
        st.lists(
            st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), min_size=3, max_size=3
        ),
        max_size=5,
    )
)
def test_what_csv_writes_is_read_back(cells: list[list[str]]) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows([["a", "b", "c"], *cells])
    assert [[row.fields[name] for name in "abc"] for row in batchinputs.from_csv(written.getvalue())] == cells


@pytest.mark.parametrize(
    ("column", "cell", "expected"),
    [
        ("timeout", "90", 90),
        ("timeout", "2h", 7200),
        ("after", "0f3a", ["0f3a"]),
        ("queue", "night", "night"),
        ("timeout", "soon", "soon"),
        ("retry_on", '"[3, 5]"', [3, 5]),
        ("user", "1000", "1000"),
        ("inputpath", "/in", "/in"),
        ("inputpath", "123", "123"),
        ("command", "\"echo 'a b' c\"", "echo 'a b' c"),
    ],
)
def test_a_csv_cell_for_an_argument_has_the_type_of_the_argument(column: str, cell: str, expected: object) -> None:
    (row,) = batchinputs.from_csv(f"sample,job.{column}\nS1,{cell}\n")
    assert row.overrides == {column: expected}


def test_an_empty_cell_says_nothing_about_an_argument() -> None:
    (row,) = batchinputs.from_csv("sample,job.timeout,job.user\nS1,, \n")
    assert row.overrides == {}
    assert row.fields["job.timeout"] == ""


def test_an_inputpath_column_is_the_input() -> None:
    (row,) = batchinputs.from_csv("job.inputpath,x\n/data/a.csv,1\n")
    assert (row.fields[""], row.fields["/."], row.fields["x"], row.fields["#"]) == ("/data/a.csv", "a", "1", "1")


# JSON lines


def test_jsonl_objects_become_rows() -> None:
    first, second = batchinputs.from_jsonl(
        '\ufeff{"s": "a", "n": 1, "job.timeout": 9}\r\n\n{"s": "\\u2028", "f": [1.5, true]}'
    )
    assert first.fields == {"s": "a", "n": "1", "job.timeout": "9", "#": "1"}
    assert first.overrides == {"timeout": 9}
    assert (first.line, second.line, second.index) == (1, 3, 2)
    assert second.fields == {"s": "\u2028", "f": "[1.5, true]", "#": "2"}


def test_null_means_not_there() -> None:
    (row,) = batchinputs.from_jsonl('{"s": null, "job.timeout": null, "x": 1}')
    assert (row.fields, row.overrides) == ({"x": "1", "#": "1"}, {})


def test_all_mistakes_of_a_jsonl_are_told() -> None:
    assert len(refusal(batchinputs.from_jsonl, "{\n[]\n{}\n1\n").splitlines()) == 3


@given(st.lists(st.dictionaries(st.text('#/{}aé"', min_size=1, max_size=128), st.text()), max_size=5))
def test_what_json_writes_is_read_back(objects: list[dict[str, str]]) -> None:
    rows = batchinputs.from_jsonl("".join(json.dumps(fields) + "\n" for fields in objects))
    assert [row.fields for row in rows] == [{**fields, "#": str(index)} for index, fields in enumerate(objects, 1)]
