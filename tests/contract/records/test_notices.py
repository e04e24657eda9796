"""The notices of ends: listed in the step that writes the end, once for a batch, and handed out until struck off."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from celery_docker.background.notifying import Notifying
from celery_docker.core import message
from celery_docker.core.jobrecord import Finished, Holding, New
from celery_docker.core.lifecycle import State
from celery_docker.core.notice import LEASE_S
from celery_docker.core.policy import Policy
from celery_docker.core.redishealth import FailedNotices
from celery_docker.host.keyfile import KeyFile
from celery_docker.run.authority import Authority
from celery_docker.store import keys
from celery_docker.store import notices as store
from celery_docker.store.notices import NoticeStore
from tests.contract.records.worlds import (
    HOST,
    QUEUE,
    RECEIPT,
    Records,
    RedisWorld,
    World,
    claim,
    end,
    held,
    new,
    submit,
)
from tests.receivers import Place, Web
from tests.waiting import eventually

HUNDREDS = 500

# What is listed


def test_a_job_that_tells_nobody(world: World, records: Records) -> None:
    submit(records)
    end(records, "j1")
    assert world.notices() == set()


def test_each_target_of_a_job_has_a_notice(world: World, records: Records) -> None:
    submit(records)
    holding = held(claim(records).fence)
    for _ in range(2):
        records.finish(holding, State.FAILED, RECEIPT, notices=2)
    assert world.notices() == {"j1 1", "j1 2"}


def test_jobs_that_end_together(world: World, records: Records) -> None:
    records.submit([new("j1"), new("j2")])
    ends = [
        Finished(held(claim(records, job_id=job_id).fence, job_id=job_id), State.CANCELLED, RECEIPT, notices)
        for job_id, notices in (("j1", 0), ("j2", 1))
    ]
    assert records.finish_many(ends) == [True, True]
    assert world.notices() == {"j2 1"}


def test_a_job_whose_record_was_lost_is_told_of(world: World, records: Records) -> None:
    submit(records)
    holding = held(claim(records).fence)
    world.lose("j1")
    records.finish(holding, State.SUCCEEDED, RECEIPT, notices=1)
    assert world.notices() == {"j1 1"}


def test_a_batch_is_told_of_once_at_the_end_of_its_last_job(world: World, records: Records) -> None:
    records.begin_batch("b1", {"size": 3, "limit": 1})
    records.submit([new(f"j{index}", batch_id="b1", batch_index=index) for index in (1, 2, 3)])
    for job_id in ("j2", "j1"):
        end(records, job_id, notices=2)
        assert world.notices() == set()
    end(records, "j3", State.FAILED, notices=2)
    assert world.notices() == {"j3 1 b1", "j3 2 b1"}


def test_a_batch_that_is_being_submitted_is_not_told_of(world: World, records: Records) -> None:
    """Its first jobs may end before the others are there."""
    records.begin_batch("b1", {"size": 2})
    records.submit([new("j1", batch_id="b1", batch_index=1)])
    end(records, "j1", notices=1)
    assert world.notices() == set()
    records.submit([new("j2", batch_id="b1", batch_index=2)])
    end(records, "j2", notices=1)
    assert world.notices() == {"j2 1 b1"}


def test_a_job_that_is_tried_again_by_hand_does_not_tell_of_its_batch_again(world: World, records: Records) -> None:
    records.begin_batch("b1", {"size": 1})
    records.submit([new("j1", batch_id="b1", batch_index=1)])
    end(records, "j1", State.FAILED, notices=1)
    records.submit([new("j2", batch_id="b1", batch_index=1)])
    end(records, "j2", notices=1)
    assert world.notices() == {"j1 1 b1"}


def test_a_batch_whose_last_job_tells_nobody(world: World, records: Records) -> None:
    records.begin_batch("b1", {"size": 2})
    records.submit([new(f"j{index}", batch_id="b1", batch_index=index) for index in (1, 2)])
    end(records, "j1", notices=1)
    end(records, "j2", State.REJECTED)
    assert world.notices() == set()


# In Redis alone


@pytest.fixture
def redis_world(request: pytest.FixtureRequest) -> Iterator[RedisWorld]:
    real = RedisWorld(request.getfixturevalue("redis_server"))
    yield real
    real.close()


@pytest.fixture
def notices(redis_world: RedisWorld) -> NoticeStore:
    return NoticeStore(redis_world.records.link)


def test_hundreds_that_end_at_once_and_are_written_twice_tell_of_their_batch_once(redis_world: RedisWorld) -> None:
    """By several threads; whoever writes an end and hears no answer writes it again."""
    records, job_ids = redis_world.records, [f"j{index}" for index in range(HUNDREDS)]
    records.begin_batch("b1", {"size": HUNDREDS})
    records.submit([new(job_id, batch_id="b1", batch_index=index) for index, job_id in enumerate(job_ids)])
    holdings = [held(claim(records, job_id=job_id).fence, job_id=job_id) for job_id in job_ids]

    def finish(holding: Holding) -> None:
        for _ in range(2):
            records.finish(holding, State.SUCCEEDED, RECEIPT, notices=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(finish, holdings))
    (entry,) = redis_world.notices()
    assert entry.endswith(" 1 b1")


def test_a_notice_is_handed_out_to_one(redis_world: RedisWorld, notices: NoticeStore) -> None:
    submit(redis_world.records)
    end(redis_world.records, "j1", notices=2)
    (first,) = notices.take(1)
    (second,) = notices.take(5)
    assert {(due.job_id, due.number, due.batch_id, due.tries) for due in (first, second)} == {
        ("j1", 1, None, 0),
        ("j1", 2, None, 0),
    }
    assert notices.take(5) == []
    notices.strike_off(first)
    assert redis_world.notices() == {second.entry}


def test_one_that_was_handed_out_to_somebody_who_died_comes_again(
    redis_world: RedisWorld, notices: NoticeStore
) -> None:
    submit(redis_world.records)
    end(redis_world.records, "j1", notices=1)
    notices.take(1)
    link = redis_world.records.link
    (left_s,) = (
        score - redis_world.housekeeping.now()
        for score in dict(link.client.zrange(keys.NOTICES, 0, -1, withscores=True)).values()
    )
    assert LEASE_S - 60 < left_s <= LEASE_S
    link.client.zadd(keys.NOTICES, {"j1 1": 0})
    (again,) = notices.take(1)
    assert again.tries == 1


def test_one_that_is_put_off(redis_world: RedisWorld, notices: NoticeStore) -> None:
    submit(redis_world.records)
    end(redis_world.records, "j1", notices=1)
    (due,) = notices.take(1)
    notices.put_off(due, 0, tried=True)
    (due,) = notices.take(1)
    assert due.tries == 1
    notices.put_off(due, 0, tried=False)
    (due,) = notices.take(1)
    assert due.tries == 1, "nothing was tried the second time"
    notices.put_off(due, 3600, tried=True)
    assert notices.take(1) == []


def test_one_that_was_sent_meanwhile_is_not_put_off(redis_world: RedisWorld, notices: NoticeStore) -> None:
    """Its lease was over, and another host has sent it."""
    submit(redis_world.records)
    end(redis_world.records, "j1", notices=1)
    (due,) = notices.take(1)
    notices.strike_off(due)
    notices.put_off(due, 0, tried=True)
    notices.strike_off(due)
    assert redis_world.notices() == set()
    assert not redis_world.records.link.client.exists(keys.NOTICE_TRIES)


def test_the_facts_of_a_notice(redis_world: RedisWorld, notices: NoticeStore) -> None:
    redis_world.records.begin_batch("b1", {"size": 1, "name": "night"})
    redis_world.records.submit([new("j1", batch_id="b1", batch_index=1)])
    end(redis_world.records, "j1", notices=1)
    (due,) = notices.take(1)
    facts = notices.facts(due)
    assert facts is not None
    assert (facts.queue, facts.message.job_id, facts.message.kwargs) == ("celery", "j1", {"image": "busybox"})
    assert facts.receipt["state"] == "succeeded"
    assert 0 <= facts.age_s < 60
    assert due.batch_id == "b1"
    assert notices.batch("b1") == ("night", {"succeeded": 1})
    assert notices.batch("b2") is None
    redis_world.lose("j1")
    assert notices.facts(due) is None


def test_those_that_wait_after_a_failure(redis_world: RedisWorld, notices: NoticeStore) -> None:
    """Not those that are due, are being sent, or were left to another host."""
    for job_id in ("j1", "j2", "j3", "j4"):
        asked = message.task_message(
            job_id, {"image": "b", "notify": [f"{job_id}@b.c"]}, queue=QUEUE, tag="t", origin="1@h"
        )
        redis_world.records.submit([New(job_id, QUEUE, asked, {})])
        holding = Holding(job_id, HOST, claim(redis_world.records, job_id=job_id).fence, QUEUE, asked)
        redis_world.records.finish(holding, State.SUCCEEDED, RECEIPT, notices=1)
    assert notices.failed() == FailedNotices()
    due = {one.job_id: one for one in notices.take(3)}
    assert notices.failed() == FailedNotices(), "three are being sent"
    one, other, passed_on = sorted(due)
    notices.put_off(due[one], 10, tried=True)
    notices.put_off(due[passed_on], 30, tried=False)
    assert notices.failed() == FailedNotices(1, (f"{one}@b.c",))
    notices.put_off(due[other], 0, tried=True)
    redis_world.records.link.client.zadd(keys.NOTICES, {due[other].entry: 0})
    assert other in {again.job_id for again in notices.take(1)}, "its second try goes on"
    assert notices.failed().count == 2
    redis_world.lose(one)
    assert notices.failed() == FailedNotices(2, (f"{other}@b.c",))


def test_of_very_many_some_are_looked_at(
    redis_world: RedisWorld, notices: NoticeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that have been tried most often; damaged ones among them."""
    monkeypatch.setattr(store, "_MOST_SHOWN", 2)
    client = redis_world.records.link.client
    client.zadd(keys.NOTICES, {"j1 1": 0, "j2 x": 10**12, "": 10**13})
    client.hset(keys.NOTICE_TRIES, mapping={"j1 1": 5, "j2 x": 5, "": "many"})
    assert notices.failed() == FailedNotices(1, (), is_more=True)
    client.delete(keys.NOTICES)
    client.set(keys.NOTICES, "no list")
    assert notices.failed() == FailedNotices()


