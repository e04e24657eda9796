"""The table of routes, and the OpenAPI document that is made of it."""

from __future__ import annotations

from typing import Any

from celery_docker import version
from celery_docker.core import sessions
from celery_docker.core.access import Right
from celery_docker.gateway import bodies, page, parameters, routing, selection
from celery_docker.gateway.jobs import Jobs
from celery_docker.gateway.logs import Logs
from celery_docker.gateway.monitoring import Monitoring
from celery_docker.gateway.overview import Overview
from celery_docker.gateway.routing import Answer, Request, Route
from celery_docker.gateway.sessions import Sessions
from celery_docker.gateway.status import Status
from celery_docker.gateway.submitting import Submitting

API = "/api/v1"
_PAGE = (parameters.BEFORE, parameters.LIMIT)
_FILTERS = (
    parameters.STATE,
    parameters.NAME,
    parameters.BATCH,
    parameters.HOST,
    parameters.IN_QUEUE,
    parameters.MINE,
    parameters.SINCE,
)
_LOG = (parameters.AFTER, parameters.WAIT, parameters.ENTRIES)
_PAGE_FILES = (
    ("/", "index.html", "text/html"),
    ("/static/app.js", "app.js", "text/javascript"),
    ("/static/style.css", "style.css", "text/css"),
    ("/static/icon.svg", "icon.svg", "image/svg+xml"),
)
_REFUSALS = {
    "400": "a value cannot be used",
    "401": "over TCP: no token or session, or a wrong one",
    "403": "not allowed to this user, or by this token; or sent by a browser for a page that is not the service's",
    "404": "not there, or another's",
    "409": "not now: it has not ended, the number is another, or the id is another's",
    "413": "too large",
    "421": "the header Host names another host",
    "429": "over TCP: a wrong token, after many others; or more readers of output than a user may have at a time",
    "431": "the header, with the query in it, is too large",
    "503": "Redis does not answer, or many large requests wait; try again",
}


_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "what is wrong, in one line"},
        "kind": {"type": "string", "description": "the name of the error; some have none"},
    },
    "required": ["error"],
    "additionalProperties": False,
}


