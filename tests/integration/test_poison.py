"""Whatever lies in a queue: a worker goes on, and who sent it is told, or finds it put aside with its reason."""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from celery_docker.core import message
from celery_docker.store import keys, refused
from celery_docker.store.redislink import connect
from celery_docker.worker import fewlines
from tests import commandline, servers
from tests.integration.test_messages import in_hand
from tests.integration.test_worker import RESULT_S, Plain, clean_redis, plain
from tests.waiting import eventually
from tests.workers.worker import Worker

__all__ = ["clean_redis", "plain"]

JOB = "poisoned"
KWARGS: dict[str, Any] = {"image": "busybox", "command": "true", "env": {"PASSWORD": "geheim-wort"}}


def envelope(**changed: Any) -> dict[str, Any]:
    fields = message.task_message(JOB, KWARGS, queue="celery", tag="t1", origin="1@there")
    return {**fields, **changed}


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in envelope().items() if key != name}


def headers(**changed: Any) -> dict[str, Any]:
    return envelope(headers={**envelope()["headers"], **changed})


def properties(**changed: Any) -> dict[str, Any]:
    return envelope(properties={**envelope()["properties"], **changed})


def body(text: str | bytes, **changed: Any) -> dict[str, Any]:
    data = text.encode() if isinstance(text, str) else text
    return {**headers(**changed), "body": base64.b64encode(data).decode()}


def arguments(*words: Any) -> dict[str, Any]:
    return body(json.dumps(list(words)))


def follows(**embed: Any) -> dict[str, Any]:
    return arguments([], KWARGS, {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **embed})


def signature(task: str = "tasks.run_docker", **changed: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "args": [],
        "kwargs": {"image": "busybox"},
        "options": {},
        "subtask_type": None,
        "immutable": True,
    }
    return {"task": task, **plain, **changed}


DEEP = "[" * 100_000 + "]" * 100_000
LARGE = json.dumps([[], {"image": "busybox", "command": ["x" * 2**21]}, {}])
BOMB = json.dumps([[], {"image": "busybox", "command": [" " * 200_000_000]}, {}]).encode()

