"""The lists of jobs by state: a job is in one of them, for all and for its user, until it is forgotten."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from celery_docker.core import jobrecord
from celery_docker.core.admission import Needs
from celery_docker.core.lifecycle import State
from celery_docker.store import keys, listkeeping, redislink
from tests import servers
from tests.contract.records.worlds import (
    HOST,
    LATE,
    QUEUE,
    Records,
    RedisWorld,
    World,
    claim,
    end,
    envelope,
    finish,
    held,
    new,
    published,
    requeue,
    submit,
    update,
)

ALICE = {jobrecord.UID: "1000"}


def test_a_job_is_listed_as_live_until_it_ends(world: World, records: Records) -> None:
    records.submit([new("j1", about=ALICE), new("j2")])
    assert (world.listed(), world.listed("1000")) == ({"live": {"j1", "j2"}}, {"live": {"j1"}})
    fence = claim(records).fence
    update(records, fence)
    assert world.listed() == {"live": {"j1", "j2"}}
    requeue(records, fence)
    world.housekeeping.publish_due(LATE)
    end(records, "j1", State.FAILED)
    end(records, "j2", State.TIMED_OUT)
    assert world.listed() == {"failed": {"j1"}, "timed_out": {"j2"}}
    assert world.listed("1000") == {"failed": {"j1"}}


@pytest.mark.parametrize("state", [state for state in State if state.is_final])
def test_each_end_has_a_list(world: World, records: Records, state: State) -> None:
    submit(records)
    end(records, "j1", state)
    assert world.listed() == {state.value: {"j1"}}


def test_a_job_without_a_submission_is_listed(world: World, records: Records) -> None:
    """A plain Celery client's, by its claim; and one that is cancelled before anybody read its message."""
    claim(records)
    records.cancel("j2", reason="by alice")
    assert world.listed() == {"live": {"j1", "j2"}}


def test_a_retry_by_hand_is_another_job(world: World, records: Records) -> None:
    submit(records)
    end(records, "j1", State.FAILED)
    records.submit([new("j2", about={"retry_of": "j1"})])
    assert world.listed() == {"failed": {"j1"}, "live": {"j2"}}


def test_an_end_that_is_said_twice_is_listed_once(world: World, records: Records) -> None:
    fence = claim(records).fence
    finish(records, fence)
    records.finish(held(fence), State.ERROR, {"id": "j1", "state": "error"})
    assert world.listed() == {"succeeded": {"j1"}}


def test_a_job_whose_record_was_lost_is_listed_where_it_is(world: World, records: Records) -> None:
    fence = claim(records).fence
    world.lose("j1")
    update(records, fence)
    assert world.listed() == {"live": {"j1"}}
    world.lose("j1")
    finish(records, fence)
    assert world.listed() == {"succeeded": {"j1"}}


def test_a_redis_that_lost_everything_lists_what_comes_back(world: World, records: Records) -> None:
    fence = claim(records).fence
    world.lose_everything()
    requeue(records, fence)
    assert world.listed() == {"live": {"j1"}}


def test_whoever_drops_a_job_from_the_index_drops_it_from_the_lists(world: World, records: Records) -> None:
    records.submit([new("j1", about=ALICE), new("j2", about=ALICE), new("j3")])
    end(records, "j1", State.FAILED)
    for job_id in ("j1", "j3"):
        world.lose(job_id)
    world.housekeeping.forget_expired(LATE)
    assert (world.listed(), world.listed("1000")) == ({"live": {"j2"}}, {"live": {"j2"}})


@pytest.fixture
def real(redis_server: servers.RedisServer) -> Any:
    world = RedisWorld(redis_server)
    yield world
    world.close()


def test_the_scripts_know_the_states_of_ends() -> None:
    (states,) = re.findall(r"^local FINAL = \{(.*)\}$", redislink.source("finalstates"), re.MULTILINE)
    assert re.findall(r"'(\w+)'", states) == [state.value for state in State if state.is_final]


USERS_INDEX = keys.user_jobs("1000")


