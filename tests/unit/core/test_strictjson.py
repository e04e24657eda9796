"""JSON from elsewhere, bounded before it takes memory."""

from __future__ import annotations

import pytest

from celery_docker.core import strictjson


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * 10 + "[]]",
        "{" + ",".join(f'"{number}":1' for number in range(10)) + "}",
        "[" * 30,
        '{"a":"' + "x" * 40 + '",' + ",".join(f'"\\"{number}":1' for number in range(10)) + "}",
        "[" + ",".join('"\\\\"' for _ in range(20)) + "]",
    ],
)
def test_too_many_names_and_values(text: str) -> None:
    with pytest.raises(strictjson.NotUsable, match=r"^has more than 20 names and values; send less at once$"):
        strictjson.parse(text, most=20)


@pytest.mark.parametrize(
    "text", ['{"a":"' + ",:[{" * 40 + '"}', '["' + '\\",' * 40 + '"]', "[1,2,3]", '"' + "[" * 40 + '"']
)
def test_marks_in_a_text_are_none_of_them(text: str) -> None:
    assert strictjson.parse(text, most=20) == strictjson.parse(text)


@pytest.mark.parametrize(
    "text", ['"a\\"' * 200_000 + "\\", '"' + "," * 200_000, '"\\' * 100_000, "," * 200_000 + '"\\']
)
def test_a_text_that_is_no_json_is_looked_at_once(text: str) -> None:
    """Were it looked at from each quote on, it would take hours."""
    with pytest.raises(strictjson.NotUsable):
        strictjson.parse(text, most=20)