# Nobody could ask for the result of these; they are put aside alone.
NAMELESS: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"no json",
    "not UTF-8": b"\xff\xfe\x00",
    "a list": b"[1]",
    "a number": b"5",
    "null": b"null",
    "a tag alone": b'{"properties":{"delivery_tag":"x"}}',
    "empty tables": b'{"properties":{},"headers":{},"body":""}',
    "deep": DEEP.encode(),
    "deep inside": json.dumps(envelope()).replace('"1@there"', DEEP).encode(),
    "a huge number": b'{"properties":{"delivery_tag":' + b"9" * 5000 + b"}}",
    "NaN": json.dumps(headers(retries=float("nan"))).encode(),
    "infinity": b'{"properties":{"priority":1e999}}',
    "a name twice": b'{"headers":{"id":"a"},"headers":{"id":"b"}}',
    "lone surrogates": json.dumps(headers(id="\ud800")).encode(),
    "large": json.dumps(envelope(body="x" * 2**22, headers=[])).encode(),
    "headers are null": json.dumps(envelope(headers=None)).encode(),
    "headers are a list": json.dumps(envelope(headers=["task"])).encode(),
    "no headers": json.dumps(without("headers")).encode(),
    "no id": json.dumps(headers(id=None)).encode(),
    "a number for an id": json.dumps(headers(id=5)).encode(),
    "a table for an id": json.dumps(headers(id={"a": 1})).encode(),
    "an id with a line end": json.dumps(headers(id="a\nb")).encode(),
    "an id that is another key": json.dumps(headers(id="j1:dependents")).encode(),
    "a long id": json.dumps(headers(id="a" * 5000)).encode(),
}
# The clients of these can be told.
NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "another task": (headers(task="tasks.run_dokcer"), "'tasks.run_dokcer' is not known here"),
    "task is a table": (headers(task={"a": []}), "is not known here"),
    "task is a list": (headers(task=[]), "is not known here"),
    "task is null": (headers(task=None), "None is not known here"),
    "a task of Celery's": (headers(task="celery.accumulate"), "'celery.accumulate' is not known here"),
    "starmap": (headers(task="celery.starmap"), "'celery.starmap' is not known here"),
    "no properties": (without("properties"), "is not JSON"),
    "properties are a list": (envelope(properties=[]), "is not JSON"),
    "no body": (without("body"), "it has no body"),
    "body is null": (envelope(body=None), "it has no body"),
    "body is a table": (envelope(body={"a": 1}), "it has no body"),
    "body is not base64": (envelope(body="%%%"), "is not base64"),
    "body is base64 of anything": (body(b"\x80\x04\x95"), "is not UTF-8"),
    "body is deep": (body(DEEP), "is nested too deeply"),
    "body is a table inside": (body("{}"), "its body is not [args, kwargs, what follows]"),
    "body is null inside": (body("null"), "its body is not [args, kwargs, what follows]"),
    "args is a table of strings": (arguments([], ["image"], {}), "are not a list and a table"),
    "args is null": (arguments(None, {}, {}), "are not a list and a table"),
    "a pickle": (envelope(**{"content-type": "application/x-python-serialize"}), "only 'application/json' is read"),
    "YAML": (envelope(**{"content-type": "application/x-yaml"}), "only 'application/json' is read"),
    "no content type": (without("content-type"), "only 'application/json' is read"),
    "content type is a number": (envelope(**{"content-type": 5}), "only 'application/json' is read"),
    "another encoding": (envelope(**{"content-encoding": "utf-16"}), "send UTF-8"),
    "encoding is a table": (envelope(**{"content-encoding": {}}), "send UTF-8"),
    "another body encoding": (properties(body_encoding="rot13"), "only 'base64' is read"),
    "stamped headers are a number": (headers(stamped_headers=5), "header stamped_headers: 5 must be a list of names"),
    "stamps are a list": (headers(stamps=[1]), "header stamps: [1] must be a table"),
    "a bad eta": (headers(eta="tomorrow"), "header eta: 'tomorrow' must be a time"),
    "eta is a number": (headers(eta=12), "header eta: 12 must be a time"),
    "expires is a list": (headers(expires=[]), "header expires: [] must be a time"),
    "a time limit of three": (headers(timelimit=[1, 2, 3]), "header timelimit:"),
    "retries is a word": (headers(retries="x"), "header retries: 'x' must be a whole number"),
    "ignore_result is a word": (headers(ignore_result="x"), "header ignore_result: 'x' must be true or false"),
    "group is a table": (headers(group={}), "header group: {} must be a string"),
    "unknown compression": (headers(compression="zip"), "compression: 'zip' is not known"),
    "compression is a table": (headers(compression={}), "compression: {} is not known"),
    "not compressed at all": (headers(compression="application/x-gzip"), "cannot be unpacked"),
    "a gzip bomb": (body(zlib.compress(BOMB), compression="application/x-gzip"), "more than 1 MiB"),
    "a bzip2 bomb": (body(bz2.compress(BOMB), compression="application/x-bz2"), "more than 1 MiB"),
    "large": (body(LARGE), "1 MiB at most: pass a file"),
    "a little too large": (
        body(json.dumps([[], {"image": "busybox", "command": ["x" * 1_050_000]}, {}])),
        "more than 1 MiB",
    ),
    "an image is missing": (arguments([], {}, {}), "image: is missing"),
    "a keyword self": (arguments([], {**KWARGS, "self": 1}, {}), "'self' is not an argument"),
    "a keyword args": (arguments([], {**KWARGS, "args": 1, "kwargs": 2}, {}), "'args' is not an argument"),
    "too many arguments": (arguments(["x"] * 50, {}, {}), "50 positional arguments are too many"),
    "a long word": (arguments([], {"image": "busybox", "command": ["x" * 140_000]}, {}), "has more than 131,071 bytes"),
    "a long variable": (arguments([], {**KWARGS, "env": {"A": "x" * 140_000}}, {}), "has more than 131,071 bytes"),
    "a long string": (
        arguments([], {"image": "busybox", "command": "x " * 400_000}, {}),
        "has more than 131,071 bytes",
    ),
    "an id for no container": (headers(id="my job"), "'my job' must be letters, digits"),
    "a callback of another task": (follows(callbacks=[signature("shop.refund")]), "calls 'shop.refund'"),
    "a callback that is a number": (follows(callbacks=[5]), "no signature of Celery's"),
    "an errback elsewhere": (follows(errbacks=[signature(options={"queue": "shop"})]), "writes to 'shop'"),
    "a routing key": (follows(callbacks=[signature(options={"routing_key": "shop"})]), "writes to 'shop'"),
    "a key of ours": (follows(chain=[signature(options={"queue": keys.HOSTS})]), f"writes to '{keys.HOSTS}'"),
    "a chord of another task": (follows(chord=signature("celery.accumulate")), "calls 'celery.accumulate'"),
    "a link in a link": (
        follows(callbacks=[signature(options={"link": [signature("shop.refund")]})]),
        "calls 'shop.refund'",
    ),
    "a task in a group": (
        follows(callbacks=[signature("celery.group", subtask_type="group", kwargs={"tasks": [signature("a.b")]})]),
        "calls 'a.b'",
    ),
    "a type that is not its task": (follows(chain=[signature(subtask_type="group")]), "calls 'tasks.run_docker'"),
    "a callback that pickles": (follows(callbacks=[signature(options={"serializer": "pickle"})]), "'serializer'"),
    "a callback with a connection": (follows(callbacks=[signature(options={"connection": "x"})]), "'connection'"),
    "a callback in no time": (follows(callbacks=[signature(options={"countdown": "x"})]), "'countdown'"),
    "what follows is a list": (arguments([], KWARGS, []), "must be a table"),
}
FINE: dict[str, dict[str, Any]] = {
    "gzip": body(zlib.compress(json.dumps([[], KWARGS, {}]).encode()), compression="application/x-gzip"),
    "a gzip file": body(gzip.compress(json.dumps([[], KWARGS, {}]).encode()), compression="application/x-gzip"),
    "bzip2": body(bz2.compress(json.dumps([[], KWARGS, {}]).encode()), compression="application/x-bz2"),
    "a plain body": {**properties(body_encoding=None), "body": json.dumps([[], KWARGS, {}])},
    "unknown headers": headers(tracing={"a": [1, 2]}, priority="high"),
    "protocol 1": {**envelope(headers={}), "body": base64.b64encode(
        json.dumps({"task": "tasks.run_docker", "id": JOB, "args": ["busybox"], "kwargs": {"command": "true"}}).encode()
    ).decode()},
}  # fmt: skip


