"""The gateway as a process, over a real Redis: who sees what, what it refuses, and that no request is lost."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import http.client
import json
import os
import selectors
import socket
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from celery_docker import errors
from celery_docker.client.client import Client
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.core import message
from celery_docker.core.container import Stream
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.core.output import Chunk, Piece
from celery_docker.core.signingkeys import Keys
from celery_docker.gateway import webserver
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys, livelog
from celery_docker.store.hosts import HostStore
from celery_docker.store.housekeeping import Housekeeping
from tests import gateways, servers
from tests.gateways import Gateway
from tests.waiting import eventually

ALICE, BOB, WWW, NOBODY = 31001, 31002, 33, 65534
ONE = {"image": "busybox", "command": "true"}
API = "/api/v1"
JOBS = f"{API}/jobs"
READER = "0123456789abcdef" * 2


@pytest.fixture(scope="module")
def gateway(server: servers.RedisServer) -> Iterator[Gateway]:
    with Gateway(server.url) as gateway:
        yield gateway
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@pytest.fixture
def client(server: servers.RedisServer) -> Iterator[Client]:
    with closing(Client(server.url)) as client:
        yield client


def submitted(gateway: Gateway, uid: int, document: dict[str, Any] | None = None) -> str:
    ((status, body),) = gateway.ask_as(uid, ("POST", JOBS, document or ONE))
    assert status == 201, body
    return str(body["id"])


def send_slowly(raw: socket.socket) -> None:
    for _ in range(1_200):
        raw.send(b"X")
        time.sleep(0.05)


def ended(client: Client, job_id: str, state: State = State.FAILED) -> None:
    """Let a worker end a job without running it."""
    envelope = json.loads(client.store.record(job_id)["message"])
    claim = client.store.claim(job_id, host="node1", queue="celery", envelope=envelope)
    client.store.finish(Holding(job_id, "node1", claim.fence), state, {"state": state.value, "id": job_id})


def test_the_kernel_says_who_asks(gateway: Gateway) -> None:
    ((_, body),) = gateway.ask_as(ALICE, ("GET", "/api/v1/identity"), groups=[31001, 44], gid=31009)
    assert body == {
        "name": str(ALICE),
        "uid": ALICE,
        "gid": 31009,
        "groups": [44, 31001],
        "may_read": True,
        "may_submit": True,
        "may_cancel": True,
        "may_everything": False,
        "token": None,
        "session_until": None,
    }
    assert gateway.ask("GET", "/api/v1/identity")[1]["may_everything"] is True


def test_a_job_runs_as_its_submitter_and_its_record_says_whose_it_is(gateway: Gateway, client: Client) -> None:
    record = client.store.record(submitted(gateway, ALICE))
    assert (record["uid"], json.loads(record["spec"])["user"]) == (str(ALICE), f"{ALICE}:{ALICE}")
    assert record["submitted_by"] == f"{ALICE}@{socket.gethostname()}"
    kwargs = json.loads(base64.b64decode(json.loads(record["message"])["body"]))[1]
    assert kwargs["user"] == f"{ALICE}:{ALICE}"
    assert json.loads(client.store.record(gateway.ask("POST", JOBS, ONE)[1]["id"])["spec"])["user"] == "0:0"
    named = gateway.ask("POST", JOBS, {**ONE, "user": "bob"})[1]["id"]
    assert json.loads(client.store.record(named)["spec"])["user"] == "bob"


@pytest.mark.parametrize("user", ["0:0", "root", str(BOB), f"{ALICE}:0", 0])
def test_a_forged_user_queues_nothing(gateway: Gateway, client: Client, user: Any) -> None:
    before = client.queries.jobs.load()
    document = {**ONE, "user": user}
    answers = gateway.ask_as(ALICE, ("POST", JOBS, document), ("POST", JOBS, {"jobs": [ONE, document], "batch": {}}))
    for status, body in answers:
        assert status == 403
        line = f"user: '{user}' is not the submitter: jobs of '{ALICE}' (uid {ALICE}) run as {ALICE}:{ALICE};"
        assert body["error"].startswith(line)
    assert client.queries.jobs.load() == before


@pytest.mark.parametrize("uid", [WWW, NOBODY])
def test_accounts_of_services_only_read(gateway: Gateway, uid: int) -> None:
    job_id = submitted(gateway, ALICE)
    answers = gateway.ask_as(
        uid,
        ("GET", JOBS),
        ("GET", "/api/v1/queue"),
        ("POST", JOBS, ONE),
        ("POST", f"{JOBS}/{job_id}/cancel"),
        ("POST", "/api/v1/cancel", {"ids": [job_id]}),
        ("PUT", f"{JOBS}/{job_id}/readers/{READER}", {"taken": "0-0", "number": 1}),
    )
    assert [status for status, _ in answers] == [200, 200, 403, 403, 403, 404]


def test_a_job_of_another_is_not_there(gateway: Gateway, client: Client) -> None:
    """Every way to a job, as somebody else: the answers are those for an id that nobody has."""
    job_id, other = submitted(gateway, ALICE), str(uuid.uuid4())
    batch = gateway.ask_as(ALICE, ("POST", JOBS, {"jobs": [ONE], "batch": {}}))[0][1]["batch"]["id"]
    ended(client, submitted(gateway, ALICE))

    def requests(name: str, batch_id: str) -> list[tuple[Any, ...]]:
        return [
            ("GET", f"{JOBS}/{name}"),
            ("GET", f"{JOBS}/{name}/logs"),
            ("POST", f"{JOBS}/{name}/cancel"),
            ("POST", f"{JOBS}/{name}/retry"),
            ("DELETE", f"{JOBS}/{name}/readers/{READER}"),
            ("GET", f"/api/v1/lookup?id={name}"),
            ("GET", f"{JOBS}?ids={name}"),
            ("GET", f"/api/v1/states?ids={name}"),
            ("GET", f"/api/v1/receipts?ids={name}"),
            ("POST", "/api/v1/cancel", {"ids": [name]}),
            ("POST", "/api/v1/retry", {"ids": [name]}),
            ("POST", JOBS, {**ONE, "after": [name]}),
            ("GET", f"/api/v1/batches/{batch_id}"),
            ("GET", f"{JOBS}?batch={batch_id}"),
        ]

    theirs = gateway.ask_as(BOB, *requests(job_id, batch))
    nobodys = gateway.ask_as(BOB, *requests(other, str(uuid.uuid4())))
    hidden = [(status, json.dumps(body).replace(job_id, "ID").replace(batch, "ID")) for status, body in theirs]
    for (status, text), (other_status, body) in zip(hidden, nobodys, strict=True):
        assert status == other_status
        assert json.loads(text).keys() == body.keys()
    assert [status for status, _ in theirs] == [404] * 6 + [200] * 4 + [404] * 4
    # Into the batch of another, and under the id of his job.
    refused = gateway.ask_as(
        BOB,
        ("POST", JOBS, {"jobs": [ONE], "batch": {"id": batch}}),
        ("POST", JOBS, {"jobs": [ONE], "ids": [job_id]}),
        ("PUT", f"{JOBS}/{job_id}/readers/{READER}", {"taken": "0-0", "number": 1}),
        ("GET", JOBS),
        ("GET", "/api/v1/batches"),
    )
    assert [status for status, _ in refused] == [404, 409, 404, 200, 200]
    assert refused[3][1]["jobs"] == refused[4][1]["batches"] == []
    assert client.queries.jobs.row(job_id).cancel_reason is None
    # Whoever may everything sees it.
    assert gateway.ask("GET", f"{JOBS}/{job_id}")[1]["uid"] == ALICE
    assert gateway.ask_as(ALICE, ("GET", f"{JOBS}/{job_id}"))[0][0] == 200


def test_cancel_and_retry(gateway: Gateway, client: Client) -> None:
    first, second = submitted(gateway, ALICE), submitted(gateway, ALICE)
    answers = gateway.ask_as(
        ALICE,
        ("POST", f"{JOBS}/{first}/retry"),
        ("POST", f"{JOBS}/{first}/cancel", {"reason": "a wrong input"}),
        ("POST", "/api/v1/cancel", {"ids": [second, str(uuid.uuid4())]}),
    )
    assert [status for status, _ in answers] == [409, 200, 200]
    assert answers[1][1] == {"id": first, "state": "queued"}
    assert [entry["state"] for entry in answers[2][1]["jobs"]] == ["queued", "unknown"]
    assert client.queries.jobs.row(first).cancel_reason == "a wrong input"
    failed = submitted(gateway, ALICE)
    ended(client, failed)
    new_id = str(uuid.uuid4())
    again = ("POST", "/api/v1/retry", {"ids": [failed], "new_ids": [new_id]})
    # The second time is that of a client who has not heard the first answer.
    for status, body in gateway.ask_as(ALICE, again, again):
        assert (status, body) == (201, {"jobs": [{"id": new_id, "retry_of": failed}]})
    record = client.store.record(new_id)
    assert (record["uid"], record["retry_of"]) == (str(ALICE), failed)
    # An administrator's retry stays its user's.
    theirs = gateway.ask("POST", f"{JOBS}/{failed}/retry")[1]["id"]
    assert client.store.record(theirs)["uid"] == str(ALICE)


def test_a_retry_runs_as_nobody_else(gateway: Gateway, client: Client) -> None:
    """Whoever writes to Redis can change the spec in a record: it is judged again."""
    job_id = submitted(gateway, ALICE)
    ended(client, job_id)
    with client.store.link.translated():
        client.store.link.client.hset(keys.job(job_id), "spec", json.dumps({**ONE, "user": "0:0"}))
    ((status, body),) = gateway.ask_as(ALICE, ("POST", f"{JOBS}/{job_id}/retry"))
    assert (status, body["error"].startswith("user: '0:0' is not the submitter")) == (403, True)


def test_a_retry_of_a_signed_job_is_what_was_signed(server: servers.RedisServer, client: Client) -> None:
    """Nothing else of its record counts."""
    with Gateway(server.url) as gateway:
        KeyFile(str(gateway.key)).write(Keys(b"k" * 32))
        job_id = submitted(gateway, ALICE)
        ended(client, job_id)
        forged = json.dumps({**ONE, "image": "forged", "user": "0:0"})
        with client.store.link.translated():
            client.store.link.client.hset(keys.job(job_id), "spec", forged)
        ((status, body),) = gateway.ask_as(ALICE, ("POST", f"{JOBS}/{job_id}/retry"))
        assert (status, body["retry_of"]) == (201, job_id)
        with client.store.link.translated():
            spec = json.loads(client.store.link.client.hget(keys.job(body["id"]), "spec"))
        assert (spec["image"], spec["user"]) == (ONE["image"], f"{ALICE}:{ALICE}")


def test_pages_have_each_job_once_and_filters_hold(gateway: Gateway) -> None:
    documents = [{**ONE, "name": "even" if number % 2 else "odd"} for number in range(700)]
    asked = gateway.ask_as(
        BOB, ("POST", JOBS, {"jobs": documents}), ("GET", f"{JOBS}?limit=500"), ("GET", f"{JOBS}?limit=500&name=even")
    )
    ids = [entry["id"] for entry in asked[0][1]["jobs"]]
    page = asked[1][1]
    rest = gateway.ask_as(BOB, ("GET", f"{JOBS}?limit=500&before={page['next']}"))[0][1]
    assert [entry["id"] for entry in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert rest["next"] is None
    assert {entry["name"] for entry in asked[2][1]["jobs"]} == {"even"}
    assert len(asked[2][1]["jobs"]) == 350
    nothing = gateway.ask_as(BOB, ("GET", f"{JOBS}?state=failed,lost"), ("GET", f"{JOBS}?host=node9"))
    assert [body["jobs"] for _, body in nothing] == [[], []]
    ((_, elsewhere),) = gateway.ask_as(BOB, ("POST", JOBS, {**ONE, "queue": "elsewhere", "priority": 9}))
    for query, listed in (("queue=elsewhere", [elsewhere["id"]]), ("queue=no+queue&state=queued", [])):
        assert [job["id"] for job in gateway.ask_as(BOB, ("GET", f"{JOBS}?{query}"))[0][1]["jobs"]] == listed
    named = f"{JOBS}?ids={','.join(ids[3:6])}"
    assert [entry["id"] for entry in gateway.ask_as(BOB, ("GET", f"{named}&fields=id"))[0][1]["jobs"]] == ids[3:6]
    # It would be passed over, and the jobs taken for failed ones.
    assert gateway.ask_as(BOB, ("GET", f"{named}&state=failed"))[0] == (
        400,
        {"error": "state: does not choose among the jobs that ids names; leave out one of both", "kind": "SpecError"},
    )


@pytest.mark.parametrize("has_lists", [True, False])
def test_pages_by_state_have_each_job_once_while_jobs_end(*, has_lists: bool) -> None:
    """For a user, and for an administrator, who sees those of others as well; others come meanwhile."""
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, closing(Client(redis.url)) as client:
        jobs = {"jobs": [ONE] * 30}
        ids = {
            uid: [job["id"] for job in gateway.ask_as(uid, ("POST", JOBS, jobs))[0][1]["jobs"]] for uid in (ALICE, BOB)
        }
        queued = [*ids[ALICE][::2], *ids[BOB]]
        for job_id in ids[ALICE][1::2]:
            ended(client, job_id)
        if has_lists:
            Housekeeping(client.store.link).keep_lists(time.time())
        for uid, own in ((ALICE, ids[ALICE]), (0, ids[ALICE] + ids[BOB])):
            seen, target = [], f"{JOBS}?limit=9&state=failed,queued"
            page = gateway.ask_as(uid, ("GET", target))[0][1]
            while page["next"] is not None:
                seen += [job["id"] for job in page["jobs"]]
                ended(client, queued.pop())
                ended(client, queued.pop(0))
                submitted(gateway, BOB)
                page = gateway.ask_as(uid, ("GET", f"{target}&before={page['next']}"))[0][1]
            seen += [job["id"] for job in page["jobs"]]
            assert [job_id for job_id in seen if job_id in own] == own[::-1]
            assert len(seen) == len(set(seen))
        assert gateway.ask("GET", f"{JOBS}?state=succeeded")[1]["jobs"] == []


def test_the_jobs_of_a_batch_come_from_either_end(gateway: Gateway, client: Client) -> None:
    made = gateway.ask_as(BOB, ("POST", JOBS, {"jobs": [ONE] * 7, "batch": {"name": "n"}}))[0][1]
    ids, of_batch = [job["id"] for job in made["jobs"]], f"{JOBS}?batch={made['batch']['id']}"
    for job_id in ids[::2]:
        ended(client, job_id)

    def walked(target: str) -> list[str]:
        seen, page = [], gateway.ask_as(BOB, ("GET", target))[0][1]
        while page["next"] is not None:
            seen += [job["id"] for job in page["jobs"]]
            page = gateway.ask_as(BOB, ("GET", f"{target}&before={page['next']}"))[0][1]
        return seen + [job["id"] for job in page["jobs"]]

    assert walked(f"{of_batch}&limit=3") == ids[::-1]
    assert walked(f"{of_batch}&limit=3&order=number") == ids
    assert walked(f"{of_batch}&limit=2&order=number&state=failed&fields=id") == ids[::2]
    for target in (f"{JOBS}?order=number", f"{of_batch}&order=name"):
        ((status, body),) = gateway.ask_as(BOB, ("GET", target))
        assert (status, body["error"].partition(":")[0]) == (400, "order")
    assert gateway.ask_as(ALICE, ("GET", f"{of_batch}&order=number"))[0][0] == 404


def test_a_batch_in_two_parts_and_twice_the_same(gateway: Gateway, client: Client) -> None:
    batch_id, ids = str(uuid.uuid4()), [str(uuid.uuid4()) for _ in range(3)]
    batch = {"id": batch_id, "name": "n", "limit": 2, "size": 3}
    first = ("POST", JOBS, {"jobs": [ONE, ONE], "ids": ids[:2], "batch": {**batch, "indexes": [1, 2]}})
    second = ("POST", JOBS, {"jobs": [ONE], "ids": ids[2:], "batch": {**batch, "indexes": [3]}})
    answers = gateway.ask_as(
        ALICE, first, first, second, ("GET", f"/api/v1/batches/{batch_id}"), ("GET", "/api/v1/batches")
    )
    assert [status for status, _ in answers] == [201, 201, 201, 200, 200]
    document = answers[3][1]
    assert (document["jobs"], document["size"], document["limit"]) == (ids, 3, 2)
    assert document["counts"] == {"queued": 3}
    assert answers[4][1]["batches"][0]["id"] == batch_id
    assert client.queries.jobs.row(ids[2]).held
    env = json.loads(client.store.record(ids[2])["spec"])["env"]
    assert env["CELERY_DOCKER_BATCH_SIZE"] == "3"


def test_a_key_that_is_no_batch_is_none(gateway: Gateway, client: Client) -> None:
    """That of a batch's jobs, by a name that anybody can write; and one that somebody has put there."""
    body = {"jobs": [ONE], "batch": {"name": "mine"}}
    ((status, made),) = gateway.ask_as(ALICE, ("POST", JOBS, body))
    assert status == 201
    redis = client.store.link.client
    redis.lpush(keys.batch("wrong"), "x")
    redis.zadd(keys.BATCHES, {"wrong": time.time()})
    try:
        for name in (f"{made['batch']['id']}:jobs", "wrong"):
            for status, _ in (
                gateway.ask("GET", f"/api/v1/batches/{name}"),
                gateway.ask("GET", f"{JOBS}?batch={name}"),
                gateway.ask_as(ALICE, ("GET", f"/api/v1/batches/{name}"))[0],
            ):
                assert status in (400, 404)
        assert "mine" in [row["name"] for row in gateway.ask("GET", "/api/v1/batches")[1]["batches"]]
    finally:
        redis.delete(keys.batch("wrong"))
        redis.zrem(keys.BATCHES, "wrong")


