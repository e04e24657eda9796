"""Faults of a server, on the real store only."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Iterator
from typing import Any

import celery
import pytest
import redis

from celery_docker import errors
from celery_docker.core import message
from celery_docker.core.jobrecord import Verdict
from celery_docker.core.lifecycle import Tally
from celery_docker.store import housekeeping, jobstore, keys, livelog, refused
from tests import servers
from tests.contract.records.worlds import LATE, QUEUE, claim, end, held, new, submit

# Only the real store: what can go wrong with a server


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[servers.RedisServer]:
    """A server that the test may stop, with a password."""
    request.getfixturevalue("redis_server")
    with servers.RedisServer({"requirepass": "geheim"}) as server:
        yield server


def opened(url: str) -> jobstore.Store:
    return jobstore.connect(url)


def test_check_is_content_with_a_server_that_lets_us_in(own_server: servers.RedisServer) -> None:
    records = opened(own_server.url)
    records.check()
    assert submit(records) is True
    records.close()


def test_a_server_that_is_gone_is_away_and_may_come_back(own_server: servers.RedisServer) -> None:
    records = opened(own_server.url)
    submit(records)
    own_server.end()
    for call in (
        records.check,
        lambda: claim(records),
        housekeeping.Housekeeping(records.link).now,
        lambda: records.record("j1"),
    ):
        with pytest.raises(errors.StoreAway) as caught:
            call()
        assert str(caught.value).startswith(f"cannot reach Redis at redis://:***@127.0.0.1:{own_server.port}/0: ")
        assert len(str(caught.value).splitlines()) == 1
    own_server.start()
    assert claim(records).verdict is Verdict.RUN
    records.close()


@pytest.mark.parametrize("login", [":falsch-geheim@", "", "user:falsch-geheim@"], ids=["wrong", "none", "unknown user"])
def test_a_server_that_does_not_let_us_in_refuses(own_server: servers.RedisServer, login: str) -> None:
    """Not the same as away: nothing but another password will help."""
    records = opened(f"redis://{login}127.0.0.1:{own_server.port}/0")
    for call in (records.check, lambda: claim(records), lambda: submit(records)):
        with pytest.raises(errors.StoreRefused) as caught:
            call()
        problem = str(caught.value)
        assert f"127.0.0.1:{own_server.port}/0 refuses" in problem
        assert "in the URL" in problem or "the URL has none" in problem
        assert "geheim" not in problem
        assert len(problem.splitlines()) == 1
    records.close()


def test_a_user_without_permission_is_refused(own_server: servers.RedisServer) -> None:
    with own_server.client() as admin:
        admin.execute_command("ACL", "SETUSER", "guest", "on", ">geheim2", "~*", "+ping")
    records = opened(f"redis://guest:geheim2@127.0.0.1:{own_server.port}/0")
    with pytest.raises(errors.StoreRefused) as caught:
        claim(records)
    assert "geheim2" not in str(caught.value)
    records.close()


def test_a_server_without_room_is_away(own_server: servers.RedisServer) -> None:
    """It may have room again later; nothing is lost until then."""
    records = opened(own_server.url)
    with own_server.client() as admin:
        admin.config_set("maxmemory", "1")
        with pytest.raises(errors.StoreAway):
            submit(records)
        admin.config_set("maxmemory", "0")
    assert submit(records) is True
    records.close()


def test_a_restarted_server_has_forgotten_the_scripts_and_gets_them_again(own_server: servers.RedisServer) -> None:
    records = opened(own_server.url)
    submit(records)
    own_server.restart()
    assert claim(records).verdict is Verdict.RUN
    records.close()


@pytest.fixture
def blocked_queue(redis_server: servers.RedisServer) -> Iterator[redis.Redis]:
    """A hand on Redis, where the key of the queue holds no list until the test frees it."""
    with redis_server.client(decode_responses=True) as client:
        yield client
        client.flushdb()


def test_a_message_whose_queue_is_no_list_is_published_once_it_is_one(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    records = opened(redis_server.url)
    world = housekeeping.Housekeeping(records.link)
    for job_id in ("delayed", "before", "missing"):
        submit(records, job_id)
    records.submit([new("after", after=("before",))])
    requeue_of = held(claim(records, job_id="delayed").fence, job_id="delayed")
    records.requeue(requeue_of, delay_s=0, tally=Tally(), attempts=())
    blocked_queue.set(QUEUE, "no list")
    end(records, "before")
    assert world.publish_due(LATE) == 0
    assert world.republish(LATE) == 0
    blocked_queue.delete(QUEUE)
    assert world.republish(LATE) == 3
    listed = {json.loads(text)["headers"]["id"] for text in blocked_queue.lrange(QUEUE, 0, -1)}
    assert listed == {"delayed", "after", "missing"}
    records.close()


def test_a_job_for_a_queue_that_is_no_list_leaves_nothing_behind(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    records = opened(redis_server.url)
    blocked_queue.set(QUEUE, "no list")
    with pytest.raises(errors.StoreAway, match="WRONGTYPE"):
        submit(records)
    assert blocked_queue.keys() == [QUEUE]
    records.close()


def test_a_shared_key_that_holds_something_else_is_put_away(redis_server: servers.RedisServer) -> None:
    records = opened(redis_server.url)
    names = {value for name, value in vars(keys).items() if name.isupper() and isinstance(value, str)}
    shared = {name for name in names if not name.endswith(":") and name.startswith(keys.PREFIX)}
    with redis_server.client(decode_responses=True) as client:
        for name in shared:
            client.xadd(name, {"no": "such type"})
        assert set(housekeeping.Housekeeping(records.link).repair()) == shared
        assert set(client.keys()) == {f"{name}:broken" for name in shared}
        client.flushdb()
    records.close()


def test_signs_of_life_that_are_none_hide_no_other_reader(redis_server: servers.RedisServer) -> None:
    records = opened(redis_server.url)
    reader = livelog.Reader(livelog.RedisLog(records.link), "j1")
    with redis_server.client(decode_responses=True) as client:
        client.set(keys.log_readers("damaged"), "x")
        client.zadd(keys.READ_JOBS, {"damaged": client.time()[0]})
        reader.attach()
        assert [job_id for job_id, signs in livelog.LiveLog(records.link).readers().items() if signs] == ["j1"]
        client.flushdb()
    records.close()


def test_a_refused_message_whose_queue_is_not_known_stays_where_it_is(redis_server: servers.RedisServer) -> None:
    """What was written down about it is damaged; with the text kept, somebody may still find out."""
    records = opened(redis_server.url)
    messages = refused.RefusedMessages(records.link)
    with redis_server.client(decode_responses=True) as client:
        client.hset(keys.REFUSED, "1", "damaged")
        client.hset(keys.REFUSED_TEXTS, "1", "a message")
        (row,) = messages.rows()
        with pytest.raises(errors.NotPutBack, match="its queue is not known"):
            messages.put_back(row)
        assert set(client.keys()) == {keys.REFUSED, keys.REFUSED_TEXTS}
        client.flushdb()
    records.close()


def test_an_option_that_no_client_knows_is_refused(own_server: servers.RedisServer) -> None:
    with pytest.raises(errors.StoreRefused) as caught:
        opened(f"{own_server.url}?colour=green").check()
    assert "geheim" not in str(caught.value)


def test_a_message_of_a_real_celery_client_is_what_we_write_ourselves(redis_server: servers.RedisServer) -> None:
    """`send_task` of the installed Celery into a real Redis, against our own message for the same job."""
    job_id = str(uuid.uuid4())
    kwargs = {"image": "busybox", "command": ["echo", "äöü"]}
    app = celery.Celery(broker=redis_server.url, set_as_current=False)
    with redis_server.client(decode_responses=True) as client:
        try:
            app.send_task("tasks.run_docker", kwargs=kwargs, task_id=job_id)
            theirs = json.loads(_pop(client, "celery"))
        finally:
            app.close()
            client.flushdb()
    ours = message.task_message(job_id, kwargs, queue="celery", tag="t1", origin="1@here")
    assert ours.keys() == theirs.keys()
    assert ours["headers"].keys() == theirs["headers"].keys()
    differing = {name for name, value in theirs["headers"].items() if ours["headers"][name] != value}
    assert differing <= {"origin", "argsrepr", "kwargsrepr"}
    assert ours["properties"].keys() == theirs["properties"].keys()
    differing = {name for name, value in theirs["properties"].items() if ours["properties"][name] != value}
    assert differing <= {"delivery_tag", "reply_to", "delivery_info"}
    assert ours["properties"]["delivery_info"]["routing_key"] == theirs["properties"]["delivery_info"]["routing_key"]
    assert json.loads(base64.b64decode(ours["body"])) == json.loads(base64.b64decode(theirs["body"]))
    assert {ours["content-type"], ours["content-encoding"]} == {theirs["content-type"], theirs["content-encoding"]}


def _pop(client: redis.Redis, queue: str) -> str:
    popped: Any = client.rpop(queue)
    assert popped is not None
    return str(popped)
