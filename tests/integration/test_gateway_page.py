"""The page's side of the gateway: its files, the session of a browser, and what other websites want of a browser."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client.client import Client
from celery_docker.core import browsers, sessions
from celery_docker.core.browsers import Headers
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.gateway import page
from celery_docker.store import keys
from celery_docker.store.hosts import HostStore
from tests import servers
from tests.gateways import Connection, Gateway
from tests.integration.test_worker import clean_redis

__all__ = ["clean_redis"]

CAROL, DAVE = 31003, 31004
ONE = {"image": "busybox", "command": "true", "queue": "nowhere"}
API = "/api/v1"
JOBS = f"{API}/jobs"
PROXIED = "jobs.example.org"


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(server.url, environ={"CELERY_DOCKER_API_HOSTS": PROXIED}) as gateway:
        gateway.users(carol=CAROL, dave=DAVE)
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Asks as a browser does, over TCP or through a port that leads to the Unix socket, with all that it sends."""

    gateway: Gateway
    is_local: bool = False
    host: str = ""
    scheme: str = "http"
    cookie: str = ""

    def ask(self, method: str, target: str, body: Any = None, **headers: str | None) -> Reply:
        """Ask from the page itself, but for headers with other values; None: without that one."""
        host = self.host or f"localhost:{self.gateway.port}"
        sent: dict[str, str | None] = {"Host": host, "Sec-Fetch-Site": "same-origin", "Cookie": self.cookie or None}
        if method not in ("GET", "HEAD"):
            sent["Origin"] = f"{self.scheme}://{host}"
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        local = Connection(self.gateway.path)
        connection = local if self.is_local else http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=60)
        text = None if body is None else json.dumps(body).encode()
        try:
            connection.request(method, target, text, {name: value for name, value in sent.items() if value is not None})
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def login(self, token: str, **headers: str | None) -> Reply:
        reply = self.ask("POST", "/login", {"token": token}, **headers)
        self.cookie = reply.headers.get("set-cookie", "").partition(";")[0]
        return reply


@pytest.fixture
def browser(gateway: Gateway) -> Browser:
    return Browser(gateway)


@pytest.fixture
def carol(browser: Browser) -> Browser:
    assert browser.login(browser.gateway.token("carol")).status == 200
    return browser


FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/?view=jobs&state=a&state=b": ("index.html", "text/html; charset=utf-8"),
    "/static/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/static/style.css": ("style.css", "text/css; charset=utf-8"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml; charset=utf-8"),
}


