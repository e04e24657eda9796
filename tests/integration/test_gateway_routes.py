"""Every route that the gateway's own document lists, asked by who should not: the right status, whatever is added."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import servers
from tests.gateways import Connection, Gateway

CAROL = 31003
NOBODY = 65534
EVIL = {"Host": "evil.example"}
# What is there for whoever has not said yet who he is.
FOR_ALL = {"/", "/healthz", "/metrics", "/login", "/logout", "/api/v1/healthz"}
# A session is of browsers, over TCP.
SESSIONS = {"/login", "/logout"}

Operation = tuple[str, str]


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        gateway.users(carol=CAROL)
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@pytest.fixture(scope="module")
def operations(gateway: Gateway) -> list[Operation]:
    status, document = gateway.ask("GET", "/api/v1/openapi.json")
    assert status == 200
    listed = [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]
    assert len(listed) > 20
    return [(method, path.replace("{id}", "j1").replace("{reader}", "0" * 32)) for method, path in listed]


def is_public(path: str) -> bool:
    return path in FOR_ALL or path.startswith("/static/")


def test_only_what_is_for_everybody_is_public(gateway: Gateway) -> None:
    """The document says of what no token is needed; that list is short, and known."""
    document = gateway.ask("GET", "/api/v1/openapi.json")[1]
    said = {
        path
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if operation.get("security") == []
    }
    assert said == {path for path in document["paths"] if is_public(path)}


def test_an_answer_is_of_the_content_type_that_the_document_says(gateway: Gateway) -> None:
    document = gateway.ask("GET", "/api/v1/openapi.json")[1]
    for path, methods in document["paths"].items():
        if "get" in methods and "{" not in path:
            connection = Connection(gateway.path)
            connection.request("GET", path)
            answer = connection.getresponse()
            (said,) = methods["get"]["responses"]["200"]["content"]
            if answer.status == 200:
                assert str(answer.getheader("Content-Type")).partition(";")[0] == said.partition(";")[0], path
            connection.close()


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_without_a_token_nothing_else_is_answered(
    gateway: Gateway, operations: list[Operation], token: str | None
) -> None:
    # After ten within a minute.
    is_counted = token is not None
    for method, path in operations:
        if not is_public(path):
            assert gateway.ask_tcp(token, method, path)[0] in {401, 429 if is_counted else 401}, (method, path)


def test_under_the_name_of_another_service_nothing_is_answered(gateway: Gateway, operations: list[Operation]) -> None:
    token = gateway.token("carol", "admin")
    for method, path in operations:
        assert gateway.ask_tcp(token, method, path, None, **EVIL)[0] == 421, (method, path)


def test_a_page_of_another_service_changes_nothing(gateway: Gateway, operations: list[Operation]) -> None:
    """A browser says where a request comes from; with a token or on the socket as well."""
    token = gateway.token("carol", "admin")
    changing = [(method, path) for method, path in operations if method != "GET"]
    assert len(changing) > 5
    for method, path in changing:
        headers = {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}
        assert gateway.ask_tcp(token, method, path, None, **headers)[0] == 403, (method, path)


def test_who_is_nobody_on_the_socket_changes_nothing(gateway: Gateway, operations: list[Operation]) -> None:
    changing = [(method, path) for method, path in operations if method == "POST" and path not in SESSIONS]
    answers = gateway.ask_as(NOBODY, *changing)
    assert {path: status for (_, path), (status, _) in zip(changing, answers, strict=True)} == {
        path: 403 for _, path in changing
    }


def test_no_body_is_too_large_to_be_refused(gateway: Gateway, operations: list[Operation]) -> None:
    token = gateway.token("carol", "admin")
    for method, path in operations:
        if method != "GET":
            assert gateway.ask_tcp(token, method, path, " " * 20 * 2**20)[0] == 413, (method, path)


def test_no_other_method_is_known(gateway: Gateway, operations: list[Operation]) -> None:
    token = gateway.token("carol", "admin")
    known = {path: {method for method, of in operations if of == path} for _, path in operations}
    for path, methods in known.items():
        for method in {"GET", "POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW"} - methods:
            assert gateway.ask_tcp(token, method, path)[0] == 405, (method, path)
