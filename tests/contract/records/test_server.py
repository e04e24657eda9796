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
from pytest_mock import MockerFixture

from celery_docker import errors
from celery_docker.core import jobrecord, message
from celery_docker.core.jobrecord import Taken, Verdict
from celery_docker.core.lifecycle import State, Tally
from celery_docker.store import housekeeping, jobstore, keys, livelog, refused
from celery_docker.store.hosts import HostStore
from tests import servers
from tests.contract.records.worlds import HOST, LATE, QUEUE, RECEIPT, claim, end, envelope, held, new, requeue, submit

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


def test_a_message_that_is_lost_behind_thousands_of_others_is_published_again(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis, mocker: MockerFixture
) -> None:
    """Of another queue, whose hosts are idle, while those of the first have more to do than they can."""
    mocker.patch("celery_docker.store.housekeeping._AT_ONCE", 2)
    records = opened(redis_server.url)
    records.submit([new(f"j{number}") for number in range(5)])
    records.submit([jobrecord.New("n1", "night", envelope(job_id="n1"), {"image": "busybox"})])
    blocked_queue.delete("night")
    assert housekeeping.Housekeeping(records.link).republish(LATE) == 1
    assert blocked_queue.llen("night") == 1
    assert blocked_queue.llen(QUEUE) == 5
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


# Those that a submission writes.
SUBMITTED = (
    *(keys.INDEX, keys.WAITING, keys.BLOCKED, keys.CANCELLING, keys.DELAYED, keys.USERS, keys.SHARES, keys.WINDOWS),
    *(keys.user_jobs("7"), keys.batch("b1"), keys.batch_jobs("b1"), keys.batch_held("b1"), keys.dependents("j1")),
)


