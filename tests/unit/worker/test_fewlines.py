"""Lines of the journal that strangers can have written: so many in a minute."""

from __future__ import annotations

import logging

from celery_docker.worker.fewlines import MOST, FewLines


def written(few: FewLines, text: str, *words: str) -> str | None:
    record = logging.LogRecord("x", logging.ERROR, "x", 1, text, words, None)
    return record.getMessage() if few.filter(record) else None


def test_so_many_lines_of_a_kind_are_written_in_a_minute() -> None:
    now = 0.0
    few = FewLines(lambda: now)
    lines = [written(few, "message %s is refused", str(number)) for number in range(MOST * 10)]
    assert lines[: MOST - 1] == [f"message {number} is refused" for number in range(MOST - 1)]
    assert lines[MOST - 1] == (
        f"message {MOST - 1} is refused; no more of these lines are written until a minute is over"
    )
    assert set(lines[MOST:]) == {None}
    assert written(few, "the command %s is refused", "a") == "the command a is refused"
    now = 60.0
    assert written(few, "message %s is refused", "b") == "message b is refused"
