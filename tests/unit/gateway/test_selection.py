"""The names in rows that a request asks for."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.access import Identity, Right, Rights
from celery_docker.gateway import selection
from celery_docker.gateway.routing import Answer, Request

ROWS = [{"id": "a", "name": None, "labels": {"x": "y"}}, {"id": "b", "name": "two", "labels": {}}]


def request(**query: Any) -> Request:
    return Request(Identity("alice", 1000, 1000, ()), Rights(frozenset(Right)), query=query)


def listed(_: Request) -> Answer:
    return Answer({"jobs": ROWS, "next": None}, 200)


def test_rows_have_the_names_that_were_asked_for_in_that_order() -> None:
    handler = selection.of_rows(listed, "jobs")
    assert handler(request()).body == {"jobs": ROWS, "next": None}
    body = handler(request(fields=["name", "id"])).body
    assert [list(row.items()) for row in body["jobs"]] == [
        [("name", None), ("id", "a")],
        [("name", "two"), ("id", "b")],
    ]
    assert body["next"] is None


def test_a_name_that_no_row_has_is_refused_with_those_that_there_are() -> None:
    line = "fields: 'env' is none of id, name, labels"
    with pytest.raises(errors.SpecError, match=f"^{re.escape(line)}$"):
        selection.of_rows(listed, "jobs")(request(fields=["id", "env"]))
