"""docs/CELERY.md, row by row: each option and command of Celery does with a real worker what the page says."""

from __future__ import annotations

import inspect
import json
import pickle
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, chunks, group, xmap, xstarmap
from celery.result import AsyncResult
from celery.worker.control import Panel

from tests import servers
from tests.integration.test_worker import RESULT_S, Plain
from tests.waiting import eventually
from tests.workers.worker import ROOT, Worker

TASK = "tasks.run_docker"
PAGE = ROOT / "docs" / "CELERY.md"
VERDICTS = {"honoured", "mapped", "refused", "client"}


@dataclass(frozen=True)
class Row:
    """A row of the page; `names` are those in its first cell."""

    section: str
    names: tuple[str, ...]
    verdict: str


def rows() -> Iterator[Row]:
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| ") and not line.startswith(("| ---", "| option", "| primitive", "| message |")):
            first, verdict = (cell.strip() for cell in line.split(" | ")[:2])
            names = tuple(re.findall(r"`([^`]+)`", first)) or (first.removeprefix("| "),)
            if verdict != "here":
                yield Row(section, names, verdict)


def of(section: str) -> dict[str, str]:
    """Return the verdict about each name of a section."""
    return {name: row.verdict for row in rows() if row.section.startswith(section) for name in row.names}


OPTIONS, CANVAS, MESSAGES = of("Options"), of("Canvas"), of("Messages")
CONTROL, INSPECT, EVENTS = of("Control"), of("Inspect"), of("Events")


@pytest.fixture(scope="module")
def steady(server: servers.RedisServer, dockerd: servers.Dockerd) -> Iterator[Worker]:
    with Worker(server.url, dockerd, CELERY_DOCKER_RETRY_DELAY="0", CELERY_DOCKER_OPTS="-Q celery,second") as worker:
        yield worker
        # After all of it; each test that runs a job says so of those before it.
        plain = Plain(server.url)
        assert plain.succeed("busybox", "echo fine")["output"] == "fine\n"
        plain.app.close()


@dataclass
class Desk:
    """A plain Celery client, the worker that serves it, and their Redis."""

    app: Celery
    worker: Worker
    server: servers.RedisServer

    def send(self, command: str = "true", kwargs: dict[str, Any] | None = None, **options: Any) -> AsyncResult:
        return self.app.send_task(TASK, ["busybox", command], kwargs, **options)

    def succeeded(self, command: str = "true", /, **options: Any) -> dict[str, Any]:
        receipt: dict[str, Any] = self.send(command, **options).get(timeout=RESULT_S)
        return receipt

    def refused(self, sent: AsyncResult) -> str:
        """Return the reason that a client reads in the result of a job that was refused."""
        error = str(sent.get(timeout=RESULT_S, propagate=False))
        assert sent.state == "FAILURE"
        assert error.startswith("rejected: ")
        return error

    def job(self, command: str, **options: Any) -> Any:
        return self.app.signature(TASK, args=["busybox", command], immutable=True, options=options)

    def control(self, command: str, **arguments: Any) -> Any:
        """Return the answer of the worker to a control or inspect command."""
        (answer,) = self.app.control.broadcast(command, arguments=arguments, reply=True, timeout=60, limit=1)
        ((_, reply),) = answer.items()
        return reply

    def record(self, sent: AsyncResult) -> dict[str, str]:
        with self.server.client(decode_responses=True) as client:
            record: dict[str, str] = client.hgetall(f"celery-docker:job:{sent.id}")
        return record

    def key(self, name: str) -> Any:
        with self.server.client(decode_responses=True) as client:
            return client.get(name)

    def message(self, queue: str) -> dict[str, Any]:
        """Take the message that was sent to a queue that nobody serves."""
        with self.server.client() as client:
            text = client.rpop(queue)
        assert isinstance(text, bytes)
        envelope: dict[str, Any] = json.loads(text)
        return envelope

    def deliver(self, envelope: dict[str, Any]) -> AsyncResult:
        with self.server.client() as client:
            client.lpush("celery", json.dumps(envelope))
        return self.app.AsyncResult(envelope["headers"]["id"])


