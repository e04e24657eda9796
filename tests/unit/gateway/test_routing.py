"""The table of routes: what is found for a request, and what is said of one that fits nowhere."""

from __future__ import annotations

from typing import Any, cast

import pytest

from celery_docker.core import jobfields
from celery_docker.core.access import Right
from celery_docker.gateway import routes, routing
from celery_docker.gateway.jobs import Jobs
from celery_docker.gateway.logs import Logs
from celery_docker.gateway.monitoring import Monitoring
from celery_docker.gateway.overview import Overview
from celery_docker.gateway.routing import Refusal, Route
from celery_docker.gateway.sessions import Sessions
from celery_docker.gateway.status import Status
from celery_docker.gateway.submitting import Submitting

NOTHING = cast(Any, None)
TABLE = routes.table(
    Jobs(NOTHING, NOTHING),
    Submitting(NOTHING, NOTHING, NOTHING),
    Logs(NOTHING, NOTHING, NOTHING),
    Overview(NOTHING),
    Sessions(NOTHING),
    Status(NOTHING, NOTHING),
    Monitoring(NOTHING),
)


# What nobody has to say for who he is.
OF_EVERYBODY = {
    *(("GET", path) for path in ("/api/v1/healthz", "/healthz", "/metrics")),
    ("GET", "/"),
    *(("GET", f"/static/{name}") for name in ("app.js", "style.css", "icon.svg")),
    ("POST", "/login"),
    ("POST", "/logout"),
}


def route(path: str, method: str = "GET") -> Route:
    return routing.find(TABLE, method, path)[0]


def test_a_path_and_its_names() -> None:
    found, names = routing.find(TABLE, "PUT", "/api/v1/jobs/j1/readers/r1")
    assert (found.summary, names) == ("have the job wait for a reader", {"id": "j1", "reader": "r1"})
    assert routing.find(TABLE, "HEAD", "/api/v1/jobs")[0].method == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "//",
        "/static/",
        "/static/../app.js",
        "/static/app.js/",
        "/index.html",
        "/static/%61pp.js",
        "/api/v1",
        "/api/v1/",
        "/api/v1/jobs/",
        "/api/v2/jobs",
        "/api/v1/jobs//cancel",
        "/api/v1/jobs/a/b/c/d",
    ],
)
def test_nothing_is_there(path: str) -> None:
    with pytest.raises(Refusal, match="lists what there is") as caught:
        route(path)
    assert caught.value.status == 404


@pytest.mark.parametrize("method", ["TRACE", "DELETE", "get", "X" * 1000])
def test_another_method_is_told_those_that_there_are(method: str) -> None:
    with pytest.raises(Refusal, match=r"use GET, POST, HEAD$") as caught:
        route("/api/v1/jobs", method)
    assert (caught.value.status, caught.value.headers) == (405, {"Allow": "GET, POST, HEAD"})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("color=red", "'color' is not a parameter of /api/v1/jobs; known are state, name, batch,"),
        ("limit=0", "limit: '0' must be a whole number from 1 to 500"),
        ("limit=501", "limit: '501' must be a whole number from 1 to 500"),
        ("limit=%D9%A1", "limit: '\u0661' must be a whole number"),
        ("limit=1&limit=2", "limit: was given twice"),
        ("state=queued,evil", "state: 'queued,evil' must be some of queued, starting,"),
        ("ids=a b", "ids: 'a b' "),
        ("ids=" + ",".join("a" * 501), "ids: "),
        ("name=", "name: '' must be 1 to 128 printable characters"),
        ("name=%ff", "the query must be UTF-8"),
        ("mine=0", "mine: '0' must be 1; leave it out for all"),
        ("since=0", "since: '0' must be a whole number from 1 to 100000000"),
        ("fields=", "fields: '' must be up to 50 names, with commas between"),
        ("fields=id,a b", "fields: 'id,a b' must be up to 50 names"),
        ("fields=" + ",".join(["id"] * 51), "fields: "),
        ("&".join(f"a{number}=1" for number in range(30)), "the query must be UTF-8 and have at most 20 parameters"),
    ],
)
def test_a_query_that_cannot_be_used(text: str, line: str) -> None:
    with pytest.raises(Refusal) as caught:
        routing.query(route("/api/v1/jobs"), text)
    assert caught.value.status == 400
    assert str(caught.value).startswith(line)


def test_a_query() -> None:
    values = routing.query(
        route("/api/v1/jobs"), "state=failed,lost&limit=7&name=a%20b&ids=j1,j2&fields=id,name&mine=1"
    )
    assert values == {
        "state": ["failed", "lost"],
        "limit": 7,
        "name": "a b",
        "ids": ["j1", "j2"],
        "fields": ["id", "name"],
        "mine": True,
    }


def test_the_page_takes_any_query() -> None:
    """Its view is in it, for the page to read."""
    assert routing.query(route("/"), "view=jobs&state=a&state=b&%ff") == {}
    with pytest.raises(Refusal):
        routing.query(route("/api/v1/healthz"), "view=jobs")


def test_each_route_needs_a_right() -> None:
    """One that is not a GET is for those who may do more than read, but for readers; a new one has to say so here."""
    needed = {(line.method, line.path): line.right for line in TABLE}
    readers = "/api/v1/jobs/{id}/readers/{reader}"
    assert {place for place, right in needed.items() if right is None} == OF_EVERYBODY
    assert {place for place, right in needed.items() if right is Right.SUBMIT} == {("POST", "/api/v1/jobs")}
    others = {place for place, right in needed.items() if place[0] != "GET" and right is not Right.SUBMIT}
    others -= OF_EVERYBODY
    assert others == {("PUT", readers), ("DELETE", readers)} | {
        place for place, right in needed.items() if right is Right.CANCEL
    }
    assert Right.ADMIN not in needed.values()


def test_the_openapi_document_says_where_a_token_is_needed() -> None:
    document = routes.openapi(TABLE)
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert document["security"] == [{"token": []}, {"session": []}, {}]
    own = {
        path: line["get"]["security"] for path, line in document["paths"].items() if "security" in line.get("get", {})
    }
    assert own == {path: [] for method, path in OF_EVERYBODY if method == "GET"}


def test_the_openapi_document_has_every_route_and_the_fields_of_a_job() -> None:
    document = routes.openapi(TABLE)
    assert {(method.upper(), path) for path, line in document["paths"].items() for method in line} == {
        (line.method, line.path) for line in TABLE
    }
    schema = document["paths"]["/api/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["oneOf"][0]["properties"]) == [line.name for line in jobfields.DOCUMENT]
    in_path = document["paths"]["/api/v1/jobs/{id}/logs"]["get"]["parameters"]
    assert [line["name"] for line in in_path] == ["id", "after", "wait", "entries"]