@pytest.mark.parametrize("is_local", [False, True])
@pytest.mark.parametrize("target", FILES)
def test_the_files_of_the_page_are_for_everybody(gateway: Gateway, target: str, *, is_local: bool) -> None:
    browser, (name, content_type) = Browser(gateway, is_local), FILES[target]
    # A link of another website may lead to the page.
    reply = browser.ask("GET", target, Sec_Fetch_Site="cross-site")
    assert reply.status == 200
    assert reply.body == Path(page.__file__).with_name("page").joinpath(name).read_bytes()
    assert reply.headers["content-type"] == content_type
    assert reply.headers.items() >= {name.lower(): value for name, value in browsers.ANSWER_HEADERS.items()}.items()
    head = browser.ask("HEAD", target)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", reply.headers["etag"])
    again = browser.ask("GET", target, If_None_Match=reply.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    assert browser.ask("GET", target, If_None_Match='"other"').body == reply.body
    assert browser.ask("POST", target).status == (405 if is_local else 401)


def test_the_policy_of_the_page_has_no_hole() -> None:
    parts = dict(
        part.strip().partition(" ")[::2] for part in browsers.ANSWER_HEADERS["Content-Security-Policy"].split(";")
    )
    assert parts["default-src"] == "'none'"
    assert {value for name, value in parts.items() if name.endswith("-src") and name != "default-src"} == {"'self'"}
    assert (parts["frame-ancestors"], parts["base-uri"], parts["form-action"]) == ("'none'", "'none'", "'self'")
    assert parts["require-trusted-types-for"] == "'script'"


@pytest.mark.parametrize(
    "target",
    [
        "/static/",
        "/static/main.py",
        "/static/../gateway/main.py",
        "/static/..%2f..%2fgateway%2fmain.py",
        "/static/%2e%2e/%2e%2e/errors.py",
        "/static//etc/passwd",
        "/static/app.js/..",
        "/static/app.js%00.css",
        "/static/APP.JS",
        "/index.html",
        "/page/index.html",
        "/favicon.ico",
        "/static/\\..\\app.js",
    ],
)
def test_no_other_file_is_there(gateway: Gateway, browser: Browser, target: str) -> None:
    assert Browser(gateway, is_local=True).ask("GET", target).status == 404
    # Without a token nobody learns what there is.
    assert browser.ask("GET", target).status == 401


def test_a_session_acts_as_its_token(gateway: Gateway, browser: Browser) -> None:
    token = gateway.token("carol", "read,cancel")
    reply = browser.login(token)
    found = gateway.tokens.tokens().find(token)
    assert found is not None
    who = browser.ask("GET", f"{API}/identity").json
    assert reply.json == who
    assert (who["name"], who["uid"], who["token"], who["may_submit"]) == ("carol", CAROL, found.id, False)
    assert who["session_until"].endswith("Z")
    own = gateway.ask_as(CAROL, ("POST", JOBS, ONE))[0][1]["id"]
    others = gateway.ask_as(DAVE, ("POST", JOBS, ONE))[0][1]["id"]
    assert [job["id"] for job in browser.ask("GET", JOBS).json["jobs"]].count(own) == 1
    assert browser.ask("GET", f"{JOBS}/{others}").status == 404
    assert browser.ask("POST", JOBS, ONE).status == 403
    assert browser.ask("POST", f"{JOBS}/{others}/cancel").status == 404
    assert browser.ask("POST", f"{JOBS}/{own}/cancel").status == 200
    assert token not in gateway.log
    assert f"token {found.id}): begins a session" in gateway.log
    assert browser.cookie.partition("=")[2] not in gateway.log


def test_what_a_browser_is_told_of_its_session(browser: Browser) -> None:
    token = browser.gateway.token("carol")
    attributes = "; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"
    assert browser.login(token).headers["set-cookie"].endswith(attributes)
    proxied = Browser(browser.gateway, host=PROXIED, scheme="https")
    assert proxied.login(token).headers["set-cookie"].endswith(f"{attributes}; Secure")
    assert proxied.ask("GET", JOBS).status == 200
    assert proxied.ask("POST", f"{API}/cancel", {"ids": ["a"]}).status == 200


def test_logout(carol: Browser) -> None:
    reply = carol.ask("POST", "/logout")
    assert (reply.status, reply.json) == (200, {})
    name, _, rest = reply.headers["set-cookie"].partition("=")
    assert name == carol.cookie.partition("=")[0]
    assert rest == "; HttpOnly; SameSite=Strict; Path=/; Max-Age=0"
    carol.cookie = ""
    assert carol.ask("GET", JOBS).status == 401
    assert carol.ask("POST", "/logout").status == 200
    assert carol.ask("GET", "/logout").status == 401


def test_a_session_outlives_the_service_and_ends_with_its_token(server: servers.RedisServer) -> None:
    with Gateway(server.url) as gateway:
        gateway.users(carol=CAROL)
        token, browser = gateway.token("carol"), Browser(gateway)
        assert browser.login(token).status == 200
        assert gateway.end() == 0
        gateway.start()
        assert browser.ask("GET", f"{API}/identity").json["name"] == "carol"
        found = gateway.tokens.tokens().find(token)
        assert found is not None
        gateway.tokens.remove([found.id])
        reply = browser.ask("GET", f"{API}/identity")
        assert (reply.status, reply.json["error"].partition(",")[0]) == (401, "this session has ended")
        assert gateway.end() == 0


def test_a_cookie_that_is_forged_or_of_yesterday(gateway: Gateway, carol: Browser) -> None:
    token = gateway.token("dave")
    found = gateway.tokens.tokens().find(token)
    assert found is not None
    asked = Headers(host=f"localhost:{gateway.port}")
    old = sessions.set_cookie(asked, sessions.begun(found, 1_000_000_000), is_encrypted=False).partition(";")[0]
    name, _, value = carol.cookie.partition("=")
    token_id, until, code = value.split(".")
    forged = [
        old,
        f"{name}={found.id}.{until}.{code}",
        f"{name}={token_id}.{int(until) + 1}.{code}",
        f"{name}={'x' * 4000}",
    ]
    for cookie in [*forged, f"{name}=\xff", f"{name}={token}"]:
        carol.cookie = cookie
        assert carol.ask("GET", JOBS).status == 401
        assert carol.ask("POST", JOBS, ONE).status == 401


def test_a_wrong_token_begins_no_session(server: servers.RedisServer) -> None:
    with Gateway(server.url) as gateway:
        browser = Browser(gateway)
        replies = [browser.login("x" * 43) for _ in range(11)]
        assert [reply.status for reply in replies] == [401] * 10 + [429]
        assert all("set-cookie" not in reply.headers for reply in replies)
        assert replies[-1].headers["retry-after"] == "60"
        assert browser.login(gateway.token("root", "read")).status == 200
        assert gateway.end() == 0
        assert gateway.log.count("is not known") == 10


@pytest.mark.parametrize("body", [None, {}, [], {"token": 5}, {"token": ""}, {"token": " "}, {"token": "a", "x": "b"}])
def test_a_login_without_a_token(browser: Browser, body: Any) -> None:
    reply = browser.ask("POST", "/login", body)
    assert (reply.status, len(reply.json["error"].splitlines())) == (400, 1)


def test_who_is_nobody_yet_sends_little(browser: Browser) -> None:
    assert browser.ask("POST", "/login", {"token": "x" * 5000}).status == 413


CROSS = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": None},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://evil.example", "Sec_Fetch_Site": None},
    {"Origin": None, "Sec_Fetch_Site": "cross-site"},
    {"Sec_Fetch_Site": "same-site"},
]