@pytest.fixture
def desk(server: servers.RedisServer, steady: Worker) -> Iterator[Desk]:
    plain = Plain(server.url)
    yield Desk(plain.app, steady, server)
    assert steady.process is not None
    assert steady.process.poll() is None, "the worker has ended"
    assert "Traceback" not in steady.log
    plain.app.close()


def arguments(desk: Desk) -> None:
    sent = desk.app.send_task(TASK, args=["busybox"], kwargs={"command": ["echo", "x"]})
    assert sent.get(timeout=RESULT_S)["output"] == "x\n"


def task_id(desk: Desk) -> None:
    assert desk.succeeded("echo one", task_id="my-own.id")["id"] == "my-own.id"
    assert desk.succeeded("echo two", task_id="my-own.id")["output"] == "one\n"
    eventually(lambda: "job my-own.id: a second delivery was dropped: its arguments" in desk.worker.log, RESULT_S)
    assert "must" in desk.refused(desk.send(task_id="no id"))


def countdown(desk: Desk) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=1)
    receipt = desk.succeeded(countdown=1)
    assert datetime.fromisoformat(receipt["started_at"]) >= moment - timedelta(milliseconds=100)


def eta(desk: Desk) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=1)
    assert datetime.fromisoformat(desk.succeeded(eta=moment)["started_at"]) >= moment


def expires(desk: Desk) -> None:
    sent = desk.send(countdown=3600, expires=1)
    assert str(sent.get(timeout=RESULT_S, propagate=False)).startswith("expired: ")
    assert desk.succeeded(expires=600)["state"] == "succeeded"


def priority(desk: Desk) -> None:
    desk.send(queue="unserved", priority=9)
    assert desk.message("unserved\x06\x169")["properties"]["priority"] == 9
    assert desk.succeeded(priority=9)["state"] == "succeeded"


def queue(desk: Desk) -> None:
    places: tuple[dict[str, Any], ...] = ({"queue": "second"}, {"exchange": "", "routing_key": "second"})
    for options in places:
        assert desk.succeeded(**options)["state"] == "succeeded"


def ignore_result(desk: Desk) -> None:
    sent = desk.send(ignore_result=True)
    eventually(lambda: f"job {sent.id}: succeeded" in desk.worker.log, RESULT_S, "its end")
    desk.succeeded()
    assert desk.key(f"celery-task-meta-{sent.id}") is None


def follow_ups(desk: Desk) -> None:
    sent = desk.send(link=desk.job("echo after", task_id="linked"), link_error=desk.job("true"))
    sent.get(timeout=RESULT_S)
    assert desk.app.AsyncResult("linked").get(timeout=RESULT_S)["output"] == "after\n"
    desk.send("false", {"retries": 0}, link_error=desk.job("echo amends", task_id="amends"))
    assert desk.app.AsyncResult("amends").get(timeout=RESULT_S)["output"] == "amends\n"
    stranger = desk.app.signature("other.task", immutable=True)
    assert "only tasks.run_docker may follow" in desk.refused(desk.send(link=stranger))
    assert "no worker" in desk.refused(desk.send(link=desk.job("true", queue="victim")))


def lineage(desk: Desk) -> None:
    sent = desk.send("sleep 60", root_id="root", parent_id="parent", replaced_task_nesting=1, shadow="my.name")
    (request,) = running(desk, sent)
    assert request["name"] == "my.name"
    desk.app.control.revoke(sent.id)
    eventually(lambda: sent.state == "REVOKED", RESULT_S, "its end")


def running(desk: Desk, sent: AsyncResult) -> list[dict[str, Any]]:
    def requests() -> list[dict[str, Any]]:
        return [request for request in desk.control("active") if request["id"] == sent.id]

    eventually(lambda: sent.state == "STARTED", RESULT_S, "the job to run")
    return requests()


def stamps(desk: Desk) -> None:
    assert desk.succeeded(stamped_headers=["team"], team="blue")["state"] == "succeeded"


