"""Bytes that people hand in: text, or a complaint that says what to do."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import textinput

UNICODE = "text, as Windows writes 'Unicode'; save it as UTF-8"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        ("größe\n".encode(), "größe\n"),
        (b"\xef\xbb\xbfa\r\nb\r\n", "a\r\nb\r\n"),
        ("a\u2028b\x85c\x0bd\x0ce\n".encode(), "a\u2028b\x85c\x0bd\x0ce\n"),
        (b"one line\r", "one line\r"),
    ],
)
def test_text(data: bytes, expected: str) -> None:
    assert textinput.text(data) == expected
    assert textinput.rows(data) == expected


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("A=é\n".encode("utf-16"), f"is UTF-16 {UNICODE}"),
        ("\ufeffA=é\n".encode("utf-16-be"), f"is UTF-16 {UNICODE}"),
        ("A=1\nB=2\n".encode("utf-16-le"), f"is UTF-16 {UNICODE}"),
        ("A=1\nB=2\n".encode("utf-16-be"), f"is UTF-16 {UNICODE}"),
        ("A=é\n".encode("utf-32"), f"is UTF-32 {UNICODE}"),
        ("a\nA=caf\xe9\n".encode("latin-1"), "is not UTF-8 text, at byte 7 in line 2; save it as UTF-8"),
        (b"PK\x03\x04xl/workbook.xml", "is a spreadsheet or another zip archive; export it as CSV in UTF-8"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "is a document of an old Office; export it as CSV in UTF-8"),
        (b"\x1f\x8b\x08", "is compressed; unpack it"),
    ],
)
def test_what_is_no_utf_8_says_what_it_is(data: bytes, complaint: str) -> None:
    for decode in (textinput.text, textinput.rows):
        with pytest.raises(ValueError, match=r"^is ") as caught:
            decode(data)
        assert str(caught.value) == complaint


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"A=1\nB=\0\n", "is not text: it has a NUL byte in line 2"),
        (b"A=1\rB=2\r", "has lines that end with CR alone, as old Macs wrote them; save it with LF"),
        (b"#" * (textinput.MAX_BYTES + 1), "is longer than 1 MiB"),
    ],
)
def test_what_is_no_text_of_lines(data: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}$"):
        textinput.text(data)
    assert textinput.rows(data) == data.decode(), "names may hold it, and lists may be long"


def test_rows_have_a_bound_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(textinput, "MAX_ROWS_BYTES", 2**20)
    with pytest.raises(ValueError, match=r"^is longer than 1 MiB$"):
        textinput.rows(bytes(2**20 + 1))


def test_short_names_between_nuls_are_no_utf_16() -> None:
    assert textinput.rows(b"a\0b\0") == "a\0b\0"


def test_lines_end_at_lf_only() -> None:
    assert textinput.lines("\ufeffa\r\nb\rc\u2028d\x85e\x0bf\x0cg\x1ch\n\r\r\n") == [
        "a",
        "b\rc\u2028d\x85e\x0bf\x0cg\x1ch",
        "\r",
        "",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "has the key 'b' twice in one table; remove one"),
        ("[NaN]", "NaN is not a number in JSON"),
        ("[-Infinity]", "-Infinity is not a number in JSON"),
        ("[" * 100_000, "is nested too deeply"),
        ("1" * 5000, "has a number that is too large"),
    ],
)
def test_json_that_is_not_usable(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=f"^{complaint}"):
        textinput.strict_json(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_complaint_in_one_line(data: bytes) -> None:
    for decode in (textinput.text, textinput.rows):
        complaint = ""
        try:
            decoded = decode(data)
        except ValueError as exc:
            complaint = str(exc)
        assert complaint.isprintable()
        assert complaint or decoded.encode() == data.removeprefix(b"\xef\xbb\xbf")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.text(),
        lambda s: st.lists(s) | st.dictionaries(st.text(), s),
    )
)
def test_json_is_read_back(value: object) -> None:
    assert textinput.strict_json(json.dumps(value)) == value
