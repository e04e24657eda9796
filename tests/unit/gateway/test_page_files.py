"""The files of the page: small, without markup made of text, and in step with the names of jobs."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client import views
from celery_docker.core import lifecycle
from celery_docker.core.lifecycle import State
from celery_docker.store.listing import BatchRow, JobRow, WorkerRow

FILES = Path(__file__).parents[3] / "celery_docker/gateway/page"
SCRIPT = (FILES / "app.js").read_text()
MARKUP = (FILES / "index.html").read_text()
STYLE = (FILES / "style.css").read_text()


def constant(name: str) -> str:
    """Return the text of a constant of the script."""
    found = re.search(rf"const {name} = (.*?);\n", SCRIPT, re.DOTALL)
    assert found is not None, name
    return found[1]


def names(constant_name: str) -> list[str]:
    """Return the names in a constant that is a list of strings, or a string of names with commas between."""
    return ",".join(re.findall(r'"([^"]*)"', constant(constant_name))).replace(",,", ",").split(",")


def test_the_whole_page_is_small() -> None:
    assert sum(file.stat().st_size for file in FILES.iterdir()) < 60_000
    assert {file.name for file in FILES.iterdir()} == {"app.js", "icon.svg", "index.html", "style.css"}


@pytest.mark.parametrize(
    "word",
    [
        *(
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "createContextualFragment",
            "eval(",
        ),
        *("new Function", "localStorage", "sessionStorage", "indexedDB", "document.cookie", "import(", "javascript:"),
    ],
)
def test_text_becomes_no_markup_and_nothing_is_kept(word: str) -> None:
    assert word not in SCRIPT


def test_nothing_comes_from_elsewhere() -> None:
    """But for the name of SVG, which is no address."""
    texts = SCRIPT.replace("http://www.w3.org/2000/svg", "") + MARKUP + STYLE
    assert re.findall(r"https?:|//[a-z]|url\(|@import", texts) == []
    assert re.findall(r"<style|style=|\son\w+=|<script(?! type=\"module\" src=\"/static/)", MARKUP) == []


def test_the_states_are_those_of_jobs() -> None:
    assert set(names("FAILED")) == set(lifecycle.FAILURES)
    spread = {"queued", "starting", "running", *lifecycle.FAILURES}
    assert spread | set(re.findall(r'"(\w+)"', constant("STATES"))) == set(State)


def test_the_fields_are_those_of_the_answers() -> None:
    """A name that an answer lacks would be refused."""
    job = JobRow(**_values(JobRow, state=State.QUEUED, labels={}))
    assert set(names("JOB_FIELDS")) <= views.job_json(job, None).keys()
    batch = BatchRow(**_values(BatchRow, created_at=0.0, size=1, counts={}))
    assert set(names("BATCH_FIELDS")) - {"retryable"} <= views.batch_json(batch, None, 1.0, None).keys()
    host = WorkerRow(**_values(WorkerRow, heard_s=0.0, about={}))
    assert set(names("HOST_FIELDS")) <= views.host_json(host, 0.0).keys()


def _values(kind: Any, **given: Any) -> dict[str, Any]:
    """Return values for all that a row needs."""
    return {**dict.fromkeys(field.name for field in fields(kind) if field.default is MISSING), **given}


def test_the_secrets_of_a_job_are_named_nowhere_but_where_they_are_kept_out() -> None:
    """Its environment and standard input are not in the script at all; of a script it says that there is one."""
    assert re.findall(r"spec\.(?:env|stdin)\b|\.script\b(?! != null)", SCRIPT) == []
    assert 'env: "names"' in SCRIPT