@pytest.fixture
def sender(server: servers.RedisServer, steady: Worker) -> Iterator[Plain]:
    plain = Plain(server.url)
    yield plain
    assert steady.process is not None
    assert steady.process.poll() is None, "the worker has ended"
    eventually(lambda: in_hand(server) == [], RESULT_S, "nothing left in hand")
    plain.app.close()
    with server.client() as client:
        # No record, or one that ages: the worker has done all that it does for a job of this name.
        eventually(lambda: client.ttl(keys.job(JOB)) != -1, RESULT_S, "the job to be settled")
        client.delete(keys.REFUSED, keys.REFUSED_TEXTS, keys.job(JOB), keys.job("my job"), "celery-task-meta-" + JOB)


def put(server: servers.RedisServer, text: bytes) -> None:
    with server.client() as client:
        client.lpush("celery", text)


def aside(server: servers.RedisServer) -> list[refused.RefusedRow]:
    link = connect(server.url)
    try:
        return refused.RefusedMessages(link).rows()
    finally:
        link.close()


@pytest.mark.parametrize("name", NAMELESS)
def test_what_cannot_be_read_is_put_aside_once(
    name: str, sender: Plain, steady: Worker, server: servers.RedisServer
) -> None:
    put(server, NAMELESS[name])
    (row,) = eventually(lambda: aside(server), 20, f"{name} to be put aside; log: {steady.log[-3000:]}")
    assert row.reason
    assert (row.queue, row.job_id, row.size) == ("celery", "", len(NAMELESS[name]))


@pytest.mark.parametrize("name", NAMED)
def test_the_client_of_a_message_that_is_refused_is_told(
    name: str, sender: Plain, steady: Worker, server: servers.RedisServer
) -> None:
    sent, reason = NAMED[name]
    put(server, json.dumps(sent).encode())
    job_id = (sent.get("headers") or {}).get("id")
    result = sender.app.AsyncResult(job_id)
    line = str(result.get(timeout=RESULT_S, propagate=False))
    assert line.startswith("rejected: ")
    assert reason in line
    assert result.backend.get_task_meta(job_id)["receipt"]["state"] == "rejected"
    assert "geheim-wort" not in steady.log
    assert "Traceback" not in steady.log


@pytest.mark.parametrize("name", FINE)
def test_what_can_be_read_runs(name: str, sender: Plain, server: servers.RedisServer) -> None:
    put(server, json.dumps(FINE[name]).encode())
    assert sender.app.AsyncResult(JOB).get(timeout=RESULT_S)["state"] == "succeeded"