def test_every_problem_of_many_documents_is_told_at_once(gateway: Gateway) -> None:
    documents = [ONE, {"image": ""}, {**ONE, "memory": "lots"}]
    status, body = gateway.ask("POST", JOBS, {"jobs": documents})
    assert status == 400
    assert body["error"].startswith("jobs[1]: image: ")
    assert "jobs[2]: memory: 'lots'" in body["error"]
    shared = {**ONE, "logoutfile": "/srv/a.log"}
    status, body = gateway.ask("POST", JOBS, {"jobs": [shared, shared], "batch": {}})
    assert (status, "'/srv/a.log' is the log file of 2 jobs" in body["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("POST", JOBS, "", 400),
        ("POST", JOBS, "[]", 400),
        ("POST", JOBS, "{", 400),
        ("POST", JOBS, "\xff\xfe", 400),
        ("POST", JOBS, "[" * 1_000_000, 400),
        ("POST", JOBS, '{"a":' * 100_000, 400),
        ("POST", JOBS, '{"image": "\\ud800"}', 400),
        ("POST", JOBS, '{"image": "busybox", "image": "busybox"}', 400),
        ("POST", JOBS, '{"image": "busybox", "cpus": 1e999}', 400),
        ("POST", JOBS, '{"image": "busybox", "env": {"A": "' + "x" * 2_000_000 + '"}}', 400),
        ("POST", JOBS, " " * 20 * 2**20, 413),
        ("POST", f"{JOBS}/x/cancel", '{"reason": 5}', 404),
        ("POST", "/api/v1/cancel", '{"ids": ["j1"], "reason": 5}', 400),
        ("GET", JOBS, "{}", 400),
        ("GET", f"{JOBS}?before=x", None, 400),
        ("GET", f"{JOBS}?before=nan_x", None, 400),
        ("GET", f"{JOBS}?limit=-1", None, 400),
        ("GET", f"{JOBS}/%ff", None, 400),
        ("GET", f"{JOBS}/" + "a" * 10_000, None, 404),
        ("GET", "/" + "a" * 100_000, None, 431),
        ("GET", "/../../etc/passwd", None, 404),
        ("TRACE", JOBS, None, 405),
        ("DELETE", JOBS, None, 405),
        ("BREW", "/", None, 405),
    ],
)
def test_rubbish_is_refused_in_one_line(
    gateway: Gateway, method: str, target: str, body: str | None, status: int
) -> None:
    got, text = gateways.ask(gateway.path, method, target, body)
    assert got == status, text[:500]
    answer = json.loads(text)
    assert answer.keys() - {"kind"} == {"error"}
    assert "\n" not in answer["error"]
    assert len(text) < 3000
    assert gateway.ask("GET", "/api/v1/healthz")[0] == 200