@pytest.mark.parametrize("broken", [keys.INDEX, *keys.lists(keys.INDEX)[:2], *keys.lists(USERS_INDEX)[:2]])
def test_an_end_is_written_beside_a_broken_list(
    real: RedisWorld, redis_server: servers.RedisServer, broken: str
) -> None:
    """A key of a wrong type; the list is made again by housekeeping."""
    real.records.submit([new("j1", about=ALICE)])
    with redis_server.client() as client:
        client.delete(broken)
        client.set(broken, "no list")
    end(real.records, "j1")
    record = real.records.record("j1")
    assert (record["state"], bool(record["receipt"])) == ("succeeded", True)


@pytest.mark.parametrize("uid", ["", "1000:jobs", "-1", "*", "1000\n", "\u0661"])
def test_a_damaged_user_names_no_list(real: RedisWorld, redis_server: servers.RedisServer, uid: str) -> None:
    submit(real.records)
    real.write("j1", uid=uid)
    with redis_server.client(decode_responses=True) as client:
        client.zadd(keys.user_jobs(uid), {"j1": 1})
        end(real.records, "j1")
        assert client.keys(f"{keys.USER}*") == [keys.user_jobs(uid)]
    assert real.listed() == {"succeeded": {"j1"}}


def test_a_message_that_is_put_back_leaves_the_list(real: RedisWorld, redis_server: servers.RedisServer) -> None:
    real.records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope())
    real.records.finish(held(1), State.REJECTED, {"id": "j1", "state": "rejected"})
    assert real.listed() == {"rejected": {"j1"}}
    with redis_server.client() as client:
        client.hset(keys.REFUSED, "1", "{}")
        client.hset(keys.REFUSED_TEXTS, "1", "text")
    touched = [keys.REFUSED, keys.REFUSED_TEXTS, QUEUE, keys.INDEX, keys.job("j1")]
    assert real.records.link.call("restore", touched, ["1", "j1"]) == 1
    assert real.listed() == {}


# Housekeeping: the lists of jobs of an older version, and what went wrong


@pytest.fixture
def client(real: RedisWorld, redis_server: servers.RedisServer) -> Iterator[Any]:
    with redis_server.client(decode_responses=True) as client:
        yield client


def keep(world: RedisWorld, client: Any, after_s: float = 0.0) -> bool:
    """Let a worker look after the lists; tell whether they count as complete then."""
    client.delete(keys.LISTS_LOCK)
    world.housekeeping.keep_lists(world.housekeeping.now() + after_s)
    return bool(client.exists(keys.LISTS))


def older(client: Any, *indexes: str) -> None:
    """Leave behind what a worker of an older version does: records and indexes alone."""
    for index in indexes:
        client.delete(*keys.lists(index))


def test_jobs_of_an_older_version_are_listed(real: RedisWorld, client: Any) -> None:
    """Over more than one portion, and those of each user; one whose record is gone or broken is live."""
    names = [f"j{number:04}" for number in range(1200)]
    real.records.submit([new(name, about=ALICE if number % 2 else {}) for number, name in enumerate(names)])
    end(real.records, "j0000", State.FAILED)
    end(real.records, "j0001", State.LOST)
    end(real.records, "j1199", State.CANCELLED)
    before, of_alice = real.listed(), real.listed("1000")
    older(client, keys.INDEX, USERS_INDEX)
    assert not client.exists(keys.LISTS)
    assert keep(real, client)
    assert (real.listed(), real.listed("1000")) == (before, of_alice)
    real.lose("j0000")
    client.delete(keys.job("j0001"))
    client.set(keys.job("j0001"), "no record")
    real.write("j1199", state="melted")
    older(client, keys.INDEX)
    assert keep(real, client)
    assert real.listed() == {"live": set(names)}