def table(
    jobs: Jobs,
    submitting: Submitting,
    logs: Logs,
    overview: Overview,
    logins: Sessions,
    status: Status,
    monitoring: Monitoring,
) -> tuple[Route, ...]:
    """Return all routes."""
    reader = f"{API}/jobs/{{id}}/readers/{{reader}}"
    routes = (
        Route(
            "GET",
            f"{API}/jobs",
            selection.of_rows(jobs.page, "jobs"),
            "list jobs",
            (*_FILTERS, parameters.ORDER, *_PAGE, parameters.IDS, parameters.FIELDS),
        ),
        Route(
            "POST",
            f"{API}/jobs",
            submitting.submit,
            "queue jobs",
            body=bodies.SUBMISSION,
            right=Right.SUBMIT,
            status=201,
        ),
        Route("GET", f"{API}/jobs/{{id}}", jobs.one, "all that is known of a job", (parameters.ENV,)),
        Route("POST", f"{API}/jobs/{{id}}/cancel", jobs.cancel, "cancel a job", body=bodies.CANCEL, right=Right.CANCEL),
        Route(
            "POST",
            f"{API}/jobs/{{id}}/retry",
            submitting.retry,
            "queue a job once more",
            right=Right.CANCEL,
            status=201,
        ),
        Route("GET", f"{API}/jobs/{{id}}/logs", logs.read, "output of a job", _LOG),
        Route("PUT", reader, logs.sign, "have the job wait for a reader", body=bodies.SIGN),
        Route("DELETE", reader, logs.detach, "let the job go on without a reader"),
        Route("GET", f"{API}/jobs/{{id}}/settled", jobs.settled, "whether a job's container is gone"),
        Route("GET", f"{API}/lastlines", logs.last_lines, "the last line of jobs", (parameters.IDS,)),
        Route("GET", f"{API}/states", jobs.states, "states of jobs", (parameters.STATE_IDS,)),
        Route("GET", f"{API}/receipts", jobs.receipts, "receipts of jobs", (parameters.IDS,)),
        Route("GET", f"{API}/lookup", jobs.lookup, "the job or batch that an id stands for", (parameters.WORD,)),
        Route("POST", f"{API}/cancel", jobs.cancel_many, "cancel jobs", body=bodies.CANCEL_MANY, right=Right.CANCEL),
        Route(
            "POST",
            f"{API}/retry",
            submitting.retry_many,
            "queue jobs once more",
            body=bodies.RETRY_MANY,
            right=Right.CANCEL,
            status=201,
        ),
        Route(
            "GET",
            f"{API}/batches",
            selection.of_rows(jobs.batches, "batches"),
            "list batches",
            (*_PAGE, parameters.FIELDS),
        ),
        Route("GET", f"{API}/batches/{{id}}", jobs.batch, "a batch and its jobs", (parameters.FIELDS,)),
        Route(
            "GET",
            f"{API}/hosts",
            selection.of_rows(overview.hosts, "hosts"),
            "the hosts, by name",
            (parameters.BEFORE, parameters.HOSTS_LIMIT, parameters.FIELDS),
        ),
        Route("GET", f"{API}/queue", overview.queue, "how much there is to do", (parameters.QUEUE,)),
        Route(
            "POST",
            f"{API}/batches/{{id}}/retry-failed",
            submitting.retry_failed,
            "queue the jobs of a batch that failed once more",
            body=bodies.RETRY_FAILED,
            right=Right.CANCEL,
            status=201,
        ),
        Route("GET", f"{API}/history", status.history, "the last 24 hours"),
        Route("GET", f"{API}/summary", status.summary, "what is wrong now, and how many jobs there are"),
        Route("GET", f"{API}/identity", overview.identity, "who asks, and what he may"),
        Route("GET", f"{API}/healthz", monitoring.health, "whether Redis answers", right=None),
        Route("GET", "/healthz", monitoring.health, "the same, where monitors look for it", right=None),
        Route(
            "GET",
            "/metrics",
            monitoring.metrics,
            "figures of hosts and queues for Prometheus",
            right=None,
            content_type="text/plain",
        ),
        Route("POST", "/login", logins.login, "begin a session of a browser", body=bodies.LOGIN, right=None),
        Route("POST", "/logout", logins.logout, "end a session of a browser", right=None),
        *(_page_file(*line) for line in _PAGE_FILES),
    )

    def document(request: Request) -> Answer:
        return Answer(openapi(whole))

    whole = (*routes, Route("GET", f"{API}/openapi.json", document, "this document"))
    return whole


def _page_file(path: str, name: str, content_type: str) -> Route:
    file = page.file(name, content_type)
    return Route(
        "GET", path, file.answer, f"{name} of the page", right=None, content_type=file.content_type, is_page=True
    )


def openapi(routes: tuple[Route, ...]) -> dict[str, Any]:
    """Return the OpenAPI document (3.1) of routes."""
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "celery-docker", "version": version.version() or "0+source"},
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "made by celery-docker token add; on the Unix socket the kernel says who asks",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": sessions.COOKIE,
                    "description": "of a browser, from POST /login; with the port behind a dash, where it has one",
                },
            }
        },
        # Nothing at all is enough on the Unix socket.
        "security": [{"token": []}, {"session": []}, {}],
        "paths": paths,
    }


def _operation(route: Route) -> dict[str, Any]:
    names = [part.strip("{}") for part in route.path.split("/") if part.startswith("{")]
    in_path = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    in_query = [
        {
            "name": line.name,
            "in": "query",
            "description": line.help,
            "schema": dict(line.schema),
            **({"style": "form", "explode": False} if line.schema.get("type") == "array" else {}),
        }
        for line in route.query
    ]
    error = {routing.JSON: {"schema": _ERROR}}
    refusals = {status: {"description": text, "content": error} for status, text in _REFUSALS.items()}
    answer = {"schema": {"type": "object"}} if route.content_type == routing.JSON else {}
    return {
        "summary": route.summary,
        **({"security": []} if route.right is None else {}),
        "parameters": [*in_path, *in_query],
        **({"requestBody": {"content": {"application/json": {"schema": route.body}}}} if route.body else {}),
        "responses": {
            str(route.status): {"description": route.summary, "content": {route.content_type: answer}},
            **refusals,
        },
    }