def peak_bytes(gateway: Gateway) -> int:
    assert gateway.process is not None
    lines = Path(f"/proc/{gateway.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_without_room_for_files_large_requests_are_refused_and_large_answers_are_whole(
    server: servers.RedisServer, client: Client, tmp_path: Path
) -> None:
    """What does not fit into memory goes to a temporary file; other requests do without."""
    large = {**ONE, "command": ["echo", *["x" * 100_000] * 7]}
    with servers.disk_in_memory(tmp_path, "size=8m"), Gateway(server.url, environ={"TMPDIR": str(tmp_path)}) as gateway:
        status, body = gateway.ask("POST", JOBS, large)
        assert status == 201, body
        ballast = servers.fill(tmp_path, 2**18)
        http = HttpSocket(gateway.url)
        with pytest.raises(errors.StoreAway) as raised:
            http.send("POST", "jobs", body=large)
        assert str(raised.value) == (
            "there is no room for the body: No space left on device; make room on the disk of /tmp, or send fewer "
            "jobs at once"
        )
        raw_body = json.dumps(large)
        chunks = [f"{len(part):x}\r\n{part}\r\n" for part in (raw_body[:1000], raw_body[1000:], "")]
        head = f"POST {JOBS} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(60)
            raw.connect(gateway.path)
            raw.sendall((head + "".join(chunks)).encode())
            assert raw.recv(4096).startswith(b"HTTP/1.1 503 ")
        assert gateway.ask("POST", JOBS, ONE)[0] == 201
        assert gateway.ask("GET", f"{JOBS}/{body['id']}")[1]["spec"]["command"] == large["command"]
        ballast.unlink()
        assert gateway.ask("POST", JOBS, large)[0] == 201
        assert gateway.end() == 0
        assert "Traceback" not in gateway.log