@pytest.mark.parametrize(
    "entry", ["", "j1", "j1 x", "j1 1111", "j1 -1", "\u202e 1", "j9 1", "j1 1 b\r\nX: y", "j1 1  "]
)
def test_an_entry_that_was_damaged_is_of_no_job(redis_world: RedisWorld, notices: NoticeStore, entry: str) -> None:
    redis_world.records.link.client.zadd(keys.NOTICES, {entry: 0})
    (due,) = notices.take(9)
    assert due.number == 0 or notices.facts(due) is None
    notices.strike_off(due)
    assert redis_world.notices() == set()


@pytest.mark.parametrize("tries", ["many", str(2**63 - 1), ""])
def test_a_number_of_tries_that_is_none_keeps_no_other_notice(
    redis_world: RedisWorld, notices: NoticeStore, tries: str
) -> None:
    client = redis_world.records.link.client
    client.zadd(keys.NOTICES, {"j1 1": 0, "j2 1": 1})
    client.hset(keys.NOTICE_TRIES, "j1 1", tries)
    assert [(due.job_id, due.tries) for due in notices.take(9)] == [("j1", 0), ("j2", 0)]


def test_the_id_of_a_batch_is_no_header(redis_world: RedisWorld, notices: NoticeStore, tmp_path: Path) -> None:
    """Of a notice that somebody has made up in Redis: nothing is sent, and it is given up."""
    place, authority = Place(tmp_path), Authority(Policy(notify=("lab-chat", "a@b.c")), KeyFile(str(tmp_path / "key")))
    forged = "b1\r\nX-Forged:1"
    with Web() as web:
        place.target(lab_chat=web.url)
        envelope = message.task_message(
            "j1", {"image": "busybox", "notify": ["lab-chat", "a@b.c"]}, queue=QUEUE, tag="t", origin="1@here"
        )
        redis_world.records.submit([New("j1", QUEUE, envelope, {})])
        holding = Holding("j1", HOST, claim(redis_world.records).fence, QUEUE, envelope)
        redis_world.records.finish(holding, State.SUCCEEDED, RECEIPT)
        client = redis_world.records.link.client
        client.hset(keys.batch(forged), "size", 1)
        client.zadd(keys.NOTICES, {f"j1 1 {forged}": 0, f"j1 2 {forged}": 0})
        Notifying(notices, authority.rules_of, place.messenger.send).look()
        eventually(lambda: redis_world.notices() == set())
        assert web.posts == []
        assert place.mails() == []