def test_a_flood_of_refused_messages_fills_no_journal(
    sender: Plain, steady: Worker, server: servers.RedisServer
) -> None:
    """All are put aside, the last five hundred are kept, and a line says that more of them are not written."""
    count = 600
    before = steady.log.count("is refused and put aside")
    with server.client() as client:
        client.lpush("celery", *(b"flood %d" % number for number in range(count)))
        eventually(lambda: client.llen("celery") == 0 and in_hand(server) == [], 120, "the end of the flood")
        assert client.hlen(keys.REFUSED) == refused.MOST
    assert steady.log.count("is refused and put aside") - before <= 2 * fewlines.MOST, "a minute may end within"
    assert "no more of these lines are written until a minute is over" in steady.log
    assert sender.succeed("busybox", "echo on")["output"] == "on\n"


def test_what_a_worker_had_taken_before_it_died_does_no_harm_to_the_next(
    clean_redis: servers.RedisServer, dockerd: servers.Dockerd, plain: Plain
) -> None:
    worker = Worker(clean_redis.url, dockerd)
    with worker:
        assert plain.succeed("busybox", "echo one")["output"] == "one\n"
        worker.kill()
        with clean_redis.client() as client:
            (sources,) = list(client.scan_iter(f"{keys.PREFIX}host:*:sources"))
            place = sources.decode().removesuffix("sources") + "taken:celery"
            client.lpush(place, *NAMELESS.values(), *(json.dumps(sent).encode() for sent, _ in NAMED.values()))
        worker.start()
        assert plain.succeed("busybox", "echo two")["output"] == "two\n"
        eventually(lambda: in_hand(clean_redis) == [], RESULT_S, "nothing left of what was taken")
        eventually(lambda: len(aside(clean_redis)) >= len(NAMELESS), 20, "all of them put aside")


def cli(server: servers.RedisServer | str, *words: str) -> tuple[int, str, str]:
    """Run the command line; return its status, output and complaints."""
    url = server if isinstance(server, str) else server.url
    completed = commandline.call(*words, "--broker", url, environ={"HOME": "/nonexistent"})
    return completed.returncode, completed.stdout, completed.stderr


def test_refused_messages_are_shown_put_back_and_thrown_away(
    sender: Plain, steady: Worker, server: servers.RedisServer
) -> None:
    for sent in (headers(task="tasks.run_pipeline"), headers(id=None), envelope(body="x" * 100_000)):
        put(server, json.dumps(sent).encode())
    eventually(lambda: len(aside(server)) == 3, 20, "three messages put aside")
    assert sender.app.AsyncResult(JOB).get(timeout=RESULT_S, propagate=False) is not None
    rows = [json.loads(line) for line in cli(server, "queue", "refused", "--json")[1].splitlines()]
    assert [(row["id"], row["task"], row["can_be_put_back"]) for row in rows] == [
        (JOB, "tasks.run_pipeline", True),
        (None, "tasks.run_docker", True),
        (JOB, "tasks.run_docker", False),
    ]
    assert "geheim-wort" not in cli(server, "queue", "refused")[1]
    assert "3 messages are put aside" in cli(server, "doctor")[1]
    first, second, third = (row["number"] for row in rows)
    status, _, complaint = cli(server, "queue", "put-back", third)
    assert status == 1
    assert "more than 64 KiB is not kept" in complaint
    assert cli(server, "queue", "put-back", first)[:2] == (0, f"{first}\n")
    eventually(lambda: [row.number for row in aside(server)][-1] not in (first, second, third), 20, "refused again")
    assert cli(server, "queue", "put-back", "99999")[0] == 2
    assert cli(server, "queue", "throw-away", "all")[0] == 0
    assert aside(server) == []
    assert cli(server, "queue", "refused")[1].count("\n") <= 1


def test_a_message_that_is_put_back_runs_once_it_can_be_read(sender: Plain, server: servers.RedisServer) -> None:
    """As after an upgrade: what the reason said is not so any more."""
    put(server, json.dumps(headers(task="tasks.run_pipeline")).encode())
    (row,) = eventually(lambda: aside(server), 20)
    assert str(sender.app.AsyncResult(JOB).get(timeout=RESULT_S, propagate=False)).startswith("rejected: ")
    with server.client() as client:
        client.hset(keys.REFUSED_TEXTS, row.number, json.dumps(envelope()))
        eventually(lambda: client.ttl(keys.job(JOB)) > 0, 20, "the rejected job to be settled")
    assert cli(server, "queue", "put-back", row.number)[0] == 0
    fresh = sender.app.AsyncResult(JOB)
    eventually(lambda: fresh.backend.get_task_meta(JOB, cache=False)["status"] == "SUCCESS", RESULT_S, "its success")
