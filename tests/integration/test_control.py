"""Celery's control commands against a real worker: what is refused says so, and what nobody can read does no harm."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from celery import chain, chord, group

from tests import servers
from tests.integration.test_worker import RESULT_S, Plain
from tests.waiting import eventually
from tests.workers.worker import Worker

CHANNEL = "/0.celery.pidbox"


@pytest.fixture
def sender(server: servers.RedisServer, steady: Worker) -> Iterator[Plain]:
    plain = Plain(server.url)
    yield plain
    assert steady.process is not None
    assert steady.process.poll() is None, "the worker has ended"
    assert "Traceback" not in steady.log
    plain.app.close()


def control(words: Any, **changed: Any) -> bytes:
    text = base64.b64encode(json.dumps(words).encode()).decode()
    envelope = {
        "body": text,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {"clock": 1},
        "properties": {"body_encoding": "base64", "delivery_tag": "t", "delivery_info": {}},
    }
    return json.dumps({**envelope, **changed}).encode()


REFUSED: dict[str, dict[str, Any]] = {
    "shutdown": {},
    "cancel_consumer": {"queue": "celery"},
    "add_consumer": {"queue": "other"},
    "pool_grow": {"n": 2},
    "pool_shrink": {"n": 1},
    "pool_restart": {},
    "autoscale": {"max": 9, "min": 1},
    "time_limit": {"task_name": "tasks.run_docker", "hard": 1},
    "rate_limit": {"task_name": "tasks.run_docker", "rate_limit": "1/h"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_that_would_leave_a_host_in_an_unseen_state_is_refused_with_the_remedy(
    name: str, sender: Plain
) -> None:
    (answer,) = sender.app.control.broadcast(name, arguments=REFUSED[name], reply=True, timeout=60, limit=1)
    ((_, reply),) = answer.items()
    assert reply["error"].startswith(f"{name} is refused: ")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ping", {}), ("registered", {}), ("active", {}), ("reserved", {}), ("scheduled", {}), ("revoked", {})],
)
def test_questions_are_answered(name: str, arguments: dict[str, Any], sender: Plain) -> None:
    (answer,) = sender.app.control.broadcast(name, arguments=arguments, reply=True, timeout=60, limit=1)
    ((_, reply),) = answer.items()
    assert "error" not in reply


def test_nothing_but_our_task_is_registered(sender: Plain) -> None:
    control = sender.app.control
    (answer,) = control.broadcast("registered", arguments={"builtins": True}, reply=True, timeout=60, limit=1)
    assert list(answer.values()) == [["tasks.run_docker"]]


@pytest.mark.parametrize(
    "text",
    [
        b"no json",
        b"5",
        b"[]",
        b"{}",
        b'{"properties": 5}',
        b"\xff\xfe",
        b"[" * 100_000,
        control([]),
        control({}),
        control({"method": {"a": 1}}),
        control({"method": "no_such_command"}),
        control({"method": "ping", "arguments": [1]}),
        control({"method": "ping", "arguments": {"unexpected": 1, "state": 2}}),
        control({"method": "revoke", "arguments": {"task_id": {"a": 1}}}),
        control({"method": "revoke", "arguments": {"task_id": [5, None, "a\nb", "x:dependents"]}}),
        control({"method": "query_task", "arguments": {"ids": 5}}),
        control({"method": "ping", "destination": 5}),
        control({"method": "ping", "pattern": "(a+)+$", "matcher": "pcre"}),
        control({"method": "ping", "pattern": 5, "matcher": "glob"}),
        control({"method": "ping"}, headers=[1]),
        control({"method": "ping"}, headers={"clock": "x"}),
        control({"method": "ping"}, properties={}),
        control({"method": "ping"}, **{"content-type": "application/x-python-serialize"}),
        control({"method": "ping"}, body="%%%"),
    ],
    ids=lambda text: text[:60].decode(errors="replace") if len(text) < 60 else str(hash(text) % 10**6),
)
def test_a_broadcast_that_cannot_be_read_does_no_harm(text: bytes, sender: Plain, server: servers.RedisServer) -> None:
    with server.client() as client:
        assert client.publish(CHANNEL, text) == 1
    eventually(lambda: sender.app.control.ping(timeout=1, limit=1), RESULT_S, "an answer to the next ping")


def test_a_reply_goes_into_no_list_but_a_reply_list(sender: Plain, server: servers.RedisServer) -> None:
    elsewhere = {"exchange": "", "routing_key": "victim"}
    with server.client() as client:
        client.publish(CHANNEL, control({"method": "ping", "reply_to": elsewhere, "ticket": "t"}))
        assert sender.app.control.ping(timeout=60, limit=1)
        assert client.llen("victim") == 0


def test_canvas_works_without_the_tasks_of_celery(sender: Plain) -> None:
    app = sender.app

    def job(word: str) -> Any:
        return app.signature("tasks.run_docker", args=["busybox", f"echo {word}"], immutable=True)

    assert chain(job("a"), job("b"), job("c"), app=app).apply_async().get(timeout=RESULT_S)["output"] == "c\n"
    both = group([job("d"), job("e")], app=app).apply_async().get(timeout=RESULT_S)
    assert [receipt["output"] for receipt in both] == ["d\n", "e\n"]
    assert chord([job("f"), job("g")], job("h"), app=app).apply_async().get(timeout=RESULT_S)["output"] == "h\n"
    nested = chain(job("i"), group([job("j"), job("k")], app=app), job("l"), app=app).apply_async()
    assert nested.get(timeout=RESULT_S)["output"] == "l\n"
    linked = job("m").apply_async(link=job("n").set(task_id="linked-job"), link_error=job("o"))
    assert linked.get(timeout=RESULT_S)["output"] == "m\n"
    assert app.AsyncResult("linked-job").get(timeout=RESULT_S)["output"] == "n\n"
    failing = app.signature("tasks.run_docker", args=["busybox", "false"], kwargs={"retries": 0}, immutable=True)
    failing.apply_async(link_error=job("p").set(task_id="error-job"))
    assert app.AsyncResult("error-job").get(timeout=RESULT_S)["output"] == "p\n"
