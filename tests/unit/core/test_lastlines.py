"""The last line of a job, for lists: of the end of a receipt, or of the latest entries of its live log."""

from __future__ import annotations

import json
from typing import Any

import pytest

from celery_docker.core import lastlines
from celery_docker.core.container import Stream
from celery_docker.core.lastlines import LastLine
from celery_docker.core.receipt import Receipt

OUT, ERR = Stream.STDOUT, Stream.STDERR


def end(most: int = 4096, **values: Any) -> str:
    """Return the end of a receipt as Redis has it."""
    return json.dumps(Receipt("j1", **values).to_dict(), separators=(",", ":"))[-most:]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"output": "a\nb\n", "last_stderr_line": "bad"}, LastLine("bad", ERR)),
        ({"output": "a\nb\n\n"}, LastLine("b", None)),
        ({"output": 'say "x" \\ \\'}, LastLine('say "x" \\ \\', None)),
        ({"output": '"last_stderr_line":"forged"', "last_stderr_line": "true"}, LastLine("true", ERR)),
        ({"output": '"last_stderr_line":"forged"'}, LastLine('"last_stderr_line":"forged"', None)),
        ({"output": ',"output_truncated":'}, LastLine(',"output_truncated":', None)),
        ({"output": ""}, None),
        ({"output": "\n \n"}, None),
        (
            {"last_stderr_line": "\x1b[31mred\u202e<img src=x onerror=alert(1)>"},
            LastLine("\\x1b[31mred\\u202e<img src=x onerror=alert(1)>", ERR),
        ),
        ({"last_stderr_line": "x" * 200}, LastLine("x" * 117 + "...", ERR)),
        ({"last_stderr_line": "\U0001f600" * 200}, LastLine("\U0001f600" * 117 + "...", ERR)),
    ],
)
def test_of_a_receipt(values: dict[str, Any], expected: LastLine | None) -> None:
    assert lastlines.of_receipt(end(**values)) == expected


@pytest.mark.parametrize("most", range(40, 80))
def test_of_a_receipt_whose_beginning_is_cut_anywhere(most: int) -> None:
    line = lastlines.of_receipt(end(most, output="\U0001f600" * 50 + "\\" * 9 + "end"))
    assert line is None or line.text.endswith("end") or line.text in "end"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "null",
        '"last_stderr_line":',
        '"last_stderr_line":"',
        ',"output_truncated":',
        "\x00" * 4096,
        "{" * 4096,
    ],
)
def test_of_what_is_no_receipt(text: str) -> None:
    assert lastlines.of_receipt(text) is None


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([], None),
        ([(1, b"")], None),
        ([(1, b"\n\n"), (2, b"warn\n")], LastLine("warn", ERR)),
        ([(1, b"cond\n"), (2, b"x\n"), (1, b"first\nse")], LastLine("second", OUT)),
        ([(1, b"10 %\r20 %\r")], LastLine("20 %", OUT)),
        ([(2, b"\xff\xfe\x1b]0;title\x07")], LastLine("\ufffd\ufffd\\x1b]0;title\\x07", ERR)),
        ([(0, b"a"), (3, b"b"), ("x", b"c")], None),
    ],
)
def test_of_a_live_log(entries: list[tuple[Any, bytes]], expected: LastLine | None) -> None:
    """The latest entry comes first, and a line may begin in the one before it of the same stream."""
    assert lastlines.of_entries(entries) == expected