def time_limit(desk: Desk) -> None:
    limits: tuple[dict[str, Any], ...] = (
        {"time_limit": 1},
        {"soft_time_limit": 1},
        {"time_limit": 3, "soft_time_limit": 1},
    )
    for options in limits:
        error = desk.send("sleep 60", **options).get(timeout=RESULT_S, propagate=False)
        assert str(error).startswith("timed_out: ran longer than its timeout of 1 s"), options
    assert "soft limit" in desk.refused(desk.send(time_limit=1, soft_time_limit=2))


def serializer(desk: Desk) -> None:
    assert desk.succeeded(serializer="json")["state"] == "succeeded"
    assert "only 'application/json' is read" in desk.refused(desk.send(serializer="pickle"))


def compression(desk: Desk) -> None:
    for name in ("zlib", "bzip2", "lzma"):
        assert desk.succeeded(compression=name)["state"] == "succeeded"
    desk.send(queue="unserved")
    envelope = desk.message("unserved")
    envelope["headers"]["compression"] = "application/zstd"
    assert "compression: 'application/zstd' is not known" in desk.refused(desk.deliver(envelope))


def retries(desk: Desk) -> None:
    assert desk.succeeded(retries=0)["state"] == "succeeded"
    assert "by the job's argument retries" in desk.refused(desk.send(retries=3))


def custom_headers(desk: Desk) -> None:
    assert desk.succeeded("env", headers={"traceparent": "00-abc"})["output"].find("00-abc") == -1


def reply_to(desk: Desk) -> None:
    assert desk.succeeded(reply_to="a-queue")["state"] == "succeeded"
    assert desk.key("a-queue") is None


def publishing(desk: Desk) -> None:
    policy = {"max_retries": 1, "interval_start": 0}
    options: dict[str, Any] = {
        "retry": True,
        "retry_policy": policy,
        "delivery_mode": 1,
        "mandatory": True,
        "immediate": False,
    }
    more: dict[str, Any] = {
        "expiration": 60,
        "declare": [],
        "timeout": 5,
        "confirm_timeout": 5,
        "exchange_type": "direct",
    }
    assert desk.succeeded(**options, **more)["state"] == "succeeded"


def objects(desk: Desk) -> None:
    with desk.app.connection_for_write() as connection, desk.app.amqp.Producer(connection) as producer:
        for options in ({"producer": producer}, {"publisher": producer}, {"connection": connection}):
            assert desk.succeeded(**options)["state"] == "succeeded"
    arguments: dict[str, Any] = {
        "router": desk.app.amqp.router,
        "route_name": "x",
        "result_cls": desk.app.AsyncResult,
        "add_to_parent": False,
    }
    assert desk.succeeded(**arguments, task_type=None)["state"] == "succeeded"


OPTION_CHECKS: dict[str, Callable[[Desk], None]] = {
    **dict.fromkeys(("args", "kwargs"), arguments),
    **dict.fromkeys(("queue", "routing_key", "exchange"), queue),
    **dict.fromkeys(("root_id", "parent_id", "replaced_task_nesting", "shadow"), lineage),
    **dict.fromkeys(("time_limit", "soft_time_limit"), time_limit),
    **dict.fromkeys(("link", "link_error"), follow_ups),
    **dict.fromkeys(("retry", "retry_policy", "delivery_mode", "mandatory", "immediate", "expiration"), publishing),
    **dict.fromkeys(("declare", "timeout", "confirm_timeout", "exchange_type"), publishing),
    **dict.fromkeys(("producer", "publisher", "connection", "router", "route_name", "result_cls"), objects),
    **dict.fromkeys(("task_type", "add_to_parent"), objects),
    "task_id": task_id,
    "countdown": countdown,
    "eta": eta,
    "expires": expires,
    "priority": priority,
    "ignore_result": ignore_result,
    "stamped_headers": stamps,
    "serializer": serializer,
    "compression": compression,
    "retries": retries,
    "headers": custom_headers,
    "reply_to": reply_to,
}