@pytest.mark.parametrize("name", SUBMITTED)
def test_a_job_is_queued_whole_or_not_at_all_where_a_key_holds_something_else(
    name: str, redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """Else its record would be there, and who asks again with its id would hear that it is queued already."""
    records = opened(redis_server.url)
    submit(records)
    job = new("j2", after=("j1",), expires_s=60, batch_id="b1", about={"uid": "7", "share": "s"})
    blocked_queue.delete(name)
    blocked_queue.xadd(name, {"no": "such type"})
    with pytest.raises(errors.StoreAway, match="WRONGTYPE"):
        records.submit([job])
    assert records.record("j2") == {}
    blocked_queue.delete(name)
    assert records.submit([job]) == [True]
    records.close()


@pytest.mark.parametrize("name", [keys.CANCELLING, keys.WAITING, keys.BLOCKED, keys.DELAYED, keys.SHARES, keys.WINDOWS])
def test_a_job_ends_whole_or_not_at_all_where_a_key_holds_something_else(
    name: str, redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """Else its receipt would be there, its end would count as told, and nobody would let go what waits for it."""
    records = opened(redis_server.url)
    records.submit([new("j1"), new("j2", after=("j1",), about={"share": "s"})])
    holding = held(claim(records).fence)
    kept = f"{name}:kept"
    blocked_queue.rename(name, kept) if blocked_queue.exists(name) else None
    blocked_queue.xadd(name, {"no": "such type"})
    with pytest.raises(errors.StoreAway, match="WRONGTYPE"):
        records.finish(holding, State.SUCCEEDED, RECEIPT)
    assert "receipt" not in records.record("j1")
    blocked_queue.delete(name)
    blocked_queue.rename(kept, name) if blocked_queue.exists(kept) else None
    records.finish(holding, State.SUCCEEDED, RECEIPT)
    listed = {json.loads(text)["headers"]["id"] for text in blocked_queue.lrange(QUEUE, 0, -1)}
    assert listed == {"j1", "j2"}
    records.close()


@pytest.mark.parametrize("name", [keys.INDEX, keys.host_jobs(HOST), keys.DELAYED, keys.WAITING, keys.EXPIRING])
def test_a_job_is_claimed_whole_or_not_at_all_where_a_key_holds_something_else(
    name: str, redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """Else its message would be gone from the host's list, and a worker that is killed then would lose the job."""
    records, taken = opened(redis_server.url), Taken(QUEUE, json.dumps(envelope()).encode())
    blocked_queue.lpush(keys.taken(HOST, QUEUE), taken.text)
    blocked_queue.xadd(name, {"no": "such type"})
    with pytest.raises(errors.StoreAway, match="WRONGTYPE"):
        records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), taken=taken)
    assert blocked_queue.llen(keys.taken(HOST, QUEUE)) == 1
    assert records.record("j1") == {}
    records.close()


@pytest.mark.parametrize("name", [keys.host_jobs(HOST), keys.DELAYED])
def test_a_job_is_given_back_whole_or_not_at_all_where_a_key_holds_something_else(
    name: str, redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """Else it would count as given back, and be in no set of those that are published."""
    records = opened(redis_server.url)
    submit(records)
    fence = claim(records).fence
    blocked_queue.delete(name)
    blocked_queue.xadd(name, {"no": "such type"})
    with pytest.raises(errors.StoreAway, match="WRONGTYPE"):
        requeue(records, fence)
    blocked_queue.delete(name)
    requeue(records, fence)
    assert blocked_queue.zrange(keys.DELAYED, 0, -1) == ["j1"]
    records.close()


def test_the_last_job_of_a_batch_whose_held_jobs_are_no_list_ends_it_all_the_same(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    records = opened(redis_server.url)
    records.begin_batch("b1", {"size": 1})
    records.submit([new("j1", batch_id="b1")])
    blocked_queue.set(keys.batch_held("b1"), "no list")
    records.finish(held(claim(records).fence), State.SUCCEEDED, RECEIPT, notices=1)
    assert blocked_queue.zrange(keys.NOTICES, 0, -1) == ["j1 1 b1"]
    records.close()


def test_a_batch_that_is_begun_again_is_kept_for_its_jobs(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """A client that lost the answer asks again, while the first request queues its jobs."""
    records = opened(redis_server.url)
    records.begin_batch("b1", {"size": 2, "limit": 1})
    records.submit([new(job_id, batch_id="b1", batch_index=index) for index, job_id in enumerate(("j1", "j2"))])
    records.begin_batch("b1", {"size": 2, "limit": 1})
    assert blocked_queue.ttl(keys.batch("b1")) == -1
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


@pytest.mark.parametrize("part", ["published", "held"])
def test_a_key_of_a_share_that_holds_something_else_counts_as_lost(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis, part: str
) -> None:
    """Each of its jobs is published all the same."""
    records = opened(redis_server.url)
    world = housekeeping.Housekeeping(records.link)
    records.link.client.hset(keys.WINDOWS, QUEUE, 1)
    for number in range(1, 4):
        records.submit([new(f"j{number}", about={"share": "a"})])
    records.link.client.set(f"{keys.SHARE}a:{part}", "no sorted set")
    for _ in range(3):
        world.publish_due(LATE)
        world.release_held()
        records.link.client.delete(keys.SHARES_LOCK)
        for job_id in map(message.job_id, records.link.client.lrange(QUEUE, 0, -1)):
            if records.record(job_id)["state"] == "queued":
                end(records, job_id)
    assert {records.record(f"j{number}")["state"] for number in range(1, 4)} == {"succeeded"}
    assert records.link.client.llen(QUEUE) == 3
    records.close()


@pytest.mark.parametrize("window", ["", "nan", "-1", "0", "many", "1e400"])
def test_a_window_that_is_no_number_of_places_holds_nothing_back(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis, window: str
) -> None:
    records = opened(redis_server.url)
    records.link.client.hset(keys.WINDOWS, QUEUE, window)
    records.submit([new(f"j{number}", about={"share": "a"}) for number in range(1, 4)])
    assert records.link.client.llen(QUEUE) == 3
    records.close()


@pytest.mark.parametrize("submitted_at", ["nan", "inf", "-inf", "", "yesterday", "9" * 400])
def test_a_held_job_whose_time_of_submission_is_damaged_is_published(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis, submitted_at: str
) -> None:
    records = opened(redis_server.url)
    world = housekeeping.Housekeeping(records.link)
    records.link.client.hset(keys.WINDOWS, QUEUE, 1)
    records.submit([new(f"j{number}", about={"share": "a"}) for number in (1, 2)])
    records.link.client.hset(keys.job("j2"), "submitted_at", submitted_at)
    world.publish_due(LATE)
    end(records, "j1")
    assert message.job_id(records.link.client.lindex(QUEUE, 0)) == "j2"
    records.close()


def test_the_windows_are_those_of_the_hosts_that_serve_a_queue(redis_server: servers.RedisServer) -> None:
    """One worker of all looks after them in a few seconds; what a host reports wrongly counts for nothing."""
    records = opened(redis_server.url)
    world, hosts = housekeeping.Housekeeping(records.link), HostStore(records.link)
    reports: dict[str, dict[str, Any]] = {
        "n1": {"queues": [QUEUE], "slots": 3},
        "n2": {"queues": QUEUE, "slots": "many"},
    }
    for host, about in reports.items():
        hosts.beat(host, machine=host, about=about)
    records.submit([new(f"j{number}", about={"share": "a"}) for number in range(1, 4)])
    assert world.release_held() == 0
    assert records.link.client.hget(keys.WINDOWS, QUEUE) == "6"
    records.link.client.hset(keys.WINDOWS, QUEUE, 1)
    world.release_held()
    assert records.link.client.hget(keys.WINDOWS, QUEUE) == "1"
    assert 0 < records.link.client.ttl(keys.WINDOWS) <= 86_400
    records.link.client.flushdb()
    records.close()


def test_what_an_older_version_does_with_a_share_s_jobs(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    """It publishes a held one that is due, and puts one off for a retry: neither is published twice or has a place."""
    records = opened(redis_server.url)
    world, client = housekeeping.Housekeeping(records.link), records.link.client
    client.hset(keys.WINDOWS, QUEUE, 1)
    records.submit([new(f"j{number}", about={"share": "a"}) for number in range(1, 5)])
    client.zrem(keys.DELAYED, "j2")
    client.zadd(keys.WAITING, {"j2": 0})
    client.lpush(QUEUE, records.record("j2")["message"])
    client.zrem(keys.WAITING, "j1")
    client.zadd(keys.DELAYED, {"j1": LATE})
    assert world.release_held() == 1
    published = [message.job_id(text) for text in client.lrange(QUEUE, 0, -1)]
    assert published == ["j3", "j2", "j1"]
    for job_id in ("j2", "j3"):
        assert "over_share" not in records.record(job_id)
    records.close()


def test_held_jobs_are_published_where_the_delayed_ones_are_lost(
    redis_server: servers.RedisServer, blocked_queue: redis.Redis
) -> None:
    records = opened(redis_server.url)
    records.link.client.hset(keys.WINDOWS, QUEUE, 1)
    records.submit([new(f"j{number}", about={"share": "a"}) for number in (1, 2)])
    records.link.client.delete(keys.DELAYED)
    end(records, "j1")
    assert message.job_id(records.link.client.lindex(QUEUE, 0)) == "j2"
    records.close()
