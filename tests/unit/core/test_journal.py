"""The events of the journal, and their explanations in its catalogue."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from celery_docker.cli.syntax import parser
from celery_docker.core import journal
from celery_docker.core.journal import JournalEvent
from celery_docker.core.lifecycle import State

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


def test_an_explanation_names_the_job_only_where_the_entry_names_one() -> None:
    """journalctl puts the first value of a field in its place, and would name one of many jobs."""
    texts = dict(entry.split("\n", 1) for entry in re.split(r"(?m)^-- ", CATALOG)[1:])
    of_many = (JournalEvent.JOB_CANCELLED, JournalEvent.JOB_EXPIRED, JournalEvent.JOB_LOST, JournalEvent.TAKEOVER)
    for event in JournalEvent:
        places = set(re.findall("@(.*?)@", texts[event]))
        assert places <= (set() if event in of_many or not event.name.startswith("JOB_") else {journal.JOB}), event


@pytest.mark.parametrize("command", re.findall("celery-docker [a-z].*", CATALOG))
def test_a_command_that_an_explanation_names_is_one(command: str) -> None:
    words = command.rstrip(".").replace("@CELERY_DOCKER_JOB@", "j1").replace("DOCUMENT", "-").split()
    arguments = parser.parse(words[1:])
    assert isinstance(arguments, parser.Arguments)
    assert arguments.command.name == words[1]


def test_each_end_of_a_job_is_an_event_of_its_own() -> None:
    ends = [journal.end_event(state) for state in State if state.is_final]
    assert None not in ends
    assert len(set(ends)) == len(ends) == 8
    assert [journal.end_event(state) for state in State if not state.is_final] == [None] * 3
    assert journal.end_event(State("melted (ended)")) is None


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (1, [1]), (250, [250]), (251, [250, 1])])
def test_portions_of_jobs(count: int, sizes: list[int]) -> None:
    job_ids = [str(number) for number in range(count)]
    portions = list(journal.portions(job_ids))
    assert [len(portion) for portion in portions] == sizes
    assert [job_id for portion in portions for job_id in portion] == job_ids


def test_the_manual_lists_each_field() -> None:
    manual = (Path(__file__).parents[3] / "docs/man/celery-worker.8.rst").read_text()
    listed = set(re.findall(r"(?m)^(CELERY_DOCKER_[A-Z_]+)\n    \S", manual.split("\nTHE JOURNAL\n")[1]))
    named = {f"{journal.PREFIX}{field.name.upper()}" for field in dataclasses.fields(journal.JobFacts)}
    assert listed == {journal.JOB, *named}
