"""The lists of jobs by state: a job is in one of them, for all and for its user, until it is forgotten."""

from __future__ import annotations

import re
from typing import Any

import pytest

from celery_docker.core import jobrecord
from celery_docker.core.lifecycle import State
from celery_docker.store import keys, redislink
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
    (states,) = re.findall(r"^local FINAL = \{(.*)\}$", redislink.source("lists"), re.MULTILINE)
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
    end(real.records, "j1")
    with redis_server.client() as client:
        assert client.keys(f"{keys.USER}*") == []
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
