"""Values as people write them; durations and sizes are in the tests of the tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from celery_docker.core import wording

PACKAGE = Path(wording.__file__).parents[1]
# A number that is computed, and a noun in the plural behind it, which is wrong for 1.
_PLURAL = re.compile(
    r"(?:%d|\{(?:len\(|count|total|going|jobs|slots|places?\.)[^{}]*\})"
    r" (?:[a-z]+ )?(?:jobs|slots|containers|bytes|hosts|attempts|messages|files|readers|lines)\b"
)


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "job", "0 jobs"),
        (1, "job", "1 job"),
        (2, "job", "2 jobs"),
        (1, "running job", "1 running job"),
        (20_000, "running job", "20,000 running jobs"),
    ],
)
def test_counted(count: int, noun: str, text: str) -> None:
    assert wording.counted(count, noun) == text


def test_nobody_counts_in_another_way() -> None:
    """Except where there are several for certain."""
    several = {"{len(sharers):,} jobs", "{len(text):,} bytes"}
    found = {
        match[0]: path.relative_to(PACKAGE)
        for path in PACKAGE.rglob("*.py")
        for match in _PLURAL.finditer(path.read_text())
        if match[0] not in several
    }
    assert not found
