"""The explanations of the worker's events in the journal's catalogue."""

from __future__ import annotations

import re
from pathlib import Path

from celery_docker.core.journal import JournalEvent

CATALOG = (Path(__file__).parents[3] / "systemd/celery-docker.catalog").read_text()


def test_each_event_has_one_explanation_and_no_explanation_is_of_nothing() -> None:
    """In the form that systemd reads: an id, a header, an empty line, a text; each line as wide as a terminal."""
    _, *entries = re.split(r"(?m)^-- ", CATALOG)
    ids = []
    for entry in entries:
        header, text = entry.split("\n\n", 1)
        event_id, *fields = header.splitlines()
        ids.append(event_id)
        assert [field.partition(":")[0] for field in fields] == ["Subject", "Defined-By", "Documentation"]
        assert text.strip()
    assert sorted(ids) == sorted(JournalEvent)
    assert all(re.fullmatch("[0-9a-f]{32}", event_id) for event_id in ids)
    assert max(map(len, CATALOG.splitlines())) <= 88
