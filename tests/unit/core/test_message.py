"""The message of a job in Redis, held against what Celery and kombu themselves make and read."""

from __future__ import annotations

import base64
import json
from typing import Any

import celery
import pytest
from kombu.connection import Connection
from kombu.transport.redis import Channel
from kombu.transport.virtual import Message

from celery_docker.core import message
from celery_docker.core.jobspec import Submission

# kombu carries no types that a strict reading could use.
connection: Any = Connection
channel: Any = Channel
virtual_message: Any = Message

KWARGS = {"image": "busybox", "command": ["echo", "äöü"]}


def made(**changed: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {"queue": "celery", "tag": "t1", "origin": "1@host", **changed}
    return message.task_message("j1", KWARGS, **arguments)


def test_the_body_is_what_a_worker_decodes() -> None:
    envelope = made()
    assert json.loads(base64.b64decode(envelope["body"])) == [
        [],
        KWARGS,
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert envelope["properties"]["body_encoding"] == "base64"


def test_headers_and_body_are_those_of_celery_itself() -> None:
    """Built by the installed Celery as `send_task` does it; only what says who sent it may differ."""
    app = celery.Celery(set_as_current=False)
    theirs = app.amqp.as_task_v2("j1", "tasks.run_docker", kwargs=KWARGS, ignore_result=None)
    ours = made()
    free = {"origin", "argsrepr", "kwargsrepr"}
    assert ours["headers"].keys() == theirs.headers.keys()
    assert {k: v for k, v in ours["headers"].items() if k not in free} == {
        k: v for k, v in theirs.headers.items() if k not in free
    }
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(json.dumps(theirs.body))
    assert ours["properties"] | theirs.properties == ours["properties"]


def test_monitors_show_the_arguments_without_secrets_and_in_short() -> None:
    """Flower shows these words, and a job's environment may hold passwords."""
    kwargs = {"image": "busybox", "command": ["echo", "a"], "env": {"TOKEN": "s3cret"}}
    headers = message.task_message("j1", kwargs, queue="celery", tag="t1", origin="1@host")["headers"]
    assert headers["kwargsrepr"] == "{'image': 'busybox', 'command': ['echo', 'a'], 'env': {'TOKEN': '***'}}"
    assert headers["argsrepr"] == "()"
    texts = {"script": "s3cret", "stdin": "s3cret"}
    shown = message.task_message("j1", texts, queue="celery", tag="t1", origin="1@host")["headers"]["kwargsrepr"]
    assert shown == "{'script': '***', 'stdin': '***'}"
    long = message.task_message("j1", {"command": ["x" * 5000]}, queue="celery", tag="t1", origin="1@host")["headers"]
    assert len(long["kwargsrepr"]) == 1024
    assert long["kwargsrepr"].endswith("xxx...")


def test_kombu_reads_it() -> None:
    """The worker's transport makes a JSON message with its delivery tag of the envelope."""
    with connection("memory://") as opened:
        read = virtual_message(made(), channel=opened.channel())
    assert read.decode() == [[], KWARGS, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    assert read.delivery_tag == "t1"
    assert read.headers["task"] == "tasks.run_docker"
    assert read.properties["correlation_id"] == "j1"
    assert read.delivery_info == {"exchange": "", "routing_key": "celery"}


def test_it_is_json() -> None:
    assert json.loads(json.dumps(made())) == made()


def test_a_redelivery_is_the_same_job_under_a_new_tag() -> None:
    first = made()
    again = message.redelivery(first, "t2")
    assert again["properties"]["delivery_tag"] == "t2"
    assert again["body"] == first["body"]
    assert again["headers"] == first["headers"]
    assert {**again["properties"], "delivery_tag": "t1"} == first["properties"]


def test_the_record_says_when_a_job_may_run_and_not_its_message() -> None:
    """A plain client's countdown was waited for already."""
    first = made()
    first["headers"] |= {"eta": "2026-11-22T10:00:00+00:00", "expires": "2026-11-22T11:00:00+00:00"}
    timeless = message.timeless(first)
    assert (timeless["headers"]["eta"], timeless["headers"]["expires"]) == (None, None)
    assert first["headers"]["eta"] == "2026-11-22T10:00:00+00:00"


def test_a_redelivery_keeps_what_it_does_not_know() -> None:
    """A newer client's fields survive a retry on an older worker."""
    first = made()
    first["headers"]["stamps"] = {"x": 1}
    first["new"] = 1
    again = message.redelivery(first, "t2")
    assert again["new"] == 1
    assert again["headers"]["stamps"] == {"x": 1}


@pytest.mark.parametrize("priority", range(10))
def test_queue_key_is_the_list_that_kombu_reads(priority: int) -> None:
    assert message.queue_key("celery", priority) == channel._q_for_pri(_Steps(), "celery", priority)


class _Steps:
    """As much of a kombu channel as its rule for priorities looks at, so that none has to connect."""

    sep = channel.sep
    priority_steps = channel.priority_steps
    global_keyprefix = ""

    def priority(self, number: int) -> Any:
        return channel.priority(self, number)


@pytest.mark.parametrize(
    ("priority", "expected"),
    [
        (None, "celery"),
        (0, "celery"),
        (2, "celery"),
        (3, "celery\x06\x163"),
        (5, "celery\x06\x163"),
        (6, "celery\x06\x166"),
        (9, "celery\x06\x169"),
        # Beyond the scale kombu clamps too.
        (-5, "celery"),
        (99, "celery\x06\x169"),
    ],
)
def test_queue_key(priority: int | None, expected: str) -> None:
    assert message.queue_key("celery", priority) == expected


@pytest.mark.parametrize(("priority", "expected"), [("5", "celery\x06\x163"), ("high", "celery"), ([], "celery")])
def test_a_priority_that_is_no_number_is_read_as_kombu_reads_it(priority: Any, expected: str) -> None:
    """The claim asks for the key; it must not fail over what a stranger wrote into the message."""
    assert message.queue_key("celery", priority) == expected


def test_the_lists_of_a_queue_are_those_of_its_priorities() -> None:
    assert message.queue_keys("bio") == [message.queue_key("bio", priority) for priority in (0, 3, 6, 9)]


def test_queue_and_priority_are_found_again_in_a_message() -> None:
    envelope = message.task_message("j1", {}, queue="bio", tag="t", origin="", priority=6)
    assert message.submission(envelope) == Submission(queue="bio", priority=6)
    assert message.submission({}) == Submission()
    assert message.submission({"properties": {"priority": "x", "delivery_info": None}}) == Submission()