def a_chain(desk: Desk) -> None:
    result = chain(desk.job("echo a"), desk.job("echo b"), app=desk.app).apply_async()
    assert result.get(timeout=RESULT_S)["output"] == "b\n"


def a_group(desk: Desk) -> None:
    result = group([desk.job("echo a"), desk.job("echo b")], app=desk.app).apply_async()
    assert [receipt["output"] for receipt in result.get(timeout=RESULT_S)] == ["a\n", "b\n"]


def a_chord(desk: Desk) -> None:
    result = chord([desk.job("echo a"), desk.job("echo b")], desk.job("echo c"), app=desk.app).apply_async()
    assert result.get(timeout=RESULT_S)["output"] == "c\n"


def a_map(desk: Desk) -> None:
    assert "'celery.map' is not known" in desk.refused(xmap(desk.job("true"), [["busybox"]], app=desk.app).delay())


def a_starmap(desk: Desk) -> None:
    sent = xstarmap(desk.job("true"), [["busybox"]], app=desk.app).delay()
    assert "'celery.starmap' is not known" in desk.refused(sent)


def some_chunks(desk: Desk) -> None:
    (sent,) = chunks(desk.job("true"), [["busybox", "true"]], 10, app=desk.app).group().apply_async()
    assert "'celery.starmap' is not known" in desk.refused(sent)


CANVAS_CHECKS: dict[str, Callable[[Desk], None]] = {
    **dict.fromkeys(("chain",), a_chain),
    **dict.fromkeys(("group", "group_id", "group_index"), a_group),
    **dict.fromkeys(("chord",), a_chord),
    "map": a_map,
    "starmap": a_starmap,
    "chunks": some_chunks,
}


def first_protocol(desk: Desk) -> None:
    desk.app.conf.task_protocol = 1
    assert desk.succeeded("echo old")["output"] == "old\n"


def another_task(desk: Desk) -> None:
    assert "'tasks.other' is not known" in desk.refused(desk.app.send_task("tasks.other"))


def unreadable(desk: Desk) -> None:
    with desk.server.client() as client:
        client.lpush("celery", pickle.dumps("no message"))
        eventually(lambda: client.hlen("celery-docker:refused"), RESULT_S, "the message to be put aside")


MESSAGE_CHECKS: dict[str, Callable[[Desk], None]] = {
    "protocol 1": first_protocol,
    "another task": another_task,
    "unreadable": unreadable,
}


def revoke(desk: Desk) -> None:
    for sent in (desk.send(countdown=3600), desk.send("sleep 60")):
        answer = ended_by(desk, sent, "revoke", terminate=True, signal="KILL")
        assert answer == {"ok": f"cancelling {sent.id}"}
    assert desk.control("revoke", task_id="no id")["error"].startswith("revoke is refused: ")


def terminate(desk: Desk) -> None:
    for sent in (desk.send(countdown=3600), desk.send("sleep 60")):
        ended_by(desk, sent, "terminate", signal="TERM")


def ended_by(desk: Desk, sent: AsyncResult, command: str, **arguments: Any) -> Any:
    """Cancel a job by a control command, and see that its record says the same as Celery's result."""
    eventually(lambda: desk.record(sent), RESULT_S, "its record")
    answer = desk.control(command, task_id=[sent.id], **arguments)
    eventually(lambda: sent.state == "REVOKED", RESULT_S, "Celery's state")
    assert desk.record(sent)["state"] == "cancelled"
    return answer


def event_switches(desk: Desk) -> None:
    assert desk.control("disable_events")["ok"].startswith("task events")
    assert desk.control("enable_events") == {"ok": "task events enabled"}
    assert desk.control("heartbeat") is None


CONTROL_CHECKS: dict[str, Callable[[Desk], None]] = {
    **dict.fromkeys(("enable_events", "disable_events", "heartbeat"), event_switches),
    "revoke": revoke,
    "terminate": terminate,
}
INSPECT_ARGUMENTS: dict[str, dict[str, Any]] = {"query_task": {"ids": ["x"]}, "hello": {"from_node": "x"}}
# What waits, and what is cancelled, is in Redis.
EMPTY = {"scheduled", "reserved", "revoked"}
# The page has what belongs to a canvas among the options.
SHARED = {name: check for name, check in CANVAS_CHECKS.items() if name in OPTIONS}


