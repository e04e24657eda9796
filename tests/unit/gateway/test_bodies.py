"""The bodies of requests: what they mean, and one line about each that cannot be used."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.gateway import bodies

ID = "0f3a1b2c-0000-4000-8000-000000000000"
ONE = {"image": "busybox"}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("jobs", "ids", "batch", "new_ids", "reason", "taken", "number")


def test_a_single_document() -> None:
    assert bodies.submission(ONE) == bodies.Submission([ONE], [None], None, is_single=True)


def test_many_with_ids_and_a_part_of_a_batch() -> None:
    batch = {"id": ID, "name": "n", "limit": 2, "size": 10, "indexes": [7, 9], "template": "t"}
    asked = bodies.submission({"jobs": [ONE, ONE], "ids": [ID, str(uuid.uuid4())], "batch": batch})
    assert asked.job_ids[0] == ID
    assert asked.batch == bodies.BatchPart(ID, "n", 2, 10, [7, 9], {"template": "t"})
    assert bodies.submission({"jobs": [ONE], "batch": {}}).batch == bodies.BatchPart(None, None, None, 1, [1], {})


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (None, "the body must be a table in JSON"),
        ([ONE], "the body must be a table in JSON"),
        ({"jobs": []}, "jobs: is empty"),
        ({"jobs": {}}, "jobs: must be a list"),
        (
            {"jobs": [ONE] * 1001},
            "jobs: has a length of 1,001, and a request may have 1,000; send the others in another",
        ),
        ({"jobs": [ONE], "image": "a"}, "the body: 'image' is not known there; known are jobs, ids, batch"),
        ({"jobs": [ONE], "ids": []}, "ids: has a length of 0; give one for each of 1 job"),
        ({"jobs": [ONE], "ids": ["j1"]}, "ids[0]: 'j1' must be a random UUID"),
        ({"jobs": [ONE], "ids": [ID.replace("4000", "1000")]}, "ids[0]: "),
        ({"jobs": [ONE, ONE], "ids": [ID, ID]}, f"ids: '{ID}' is there twice; give each job another"),
        ({"jobs": [ONE] * 3, "batch": {"indexes": [2, 1, 2]}}, "batch.indexes: 2 is there twice"),
        ({"jobs": [ONE], "batch": 1}, "batch must be a table"),
        ({"jobs": [ONE], "batch": {"limit": 0}}, "batch.limit: 0 must be a whole number from 1 to"),
        ({"jobs": [ONE], "batch": {"limit": True}}, "batch.limit: True must be"),
        ({"jobs": [ONE, ONE], "batch": {"size": 1}}, "batch.size: 1 must be a whole number from 2 to"),
        ({"jobs": [ONE], "batch": {"indexes": ["a"]}}, "batch.indexes[0]: 'a' must be"),
        ({"jobs": [ONE], "batch": {"name": "a\nb"}}, "batch.name: "),
        ({"jobs": [ONE], "batch": {"uid": "0"}}, "batch: 'uid' is not known there"),
    ],
)
def test_a_submission_that_cannot_be_used(body: Any, line: str) -> None:
    with pytest.raises(errors.SpecError) as caught:
        bodies.submission(body)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("parse", [bodies.submission, bodies.job_ids, bodies.retries, bodies.reason, bodies.sign])
@given(body=VALUES | st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, VALUES)))
def test_whatever_comes_is_used_or_refused_in_one_line(parse: Callable[[Any], Any], body: Any) -> None:
    line = ""
    try:
        parse(body)
    except errors.SpecError as exc:
        line = str(exc)
    assert "\n" not in line
    assert len(line) < 600


def test_cancel_and_retry() -> None:
    assert bodies.job_ids({"ids": ["j1", "j2", "j1"]}) == ["j1", "j2"]
    assert bodies.retries({"ids": ["j1"], "new_ids": [ID]}) == (["j1"], [ID])
    assert bodies.reason(None) == ""
    assert bodies.reason({"reason": "a wrong input"}) == "a wrong input"
    with pytest.raises(errors.SpecError, match="at most 300 characters"):
        bodies.reason({"reason": "x" * 301})


def test_a_sign_of_life() -> None:
    assert bodies.sign({"taken": "17-0", "number": 3}) == "17-0 3"
    with pytest.raises(errors.SpecError, match=r"^taken: '0' must be the value of `last`"):
        bodies.sign({"taken": "0", "number": 3})