def test_a_key_of_another_type_ends_no_job_by_half(redis_world: RedisWorld) -> None:
    """Its end is refused whole, and said again after the repair."""
    submit(redis_world.records)
    holding = held(claim(redis_world.records).fence)
    client = redis_world.records.link.client
    client.set(keys.NOTICES, "x")
    with pytest.raises(Exception, match=r"WRONGTYPE|wrong kind"):
        redis_world.records.finish(holding, State.SUCCEEDED, RECEIPT, notices=1)
    assert "receipt" not in redis_world.records.record("j1")
    assert redis_world.housekeeping.repair() == [keys.NOTICES]
    redis_world.records.finish(holding, State.SUCCEEDED, RECEIPT, notices=1)
    assert redis_world.notices() == {"j1 1"}


# All the way, but for the container


def test_what_is_listed_reaches_its_target(redis_world: RedisWorld, notices: NoticeStore, tmp_path: Path) -> None:
    """A job's message is asked whom to tell, the policy whether that may be, the file of targets what it is."""
    place, authority = Place(tmp_path), Authority(Policy(notify=("lab-chat",)), KeyFile(str(tmp_path / "key")))
    with Web() as web:
        place.target(lab_chat=web.url)
        envelope = message.task_message(
            "j1", {"image": "busybox", "notify": ["lab-chat", "a@b.c"]}, queue=QUEUE, tag="t", origin="1@here"
        )
        redis_world.records.submit([New("j1", QUEUE, envelope, {})])
        holding = Holding("j1", HOST, claim(redis_world.records).fence, QUEUE, envelope)
        redis_world.records.finish(holding, State.SUCCEEDED, RECEIPT, notices=2)
        Notifying(notices, authority.rules_of, place.messenger.send).look()
        eventually(lambda: len(web.posts) == 1 and redis_world.notices() == {"j1 2"})
        ((_, _, body),) = web.posts
    assert (body["job"], body["state"], body["text"]) == ("j1", "succeeded", "Job j1 has succeeded")
    assert notices.take(9) == [], "what this host does not allow is left to others, later"