def once_each(checks: dict[str, Callable[[Desk], None]]) -> list[Any]:
    """Return each check as a parameter, with the names of all that it is for."""
    names: dict[Callable[[Desk], None], list[str]] = {}
    for name, check in checks.items():
        names.setdefault(check, []).append(name)
    return [pytest.param(check, id=" ".join(names[check])) for check in names]


@pytest.mark.parametrize("check", once_each(OPTION_CHECKS))
def test_an_option_does_what_the_page_says(check: Callable[[Desk], None], desk: Desk) -> None:
    check(desk)


@pytest.mark.parametrize("check", once_each(CANVAS_CHECKS))
def test_a_primitive_does_what_the_page_says(check: Callable[[Desk], None], desk: Desk) -> None:
    check(desk)


@pytest.mark.parametrize("check", once_each(MESSAGE_CHECKS))
def test_a_message_is_treated_as_the_page_says(check: Callable[[Desk], None], desk: Desk) -> None:
    check(desk)


@pytest.mark.parametrize("check", once_each(CONTROL_CHECKS))
def test_a_control_command_does_what_the_page_says(check: Callable[[Desk], None], desk: Desk) -> None:
    check(desk)


@pytest.mark.parametrize("name", [name for name, verdict in CONTROL.items() if verdict == "refused"])
def test_a_control_command_is_refused_where_the_page_says_so(name: str, desk: Desk) -> None:
    assert desk.control(name, unexpected=1)["error"].startswith(f"{name} is refused: ")


@pytest.mark.parametrize("name", INSPECT)
def test_an_inspect_command_does_what_the_page_says(name: str, desk: Desk) -> None:
    answer = desk.control(name, **INSPECT_ARGUMENTS.get(name, {}))
    if INSPECT[name] == "refused":
        assert answer["error"].startswith(f"{name} is refused: ")
        return
    assert "error" not in (answer or ())
    assert answer == [] or name not in EMPTY


def test_a_command_right_after_one_that_fails_is_not_lost(desk: Desk) -> None:
    sent = desk.send(countdown=3600)
    eventually(lambda: desk.record(sent), RESULT_S, "its record")
    desk.app.control.broadcast("query_task", arguments={"ids": 5})
    desk.app.control.broadcast("no_such_command")
    desk.app.control.revoke(sent.id)
    eventually(lambda: sent.state == "REVOKED", RESULT_S, "the revoke to hold")


def test_the_page_knows_every_option_of_celery() -> None:
    """Those of both calls, and of the message that they make; celery's own words about them are left out."""
    signatures = (Celery.send_task, Celery().amqp.as_task_v2, Celery().amqp._create_task_sender())
    names = {name for function in signatures for name in inspect.signature(function).parameters}
    inner = {"self", "name", "options", "now", "timezone", "callbacks", "errbacks", "create_sent_event", "message"}
    inner |= {"origin", "argsrepr", "kwargsrepr", "event_dispatcher"}
    assert names - inner - {"kwargs"} <= OPTIONS.keys()


def test_the_page_has_no_row_without_a_test() -> None:
    assert {row.verdict for row in rows()} == VERDICTS
    assert OPTIONS.keys() == OPTION_CHECKS.keys() | SHARED.keys()
    assert CANVAS.keys() <= CANVAS_CHECKS.keys()
    assert MESSAGES.keys() == MESSAGE_CHECKS.keys()
    assert {name for name, verdict in CONTROL.items() if verdict != "refused"} == CONTROL_CHECKS.keys()
    assert all(verdict in ("honoured", "refused") for verdict in INSPECT.values())


def test_the_page_knows_every_command_of_celery() -> None:
    assert {name for name, meta in Panel.meta.items() if meta.type == "control"} == CONTROL.keys()
    assert {name for name, meta in Panel.meta.items() if meta.type == "inspect"} == INSPECT.keys()