@pytest.mark.parametrize("is_local", [False, True])
@pytest.mark.parametrize("headers", CROSS)
def test_another_website_changes_nothing(gateway: Gateway, headers: dict[str, str | None], *, is_local: bool) -> None:
    browser = Browser(gateway, is_local)
    token = gateway.token("carol")
    if not is_local:
        browser.login(token)
        assert browser.cookie
    jobs = [
        ("POST", JOBS, ONE),
        ("POST", f"{API}/cancel", {"ids": ["a"]}),
        ("DELETE", f"{JOBS}/a/readers/{'0' * 32}", None),
        ("POST", "/login", {"token": token}),
        ("POST", "/logout", None),
    ]
    for method, target, body in jobs:
        reply = browser.ask(method, target, body, **headers)
        assert reply.status == 403, (target, reply.body)
        assert "set-cookie" not in reply.headers
    assert not [name for name in reply.headers if name.lower().startswith("access-control")]
    # A browser asks before it sends what no form can send.
    assert browser.ask("OPTIONS", JOBS, None, **headers).status == 405


def test_another_website_reads_nothing(gateway: Gateway, carol: Browser) -> None:
    for browser in (carol, Browser(gateway, is_local=True)):
        for site in ("cross-site", "same-site"):
            assert browser.ask("GET", JOBS, Sec_Fetch_Site=site).status == 403
        assert browser.ask("GET", JOBS, Sec_Fetch_Site="none").status == 200


@pytest.mark.parametrize("is_local", [False, True])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:9809", "localhost.evil.example", "127.0.0.1.nip.io"])
def test_a_name_that_an_attacker_has_lead_here(gateway: Gateway, host: str, *, is_local: bool) -> None:
    """His page is then of the same origin; what it only reads goes over plain HTTP without a mark of the browser."""
    browser = Browser(gateway, is_local)
    if not is_local:
        browser.login(gateway.token("carol"))
    browser.host = host
    bare = {"Sec_Fetch_Site": None, "Origin": None}
    for target in ("/", JOBS, f"{API}/healthz"):
        assert browser.ask("GET", target).status == 421
        assert browser.ask("GET", target, **bare).status == 421
    assert browser.ask("POST", JOBS, ONE).status == 421
    assert browser.ask("POST", "/login", {"token": gateway.token("carol")}).status == 421