def test_an_end_that_a_worker_of_an_older_version_wrote_is_listed(real: RedisWorld, client: Any) -> None:
    """While it is there, nobody trusts the lists; it can be known by its report."""
    submit(real.records)
    assert keep(real, client)
    client.zadd(keys.HOSTS, {HOST: 1})
    client.hset(keys.host_about(HOST), "about", '{"version": "0.1.0"}')
    assert not keep(real, client)
    place = client.zscore(keys.INDEX, "j1")
    end(real.records, "j1")
    client.zrem(keys.ended(keys.INDEX, "succeeded"), "j1")
    client.zadd(keys.live(keys.INDEX), {"j1": place})
    assert not keep(real, client)
    client.hset(keys.host_about(HOST), "about", '{"version": "0.2.0", "lists_ends": true}')
    assert keep(real, client)
    assert real.listed() == {"succeeded": {"j1"}}


@pytest.mark.parametrize("about", ["", "no JSON", "[]", '{"lists_ends": 1}'])
def test_a_host_whose_report_cannot_be_read_may_be_older(real: RedisWorld, client: Any, about: str) -> None:
    client.zadd(keys.HOSTS, {HOST: 1})
    client.hset(keys.host_about(HOST), "about", about)
    assert not keep(real, client)


def test_what_another_version_submitted_or_dropped_is_mended_at_once(real: RedisWorld, client: Any) -> None:
    real.records.submit([new("j1"), new("j2")])
    assert keep(real, client)
    client.zrem(keys.live(keys.INDEX), "j1")
    assert keep(real, client)
    assert real.listed() == {"live": {"j1", "j2"}}
    client.zrem(keys.INDEX, "j1")
    assert keep(real, client)
    assert real.listed() == {"live": {"j2"}}


def test_a_job_in_two_lists_is_in_one_again(real: RedisWorld, client: Any) -> None:
    """A record that was lost after its end, and is begun anew by another end."""
    fence = claim(real.records).fence
    finish(real.records, fence)
    assert keep(real, client)
    real.lose("j1")
    real.records.finish(held(fence), State.ERROR, {"id": "j1", "state": "error"})
    assert keep(real, client)
    assert real.listed() == {"error": {"j1"}}


def test_an_end_that_a_worker_left_behind_that_is_gone_again_is_listed(real: RedisWorld, client: Any) -> None:
    """After a downgrade and an upgrade the mark may still stand; over more than one portion, and of a user."""
    names = [f"j{number:04}" for number in range(600)]
    real.records.submit([new(name, about=ALICE) for name in names])
    assert keep(real, client)
    for index in (keys.INDEX, USERS_INDEX):
        places = {name: client.zscore(index, name) for name in ("j0000", "j0599")}
        for name in places:
            end(real.records, name, State.FAILED)
        client.zrem(keys.ended(index, "failed"), *places)
        client.zadd(keys.live(index), places)
    assert keep(real, client)
    listed = {"live": {*names[1:-1]}, "failed": {"j0000", "j0599"}}
    assert (real.listed(), real.listed("1000")) == (listed, listed)