@pytest.mark.parametrize(
    "body",
    [
        "[" + "[]," * 2_700_000 + "[]]",
        '{"jobs":[' + '{"a":1},' * 1_000_000 + "{}]}",
        '{"image":"busybox","command":[' + '"a",' * 2_000_000 + '"a"]}',
        '{"image":"busybox","env":{' + ",".join(f'"{number:06}":"1"' for number in range(600_000)) + "}}",
        '{"image":"busybox","command":"' + "a " * 4_000_000 + '"}',
        '{"image":"\xf0\x9f\x98\x80' + "a" * 8_000_000 + '"}',
    ],
    ids=["lists", "tables", "command", "env", "words", "wide"],
)
def test_no_body_takes_more_memory_than_the_service_may_have(server: servers.RedisServer, body: str) -> None:
    """Each from several users at once; its unit has 512 MiB, of which half a hundred slow ones may have some."""
    with Gateway(server.url) as gateway:
        asking = [threading.Thread(target=gateways.ask, args=(gateway.path, "POST", JOBS, body)) for _ in range(6)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        status, answer = gateways.ask(gateway.path, "POST", JOBS, body)
        assert (status, json.loads(answer).keys() <= {"error", "kind"}) == (400, True)
        assert peak_bytes(gateway) < 256 * 2**20


def answered(gateway: Gateway, text: bytes) -> bytes:
    """Return all that comes for what was sent, whatever it was."""
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(20)
        raw.connect(gateway.path)
        raw.sendall(text)
        return b"".join(iter(lambda: raw.recv(4096), b""))


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01",
        b"GET /nowhere\r\n",
        b"PING",
        b"GET http://[ HTTP/1.1",
        b"GET http://[zz]/api/v1/jobs HTTP/1.1",
        b"POST /api/v1/jobs HTTP/1.1\r\nContent-Length: " + b"9" * 5000,
        b"POST /api/v1/jobs HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 99999999",
    ],
)
def test_what_is_no_http_is_refused_too(gateway: Gateway, text: bytes) -> None:
    answer = answered(gateway, text + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1."), answer
    assert b'{"error":' in answer
    assert "Traceback" not in gateway.log
    assert "uncaptured" not in gateway.log


@pytest.mark.parametrize("text", [b"2;" + b"a" * 5_000, b"0\r\n" + b"a: b\r\n" * 1_000])
def test_what_goes_with_chunks_has_a_bound(gateway: Gateway, text: bytes) -> None:
    """Its end does not have to come, since looking for that takes longer with each piece."""
    answer = answered(gateway, b"POST /api/v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + text)
    assert answer.startswith(b"HTTP/1.1 400 "), answer


def test_who_asks_before_a_body_that_he_has_not_is_answered(gateway: Gateway) -> None:
    answer = answered(gateway, b"GET /api/v1/healthz HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(("target", "status"), [("/api/v1/jobs", b"200 OK"), ("/nothing", b"404 Not Found")])
def test_head_has_no_body(gateway: Gateway, target: str, status: bytes) -> None:
    head, end, body = answered(gateway, f"HEAD {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert b"Content-Length: " in head
    assert (end, body) == (b"\r\n\r\n", b"")


def test_a_slow_header_is_cut_off(server: servers.RedisServer) -> None:
    with Gateway(server.url, patience_s=1) as gateway, socket.socket(socket.AF_UNIX) as slow:
        assert gateway.ask("GET", "/api/v1/healthz")[0] == 200
        slow.settimeout(60)
        slow.connect(gateway.path)
        # A byte now and then is no sign of life.
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_slowly(slow)


def test_who_was_kept_waiting_has_the_whole_patience_for_his_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A large answer comes late where Redis was slow, or many asked for such ones: that is not the reader's time."""
    body, is_sent, is_looked_at = b"x" * 2**23, threading.Event(), threading.Event()
    look = webserver._Server.maintenance

    def maintenance(server: webserver._Server, now: float) -> None:
        was_sent = is_sent.is_set()
        look(server, now)
        if was_sent:
            is_looked_at.set()

    def answer(environ: Any, respond: Any) -> list[bytes]:
        for channel in server._servers[0].active_channels.values():
            channel.creation_time -= 1000
        respond("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    monkeypatch.setattr(webserver._Server, "maintenance", maintenance)
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as reader:
        listening.bind(str(tmp_path / "api.sock"))
        listening.listen()
        listening.setblocking(False)
        server = webserver.WebServer([listening], answer, 1, idle_s=600, patience_s=30)  # type: ignore[arg-type]
        serving = threading.Thread(target=server.run)
        serving.start()
        try:
            reader.settimeout(60)
            reader.connect(listening.getsockname())
            reader.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            text = reader.recv(1)
            is_sent.set()
            assert is_looked_at.wait(60)
            while piece := reader.recv(2**20):
                text += piece
        finally:
            server.stop()
            serving.join(60)
    assert len(text.partition(b"\r\n\r\n")[2]) == len(body)


# Connects many times as another user, says how many connections were closed at once, and keeps the others.
_HOLD = """
import os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[1]))
held = [socket.socket(socket.AF_UNIX) for _ in range(400)]
for raw in held:
    raw.connect(sys.argv[2])
closed = 0
for raw in held:
    raw.settimeout(2 if raw is held[-1] else 0.01)
    try:
        closed += raw.recv(1) == b""
    except ConnectionResetError:
        closed += 1
    except TimeoutError:
        pass
print(closed, flush=True)
sys.stdin.read()
"""


def test_one_user_does_not_keep_the_others_out(gateway: Gateway) -> None:
    words = [sys.executable, "-c", _HOLD, str(ALICE), gateway.path]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert int(holder.stdout.readline()) >= 400 - 128
        assert gateway.ask_as(BOB, ("GET", "/api/v1/healthz"))[0][0] == 200
        assert gateway.ask("GET", "/api/v1/healthz")[0] == 200


def test_connections_without_a_request_keep_nobody_out(server: servers.RedisServer) -> None:
    """Over TCP, where nobody is known before his request."""
    with Gateway(server.url, patience_s=600) as gateway, contextlib.ExitStack() as opened:
        token = gateway.token("root", "read")
        for _ in range(700):
            raw = opened.enter_context(socket.create_connection(("127.0.0.1", gateway.port), 60))
            raw.sendall(b"GET / HTTP/1.1\r\n")
        assert gateway.ask_tcp(token, "GET", "/api/v1/identity")[0] == 200


def sent_as(uid: int, gateway: Gateway) -> socket.socket:
    """Return a connection of another user on which a list of his jobs is asked for, once the service has read that."""
    raw = socket.socket(socket.AF_UNIX)
    os.seteuid(uid)
    try:
        raw.connect(gateway.path)
    finally:
        os.seteuid(0)
    raw.sendall(f"GET {JOBS} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    eventually(lambda: fcntl.ioctl(raw, termios.TIOCOUTQ, b"1234") == b"\0\0\0\0", message="the request to be read")
    return raw


def test_nobody_waits_for_all_that_another_has_asked() -> None:
    """While Redis hangs, requests take all threads, and more of them wait."""
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, contextlib.ExitStack() as opened:
        assert gateway.ask("GET", JOBS)[0] == 200
        redis.pause()
        opened.callback(redis.resume)
        connections = [opened.enter_context(sent_as(ALICE, gateway)) for _ in range(60)]
        last = opened.enter_context(sent_as(BOB, gateway))
        redis.resume()
        with selectors.DefaultSelector() as answers:
            for raw in (*connections, last):
                answers.register(raw, selectors.EVENT_READ)
            count = 0
            while last in answers.get_map():
                for key, _ in answers.select(60):
                    answers.unregister(key.fileobj)
                    count += key.fileobj is not last
        assert count < 50


def test_output_for_a_reader_that_is_attached(gateway: Gateway, client: Client) -> None:
    job_id = str(uuid.uuid4())
    sign = ("PUT", f"{JOBS}/{job_id}/readers/{READER}", {"taken": "0-0", "number": 1})
    submit = ("POST", JOBS, {"jobs": [ONE], "ids": [job_id]})
    assert [status for status, _ in gateway.ask_as(ALICE, sign, submit)] == [200, 201]
    envelope = json.loads(client.store.record(job_id)["message"])
    fence = client.store.claim(job_id, host="node1", queue="celery", envelope=envelope).fence
    log = livelog.LiveLog(client.store.link)
    assert log.beginning(job_id, 1).signs == {READER: "0-0 1"}
    data = bytes(range(256))
    log.append([Chunk(job_id, "node1", fence, (Piece(Stream.STDERR, 1, 0, data),))])
    ((_, body),) = gateway.ask_as(ALICE, ("GET", f"{JOBS}/{job_id}/logs?wait=2"))
    (piece,) = body["pieces"]
    assert base64.b64decode(piece.pop("base64")) == data
    assert (piece, body["has_ended"]) == ({"stream": "stderr", "attempt": 1, "offset": 0}, False)
    target = f"{JOBS}/{job_id}/logs?after={body['last']}"
    ((_, rest),) = gateway.ask_as(ALICE, ("GET", target))
    assert (rest["pieces"], rest["last"]) == ([], body["last"])
    assert gateway.ask_as(ALICE, ("DELETE", f"{JOBS}/{job_id}/readers/{READER}"))[0][0] == 200
    assert log.beginning(job_id, 1).signs == {}
    client.store.finish(Holding(job_id, "node1", fence), State.SUCCEEDED, {"state": "succeeded"})
    assert gateway.ask_as(ALICE, ("GET", target))[0][1]["has_ended"] is True


def test_rows_have_the_fields_that_were_asked_for(gateway: Gateway, client: Client) -> None:
    job_id = submitted(gateway, 31078, {**ONE, "labels": {"secret": "x"}})
    ((status, body),) = gateway.ask_as(31078, ("GET", f"{JOBS}?fields=id,state"))
    assert (status, body["jobs"]) == (200, [{"id": job_id, "state": "queued"}])
    ((status, body),) = gateway.ask_as(31078, ("GET", f"{JOBS}?fields=id,env"))
    assert (status, body["error"].partition(", ")[0]) == (400, "fields: 'env' is none of id")
    batch = gateway.ask("POST", JOBS, {"jobs": [ONE, ONE], "batch": {"name": "two"}})[1]["batch"]["id"]
    assert gateway.ask("GET", f"{API}/batches/{batch}?fields=name,size") == (200, {"name": "two", "size": 2})
    assert len(gateway.ask("GET", f"{API}/batches/{batch}?fields=jobs")[1]["jobs"]) == 2
    assert gateway.ask("GET", f"{API}/batches?limit=1&fields=size")[1]["batches"] == [{"size": 2}]
    for text in ("", "a,", "a b", ",".join(["id"] * 51)):
        assert gateway.ask("GET", f"{JOBS}?fields={quote(text)}")[0] == 400


def test_only_ones_own_jobs_and_only_the_latest(gateway: Gateway, client: Client) -> None:
    """Also for somebody who sees all jobs, and of a batch."""
    others = submitted(gateway, 31079)
    own = gateway.ask("POST", JOBS, ONE)[1]["id"]

    def listed(query: str) -> list[str]:
        status, body = gateway.ask("GET", f"{JOBS}?limit=500&{query}")
        assert status == 200
        return [job["id"] for job in body["jobs"]]

    assert {own, others} <= {*listed("since=3600")}
    assert (own in listed("mine=1"), others in listed("mine=1")) == (True, False)
    client.store.link.client.hset(keys.job(own), "submitted_at", time.time() - 3601)
    assert own not in listed("since=3600")
    assert own in listed("since=7200&mine=1")
    for query in ("mine=0", "mine=", "since=0", "since=-1", "since=1.5", f"since={10**9}"):
        assert gateway.ask("GET", f"{JOBS}?{query}")[0] == 400, query


def test_hosts_come_in_pages() -> None:
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, closing(Client(redis.url)) as client:
        for name in ("b", "a", "d", "c"):
            HostStore(client.store.link).beat(name, machine=name, about={})

        def page(query: str) -> tuple[list[str], str | None]:
            status, body = gateway.ask("GET", f"{API}/hosts?{query}")
            assert status == 200
            return [host["host"] for host in body["hosts"]], body["next"]

        assert page("") == (["a", "b", "c", "d"], None)
        assert page("limit=3") == (["a", "b", "c"], "c")
        assert page("limit=3&before=c") == (["d"], None)
        assert page("limit=4") == (["a", "b", "c", "d"], None)
        assert gateway.ask("GET", f"{API}/hosts?fields=host&limit=1")[1]["hosts"] == [{"host": "a"}]
        assert gateway.ask("GET", f"{API}/hosts?limit=0")[0] == 400


def test_an_index_of_a_user_is_cleared_with_his_records(gateway: Gateway, client: Client) -> None:
    job_id = submitted(gateway, 31077)
    redis = client.store.link.client
    assert redis.zscore(keys.USERS, "31077") is not None
    redis.delete(keys.job(job_id))
    Housekeeping(client.store.link).forget_expired(time.time() + 60)
    assert redis.zscore(keys.USERS, "31077") is None
    assert redis.exists(keys.user_jobs("31077")) == 0
    assert redis.zscore(keys.USERS, str(BOB)) is not None


def test_redis_away_is_an_answer_and_no_password_is_in_it() -> None:
    with servers.RedisServer({"requirepass": "hunter2"}) as redis, Gateway(redis.url) as gateway:
        assert gateway.ask("GET", "/api/v1/healthz")[0] == 200
        redis.end()
        for method, target, body in (("GET", "/api/v1/healthz", None), ("POST", JOBS, ONE), ("GET", JOBS, None)):
            status, answer = gateway.ask(method, target, body)
            assert status == 503
            assert "cannot reach Redis" in answer["error"]
            assert "hunter2" not in answer["error"]
        redis.start()
        assert gateway.ask("POST", JOBS, ONE)[0] == 201
        assert gateway.end() == 0
        assert "hunter2" not in gateway.log


def test_a_bad_setting_is_told_to_whoever_asks() -> None:
    with Gateway("redis://:hunter2@") as gateway:
        status, answer = gateway.ask("GET", "/api/v1/healthz")
        assert status == 503
        assert answer["error"].startswith("CELERY_DOCKER_BROKER_URL='redis://:***@': must look like")
        assert answer["error"].endswith(
            "; correct it, then: systemctl try-restart celery-docker-api celery-docker-api-tcp"
        )
        assert gateway.end() == 0
        assert "hunter2" not in gateway.log


def test_a_restart_under_load_answers_every_request(server: servers.RedisServer) -> None:
    """The socket stays: what connects between two processes waits for the second."""
    with Gateway(server.url) as gateway:
        statuses: list[object] = []
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.is_set():
                try:
                    statuses.append(gateway.ask("POST", JOBS, ONE)[0])
                except (OSError, http.client.HTTPException) as exc:
                    statuses.append(repr(exc))

        clients = [threading.Thread(target=ask) for _ in range(40)]
        for thread in clients:
            thread.start()
        for _ in range(3):
            before = len(statuses)
            eventually(lambda: len(statuses) > before + 100, message="answers")  # noqa: B023  # asked at once
            assert gateway.end() == 0
            gateway.start()
        is_over.set()
        for thread in clients:
            thread.join(60)
        assert not any(thread.is_alive() for thread in clients)
        assert set(statuses) == {201}
        assert gateway.end() == 0


def test_an_idle_service_ends_and_the_next_request_waits_for_the_next(server: servers.RedisServer) -> None:
    with Gateway(server.url, idle_s=0.5) as gateway:
        assert gateway.ask("GET", "/api/v1/healthz")[0] == 200
        assert gateway.wait() == 0
        answers: list[int] = []
        waiting = threading.Thread(target=lambda: answers.append(gateway.ask("GET", "/api/v1/healthz")[0]))
        waiting.start()
        gateway.start()
        waiting.join(60)
        assert answers == [200]


def test_a_plain_job_is_an_administrators(gateway: Gateway, client: Client) -> None:
    """A job that came past the gateway has no user there."""
    job_id = client.submit("busybox", "true").id
    assert gateway.ask_as(ALICE, ("GET", f"{JOBS}/{job_id}"))[0][0] == 404
    status, document = gateway.ask("GET", f"{JOBS}/{job_id}")
    assert (status, document["uid"]) == (200, None)
    assert message.queue_name(document["queue"]) == "celery"
