"""The gateway over TCP: nobody is anybody without a token, and a token is its account and no more."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from celery_docker.client.client import Client
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from tests import servers
from tests.gateways import Gateway, command, process
from tests.integration.test_worker import clean_redis
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis"]

CAROL, DAVE = 31003, 31004
ONE = {"image": "busybox", "command": "true"}
API = "/api/v1"
JOBS = f"{API}/jobs"
# All that somebody with a token may ask, as (method, path, body).
ALL = [
    ("GET", JOBS, None),
    ("POST", JOBS, ONE),
    ("POST", f"{API}/cancel", {"ids": ["a"]}),
    ("POST", f"{API}/retry", {"ids": ["a"]}),
    ("GET", f"{JOBS}/a/logs", None),
    ("PUT", f"{JOBS}/a/readers/b", {"taken": "0-0", "number": 1}),
    ("GET", f"{API}/hosts", None),
    ("GET", f"{API}/openapi.json", None),
    ("GET", f"{API}/nothing", None),
]


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer, steady: Worker) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        gateway.users(carol=CAROL, dave=DAVE)
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@pytest.fixture
def carol(gateway: Gateway) -> str:
    return gateway.token("carol")


def raw(gateway: Gateway, text: bytes) -> bytes:
    """Send bytes as they are; return all that comes back until the service closes the connection."""
    with socket.create_connection(("127.0.0.1", gateway.port), 60) as connection:
        return sent(connection, text)


def sent(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def token_id(gateway: Gateway, secret: str) -> str:
    token = gateway.tokens.tokens().find(secret)
    assert token is not None
    return token.id


def test_nothing_but_health_without_a_token(gateway: Gateway) -> None:
    for method, target, body in ALL:
        status, answer = gateway.ask_tcp(None, method, target, body)
        assert (status, answer["error"].partition(":")[0]) == (401, "a token is missing")
    assert gateway.ask_tcp(None, "GET", f"{API}/healthz")[0] == 200
    assert gateway.ask_tcp("wrong", "GET", f"{API}/healthz")[0] == 200
    # Root has connected, and headers of a proxy say that it was from here.
    headers = {"X-Forwarded-For": "127.0.0.1", "X-Remote-User": "root", "Forwarded": "for=127.0.0.1"}
    assert gateway.ask_tcp(None, "GET", JOBS, None, **headers)[0] == 401


def test_a_token_is_its_account(gateway: Gateway, server: servers.RedisServer, carol: str) -> None:
    assert gateway.ask_tcp(carol, "GET", f"{API}/identity") == (
        200,
        {
            "name": "carol",
            "uid": CAROL,
            "gid": CAROL,
            "groups": [CAROL],
            "may_read": True,
            "may_submit": True,
            "may_cancel": True,
            "may_everything": False,
            "token": token_id(gateway, carol),
            "session_until": None,
        },
    )
    status, answer = gateway.ask_tcp(carol, "POST", JOBS, ONE)
    assert status == 201
    with closing(Client(server.url)) as client:
        record = client.store.record(answer["id"])
    kwargs = json.loads(base64.b64decode(json.loads(record["message"])["body"]))[1]
    assert (record["uid"], kwargs["user"]) == (str(CAROL), f"{CAROL}:{CAROL}")
    for user in ("root", "0:0", "dave", f"{CAROL}:0"):
        assert gateway.ask_tcp(carol, "POST", JOBS, {**ONE, "user": user})[0] == 403
    # The same account on the Unix socket has the same jobs; another account has not.
    assert gateway.ask_as(CAROL, ("GET", f"{JOBS}/{answer['id']}"))[0][0] == 200
    assert gateway.ask_tcp(gateway.token("dave"), "GET", f"{JOBS}/{answer['id']}")[0] == 404
    assert gateway.ask_tcp(gateway.token("dave", "admin"), "GET", f"{JOBS}/{answer['id']}")[0] == 200


@pytest.mark.parametrize(
    ("rights", "statuses"),
    [
        ("read", {"GET": 200, "POST": 403, "CANCEL": 403}),
        ("submit", {"GET": 403, "POST": 201, "CANCEL": 403}),
        ("cancel", {"GET": 403, "POST": 403, "CANCEL": 200}),
        ("read,submit,cancel", {"GET": 200, "POST": 201, "CANCEL": 200}),
        ("admin", {"GET": 200, "POST": 201, "CANCEL": 200}),
    ],
)
def test_a_right_that_is_missing(gateway: Gateway, rights: str, statuses: dict[str, int]) -> None:
    token = gateway.token("carol", rights)
    job_id = gateway.ask_tcp(gateway.token("carol"), "POST", JOBS, {**ONE, "queue": "nowhere"})[1]["id"]
    answers = {
        "GET": gateway.ask_tcp(token, "GET", f"{JOBS}/{job_id}"),
        "POST": gateway.ask_tcp(token, "POST", JOBS, {**ONE, "queue": "nowhere"}),
        "CANCEL": gateway.ask_tcp(token, "POST", f"{JOBS}/{job_id}/cancel"),
    }
    assert {name: status for name, (status, _) in answers.items()} == statuses
    for status, answer in answers.values():
        if status == 403:
            assert re.fullmatch(r"token [0-9a-f]{8} of 'carol' \(uid 31003\) lacks the right \w+; .*", answer["error"])
    others = gateway.ask_tcp(gateway.token("dave"), "POST", JOBS, {**ONE, "queue": "nowhere"})[1]["id"]
    seen = gateway.ask_tcp(token, "GET", f"{JOBS}/{others}")[0]
    assert seen == {"submit": 403, "cancel": 403, "admin": 200}.get(rights, 404)


def test_admin_names_any_user(gateway: Gateway) -> None:
    admin = gateway.token("carol", "admin")
    job_id = gateway.ask_tcp(admin, "POST", JOBS, {**ONE, "user": "0:0", "queue": "nowhere"})[1]["id"]
    assert gateway.ask_tcp(admin, "GET", f"{JOBS}/{job_id}")[1]["spec"]["user"] == "0:0"


def test_two_tokens_of_one_account(gateway: Gateway, carol: str) -> None:
    other = gateway.token("carol", "read")
    job_id = gateway.ask_tcp(carol, "POST", JOBS, ONE)[1]["id"]
    assert gateway.ask_tcp(other, "GET", f"{JOBS}/{job_id}")[0] == 200
    gateway.tokens.remove([token_id(gateway, carol)])
    assert gateway.ask_tcp(carol, "GET", JOBS)[0] == 401
    assert gateway.ask_tcp(other, "GET", JOBS)[0] == 200


@pytest.mark.parametrize(
    "header",
    [
        b"Authorization: Bearer %s\0",
        b"Authorization: Bearer %s\xff",
        b"Authorization: Bearer %s\r\n x",
        b"Authorization: Bearer %s\r\nAuthorization: Bearer %s",
        b"Authorization: Bearer\t%s",
        b"Authorization: Basic %s",
        b"Authorization: %s",
        b"X-Api-Key: %s",
        b"Authorization: Bearer \xc3\xa9%s",
        b"Authorization : Bearer %s",
        b"Authorization: Bearer %s\nX: y",
    ],
)
def test_a_token_in_another_shape(gateway: Gateway, carol: str, header: bytes) -> None:
    whole = header.replace(b"%s", carol.encode())
    answer = raw(gateway, b"GET " + JOBS.encode() + b" HTTP/1.1\r\nHost: localhost\r\n" + whole + b"\r\n\r\n")
    assert status_of(answer) in (400, 401)
    assert answer.count(b'{"error":') == 1
    assert carol.encode() not in answer


def test_accounts_that_are_gone_or_of_services(gateway: Gateway) -> None:
    service = gateway.token("www-data")
    assert gateway.ask_tcp(service, "GET", JOBS)[0] == 200
    status, answer = gateway.ask_tcp(service, "POST", JOBS, ONE)
    assert (status, "may only read" in answer["error"]) == (403, True)
    eve = gateway.token("eve", "admin")
    status, answer = gateway.ask_tcp(eve, "GET", JOBS)
    assert (status, "this host has no account 'eve' any more" in answer["error"]) == (403, True)
    gateway.users(carol=CAROL, dave=DAVE, eve=31005)
    assert gateway.ask_tcp(eve, "GET", f"{API}/identity")[1]["uid"] == 31005
    gateway.users(carol=CAROL, dave=DAVE)
    assert gateway.ask_tcp(eve, "GET", JOBS)[0] == 403


def test_a_damaged_file_of_tokens(gateway: Gateway, carol: str) -> None:
    path = Path(gateway.tokens.path)
    before = path.read_bytes()
    try:
        path.write_bytes(b"\0\xff\nnonsense\n" + before + b"carol admin 123")
        assert gateway.ask_tcp(carol, "GET", JOBS)[0] == 200
        lines = [line for line in gateway.log.splitlines() if str(path) in line and "does not count" in line]
        assert len(lines) >= 3
        # Neither a file nor readable, for root either.
        path.unlink()
        assert gateway.ask_tcp(carol, "GET", JOBS)[0] == 401
        path.mkdir()
        status, answer = gateway.ask_tcp(carol, "GET", JOBS)
        assert (status, answer["error"].startswith(f"token: cannot read {path}: ")) == (503, True)
        assert gateway.ask("GET", JOBS)[0] == 200
        path.rmdir()
        path.write_bytes(b"#" * (2**20 + 1))
        assert gateway.ask_tcp(carol, "GET", JOBS)[0] == 503
    finally:
        path.write_bytes(before)
    assert gateway.ask_tcp(carol, "GET", JOBS)[0] == 200


def test_ten_thousand_wrong_tokens(server: servers.RedisServer) -> None:
    """They fill no journal, and keep nobody out who has a right one."""
    with Gateway(server.url) as gateway:
        right = gateway.token("root", "read")
        code = (
            "import collections, json, sys; from tests.gateways import flood\n"
            "print(json.dumps(collections.Counter(flood(int(sys.argv[1]), 10_000))))"
        )
        root = str(Path(__file__).parents[2])
        made = subprocess.run(
            [sys.executable, "-c", code, str(gateway.port)], capture_output=True, text=True, check=True, cwd=root
        )
        counts = json.loads(made.stdout)
        assert sum(counts.values()) == 10_000
        assert set(counts) == {"401", "429"}
        assert counts["401"] * 10 <= counts["429"]
        assert gateway.ask_tcp(right, "GET", JOBS)[0] == 200
        assert gateway.log.count("is not known") == counts["401"]
        assert gateway.end() == 0


@pytest.mark.parametrize("host", [b"evil.example", b"localhost.evil.example", b"127.0.0.1.nip.io:9809", b""])
def test_a_name_that_an_attacker_lets_lead_here(gateway: Gateway, carol: str, host: bytes) -> None:
    for path in (JOBS, f"{API}/healthz"):
        words = [b"GET %s HTTP/1.1" % path.encode(), b"Host: %s" % host, b"Authorization: Bearer %s" % carol.encode()]
        assert status_of(raw(gateway, b"\r\n".join([*words, b"", b""]))) == 421


@pytest.mark.parametrize(
    "first",
    [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 4\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_request_with_two_ends_is_refused_and_nothing_behind_it_is_one(
    gateway: Gateway, carol: str, first: bytes, version: bytes
) -> None:
    head = b"Host: localhost\r\nAuthorization: Bearer %s\r\n" % carol.encode()
    hidden = b"GET %s HTTP/1.1\r\n%s\r\n" % (JOBS.encode(), head)
    answer = raw(gateway, b"POST %s/cancel HTTP/%s\r\n%s%s%s" % (API.encode(), version, head, first, hidden))
    assert answer.count(b"HTTP/1.") == 1
    assert status_of(answer) in (400, 501)


def test_one_request_on_a_connection(gateway: Gateway, carol: str) -> None:
    """Not even two good ones, so nothing that a proxy keeps open goes from one user to another."""
    one = b"GET %s/healthz HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" % API.encode()
    answer = raw(gateway, one + one)
    assert (answer.count(b"HTTP/1.1 200"), answer.count(b"Connection: close")) == (1, 1)


@pytest.mark.parametrize("target", [f"{API}/healthz", "/%ff", "/ "])
def test_a_client_that_wants_to_keep_its_connection_is_told_once_that_it_cannot(gateway: Gateway, target: str) -> None:
    asked = f"GET {target} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n"
    head = raw(gateway, asked.encode()).partition(b"\r\n\r\n")[0]
    assert [line for line in head.split(b"\r\n") if line.startswith(b"Connection:")] == [b"Connection: close"]


@pytest.mark.parametrize("lines", ["", "Content-Length: x\r\n", "Content-Length: 9999999\r\n", "X: é\r\n", "X : y\r\n"])
def test_no_answer_to_head_has_a_body(gateway: Gateway, carol: str, lines: str) -> None:
    head = f"HEAD {JOBS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {carol}\r\n{lines}\r\n"
    assert raw(gateway, head.encode("latin-1")).endswith(b"\r\n\r\n")


def test_bounds(gateway: Gateway, carol: str) -> None:
    status, answer = gateway.ask_tcp(carol, "POST", JOBS, " " * 20 * 2**20)
    assert (status, answer["error"]) == (413, "the body is larger than 8 MiB; send fewer jobs at once")
    # Nor does it take this from somebody without a token.
    assert gateway.ask_tcp(None, "POST", JOBS, " " * 20 * 2**20)[0] == 413
    assert gateway.ask_tcp(carol, "GET", JOBS, None, X="y" * 100_000)[0] == 431


def test_a_slow_header_is_cut_off(server: servers.RedisServer) -> None:
    with Gateway(server.url, patience_s=1) as gateway:
        assert gateway.ask_tcp(None, "GET", f"{API}/healthz")[0] == 200
        with socket.create_connection(("127.0.0.1", gateway.port), 60) as slow:
            slow.sendall(b"GET /api/v1/healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
            assert slow.recv(1) == b""
        assert gateway.end() == 0


def test_a_token_on_the_unix_socket_is_no_word_of_its_own(gateway: Gateway, carol: str) -> None:
    """A proxy there would let everybody act as its user: the first request that it passes on says so."""
    text = b"GET %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n" % (JOBS.encode(), carol.encode())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(gateway.path)
        assert b"tokens are for the TCP socket" in sent(connection, text)


def test_an_address_of_the_network_is_none_of_its(server: servers.RedisServer) -> None:
    with Gateway(server.url) as gateway:
        gateway.end()
        with socket.create_server(("0.0.0.0", 0)) as listening:  # noqa: S104  # that is what is refused
            gateway.listen_tcp(listening)
            gateway.start()
            assert gateway.wait() == 78
        assert "does not listen on 0.0.0.0: tokens would go over the network as plain text; " in gateway.log


def test_the_command_line_with_a_token(gateway: Gateway, carol: str) -> None:
    def said(*words: str, status: int = 0, **options: Any) -> str:
        made = command(gateway, DAVE, *words, token=carol, **options)
        assert made.returncode == status, made.stderr.decode()
        assert carol.encode() not in made.stdout + made.stderr
        return made.stdout.decode().strip()

    table = json.loads(said("config", "--json"))
    assert table["token"] == {"value": "***", "source": "environment"}
    assert (table["way"]["value"], table["broker_url"]["value"]) == ("celery-docker-api", gateway.tcp_url)
    # The account of the token counts, not that of whoever has typed it.
    assert said("run", "busybox", "id", "-u") == str(CAROL)
    made = command(gateway, DAVE, "run", "busybox", "sh", "-c", "printf 'a\\377b'; echo no >&2; exit 7", token=carol)
    assert (made.returncode, made.stdout, made.stderr) == (7, b"a\xffb", b"no\ncelery-docker: exit code 7\n")
    job_id = said("submit", "--retries", "0", "busybox", "sh", "-c", "echo hi; exit 3")
    assert said("wait", job_id, status=3) == ""
    assert said("logs", job_id) == said("logs", "-f", job_id) == "hi"
    assert json.loads(said("inspect", job_id))[0]["exit_code"] == 3
    assert said("retry", job_id) != job_id
    assert job_id in said("ps", "--all", "-q")
    assert json.loads(said("results", "--json", job_id))["state"] == "failed"
    batch_id = said("batch", "--array", "1-5%2", "busybox", "true")
    assert "5 succeeded" in said("watch", batch_id)
    assert json.loads(said("workers", "--json"))["state"] == "ready"
    assert said("queue", "length") == "0"
    assert said("doctor", status=125) == ""
    running = said("submit", "busybox", "sleep", "1000")
    eventually(lambda: "running" in said("status", running), message="the job to run")
    said("cancel", running)
    assert said("wait", running, status=143) == ""


def test_output_is_there_before_the_job_has_ended(gateway: Gateway) -> None:
    # A user without other jobs.
    gateway.users(carol=CAROL, dave=DAVE, frank=31006)
    frank = gateway.token("frank")
    with process(gateway, DAVE, "run", "busybox", "sh", "-c", "echo first; sleep 1000", token=frank) as running:
        assert running.stdout is not None
        first = running.stdout.readline()
    (job_id,) = command(gateway, DAVE, "ps", "-q", token=frank).stdout.decode().split()
    command(gateway, DAVE, "cancel", job_id, token=frank)
    assert command(gateway, DAVE, "wait", job_id, token=frank).returncode == 143
    assert first == b"first\n"


def test_a_wrong_token_is_told_in_one_line(gateway: Gateway) -> None:
    made = command(gateway, DAVE, "ps", token="x" * 43)
    assert made.returncode == 125
    assert made.stderr.startswith(b"celery-docker: this token is not known")
    assert (made.stderr.count(b"\n"), b"x" * 43 in made.stderr) == (1, False)


def test_a_signed_job_of_a_token_runs_as_its_account(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd
) -> None:
    with Gateway(clean_redis.url) as gateway:
        gateway.users(carol=CAROL)
        KeyFile(str(gateway.key)).write(Keys(b"k" * 32))
        worker = Worker(clean_redis.url, dockerd, CELERY_DOCKER_KEY=str(gateway.key))
        worker.policy.write_text('submitters = "signed"\nmounts = ["/tmp"]\nnetworks = ["none"]\nusers = ["self"]\n')
        with worker:
            made = command(gateway, DAVE, "run", "busybox", "id", "-u", token=gateway.token("carol"))
            assert (made.stdout, made.returncode) == (b"%d\n" % CAROL, 0), made.stderr
            # Whoever may name any user is still no other one to the worker.
            made = command(gateway, DAVE, "run", "-u", "0:0", "busybox", "id", token=gateway.token("carol", "admin"))
            assert (made.stdout, made.returncode) == (b"", 125), made.stderr


def test_the_worker_samples_what_there_is(gateway: Gateway, carol: str) -> None:
    def sampled() -> bool:
        table = gateway.ask_tcp(carol, "GET", f"{API}/history")[1]
        return bool(table["hosts"]) and any(count is not None for count in table["queued"])

    eventually(sampled, 60, message="a sample of these five minutes")
    status, answer = gateway.ask_tcp(carol, "GET", f"{API}/summary")
    assert (status, answer["hosts"]) == (200, {"ready": 1})
    # Other tests here have left jobs in a queue that nobody serves.
    assert {problem["queue"] for problem in answer["problems"]} <= {"nowhere"}