def test_what_the_numbers_do_not_show_is_mended_within_an_hour(
    real: RedisWorld, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more jobs have not ended than are looked at each time."""
    monkeypatch.setattr(listkeeping, "_MOST_LIVE", 0)
    submit(real.records)
    end(real.records, "j1")
    assert keep(real, client)
    place = client.zscore(keys.INDEX, "j1")
    client.delete(*keys.lists(keys.INDEX))
    client.zadd(keys.live(keys.INDEX), {"j1": place})
    assert keep(real, client, 3500)
    assert real.listed() == {"live": {"j1"}}
    assert keep(real, client, 3700)
    assert real.listed() == {"succeeded": {"j1"}}


@pytest.mark.parametrize("key", [*keys.lists(keys.INDEX)[:2], *keys.lists(USERS_INDEX)[:2]])
def test_a_list_that_is_none_is_made_again(real: RedisWorld, client: Any, key: str) -> None:
    real.records.submit([new("j1", about=ALICE), new("j2", about=ALICE)])
    assert keep(real, client)
    client.delete(key)
    client.set(key, "no list")
    end(real.records, "j1")
    assert keep(real, client)
    assert real.listed() == real.listed("1000") == {"succeeded": {"j1"}, "live": {"j2"}}


def test_shared_keys_of_the_lists_are_put_away_where_they_are_none(real: RedisWorld, client: Any) -> None:
    for key in (keys.LISTS, keys.ended(keys.INDEX, "lost")):
        client.hset(key, "no", "list")
    assert sorted(real.housekeeping.repair()) == [keys.ended(keys.INDEX, "lost"), keys.LISTS]


@pytest.mark.parametrize("text", ["", "soon", "nan", "1e999"])
def test_a_mark_that_cannot_be_read_is_made_again(real: RedisWorld, client: Any, text: str) -> None:
    submit(real.records)
    client.set(keys.LISTS, text)
    older(client, keys.INDEX)
    assert keep(real, client)
    assert real.listed() == {"live": {"j1"}}
    assert float(client.get(keys.LISTS)) > 0


def test_one_worker_of_all_looks_after_the_lists(real: RedisWorld, client: Any) -> None:
    submit(real.records)
    assert keep(real, client)
    older(client, keys.INDEX)
    real.housekeeping.keep_lists(real.housekeeping.now())
    assert real.listed() == {}
    assert 0 < client.ttl(keys.LISTS_LOCK) <= 50, "should it be killed, another one goes on"
    assert 0 < client.ttl(keys.LISTS) <= 300, "without workers, or after a downgrade, nobody trusts the lists"


def test_nothing_is_left_of_a_user_without_jobs(real: RedisWorld, client: Any) -> None:
    real.records.submit([new("j1", about=ALICE)])
    client.zadd(keys.ended(USERS_INDEX, "lost"), {"stranger": 1})
    real.lose("j1")
    real.housekeeping.forget_expired(LATE)
    assert client.keys(f"{keys.USER}*") == []


# A key of Redis is lost: what has not ended goes on by its record


@pytest.mark.parametrize("lost", [keys.WAITING, keys.DELAYED])
def test_a_job_that_waits_and_is_in_no_list_is_published_again(real: RedisWorld, client: Any, lost: str) -> None:
    submit(real.records)
    if lost == keys.DELAYED:
        requeue(real.records, claim(real.records).fence)
    client.delete(lost, QUEUE)
    keep(real, client)
    assert real.housekeeping.republish(LATE) == 1
    assert published(real) == ["j1"]
    keep(real, client)
    assert real.housekeeping.republish(LATE) == 0


def test_a_parked_job_is_published_again(real: RedisWorld, client: Any) -> None:
    needs = Needs(0, 2**30)
    real.records.claim("j1", host=HOST, queue=QUEUE, envelope=envelope(), needs=needs, fits=False)
    client.delete(keys.WAITING)
    assert real.housekeeping.republish(LATE) == 0
    keep(real, client)
    assert real.housekeeping.republish(LATE) == 1


def test_jobs_after_others_go_on_without_the_set_of_those_that_wait(real: RedisWorld, client: Any) -> None:
    submit(real.records)
    real.records.submit([new("j2", after=("j1",))])
    client.delete(keys.BLOCKED)
    keep(real, client)
    end(real.records, "j1")
    assert published(real) == ["j1", "j2"]


@pytest.mark.parametrize("is_running", [False, True])
def test_a_cancel_means_cancel_without_the_set_of_those_to_end(real: RedisWorld, client: Any, is_running: bool) -> None:
    submit(real.records)
    if is_running:
        claim(real.records)
    real.records.cancel("j1", reason="by alice")
    client.delete(keys.CANCELLING)
    keep(real, client)
    assert [job.job_id for job in real.housekeeping.end_requests(HOST)] == ["j1"]


def test_a_job_that_had_to_start_by_now_ends_without_the_set_of_those(real: RedisWorld, client: Any) -> None:
    real.records.submit([new("j1", expires_s=60)])
    client.delete(keys.EXPIRING)
    keep(real, client)
    assert real.housekeeping.expire_due(LATE) == 1


def test_a_host_finds_its_jobs_without_the_set_of_them(real: RedisWorld, client: Any) -> None:
    fence = claim(real.records).fence
    client.delete(keys.host_jobs(HOST))
    keep(real, client)
    assert real.owned(HOST) == {"j1"}
    finish(real.records, fence)
    real.records.settle("j1", host=HOST, retention_s=60)
    keep(real, client)
    assert real.owned(HOST) == set()