def test_a_forwarded_socket_has_no_login(gateway: Gateway) -> None:
    """The kernel says who asks there; a cookie of a browser that was somebody elsewhere says nothing."""
    browser = Browser(gateway, is_local=True, host="localhost:8080")
    who = browser.ask("GET", f"{API}/identity").json
    assert (who["uid"], who["token"], who["session_until"]) == (0, None, None)
    reply = browser.login(gateway.token("carol"))
    assert (reply.status, reply.headers.get("set-cookie")) == (400, None)
    elsewhere = Browser(gateway)
    elsewhere.login(gateway.token("carol"))
    browser.cookie = elsewhere.cookie
    assert browser.ask("GET", f"{API}/identity").json["uid"] == 0
    assert browser.ask("POST", JOBS, ONE).status == 201


@pytest.mark.parametrize("host", ["host", "docker", "", "%2Frun%2Fapi.sock"])
def test_programs_at_the_unix_socket_name_any_host(gateway: Gateway, host: str) -> None:
    lines = [f"POST {JOBS} HTTP/1.1", f"Host: {host}", "Content-Length: 2", "User-Agent: curl/7.88.1", "", "{}"]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(gateway.path)
        connection.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    # It has come as far as to the job document.
    assert (answer.split()[1], b"image: is missing" in answer) == (b"400", True)


def test_errors_that_no_application_sees_have_the_headers_too(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Content-Security-Policy: default-src 'none'" in answer


def summary(browser: Browser) -> Any:
    reply = browser.ask("GET", f"{API}/summary")
    assert (reply.status, len(reply.body) < 20_000) == (200, True), reply.body[:500]
    return reply.json


def test_the_summary_counts_ones_own_jobs(clean_redis: servers.RedisServer) -> None:
    with Gateway(clean_redis.url) as gateway, closing(Client(clean_redis.url)) as client:
        gateway.users(carol=CAROL, dave=DAVE)
        carol, root = Browser(gateway), Browser(gateway, is_local=True)
        carol.login(gateway.token("carol"))
        assert summary(carol)["jobs"] == summary(root)["jobs"] == {}
        own = [gateway.ask_as(CAROL, ("POST", JOBS, ONE))[0][1]["id"] for _ in range(4)]
        gateway.ask_as(DAVE, ("POST", JOBS, ONE), ("POST", JOBS, ONE))
        HostStore(client.store.link).beat("node1", machine="m", about={})
        for job_id, state in ((own[0], State.FAILED), (own[1], State.SUCCEEDED), (own[2], None)):
            envelope = json.loads(client.store.record(job_id)["message"])
            claim = client.store.claim(job_id, host="node1", queue="nowhere", envelope=envelope)
            if state is not None:
                holding = Holding(job_id, "node1", claim.fence)
                client.store.finish(holding, state, {"state": state.value, "id": job_id})
        assert summary(carol)["jobs"] == {"queued": 1, "running": 1, "succeeded": 1, "failed": 1}
        assert summary(root)["jobs"] == {"queued": 3, "running": 1, "succeeded": 1, "failed": 1}
        assert summary(carol)["identity"]["name"] == "carol"
        assert summary(carol)["jobs_are_complete"] is False
        client.store.link.client.set(keys.LISTS, "1")
        assert summary(carol)["jobs_are_complete"] is True
        assert gateway.end() == 0


def test_the_summary_says_what_is_wrong(clean_redis: servers.RedisServer) -> None:
    with Gateway(clean_redis.url) as gateway:
        gateway.users(carol=CAROL)
        carol, root = Browser(gateway), Browser(gateway, is_local=True)
        carol.login(gateway.token("carol"))
        gateway.ask_as(CAROL, ("POST", JOBS, ONE))
        whole = summary(carol)
        assert (whole["hosts"], whole["slots"], whole["queues"]["nowhere"]) == ({}, 0, 1)
        assert whole["oldest_wait_s"] < 60
        assert [(row["level"], row["says"]) for row in whole["problems"]] == [("fail", "none is alive")]
        # The Redis of the tests keeps nothing on a disk, and whoever is no administrator is not told.
        assert [(row["level"], row["what"]) for row in summary(root)["problems"]] == [
            ("fail", "workers"),
            ("fail", "persistence"),
        ]
        assert gateway.ask_tcp(gateway.token("carol", "submit"), "GET", f"{API}/summary")[0] == 403
        assert gateway.end() == 0
