"""The figures of a real Redis: each job is counted where it waits, whatever else lies there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from celery_docker.core import message
from celery_docker.core.admission import Needs
from celery_docker.core.figures import QueueCounts
from celery_docker.core.jobrecord import New
from celery_docker.core.lifecycle import State
from celery_docker.store import jobstore, keys
from celery_docker.store.figurequeries import FigureQueries, Figures, QueueLoad
from celery_docker.store.hosts import HostStore
from celery_docker.store.jobstore import Store
from tests import servers
from tests.contract.records.worlds import HOST, QUEUE, RECEIPT, claim, envelope, held, new, submit

NIGHT = "night"


@pytest.fixture
def store(redis_server: servers.RedisServer) -> Iterator[Store]:
    with closing(jobstore.connect(redis_server.url)) as opened:
        yield opened
        opened.link.client.flushdb()


def read(store: Store) -> Figures:
    return FigureQueries(store.link).read()


def put(store: Store, job_id: str, queue: str, **options: Any) -> None:
    store.submit([New(job_id, queue, envelope(job_id=job_id), {"image": "busybox"}, **options)])


def test_an_empty_redis_has_no_figures(store: Store) -> None:
    figures = read(store)
    assert (figures.hosts, figures.queues, figures.delayed, figures.blocked, figures.counts) == ([], {}, 0, 0, {})
    assert figures.now > 1.7e9


def test_waiting_jobs_count_in_their_queue(store: Store) -> None:
    put(store, "j1", QUEUE)
    put(store, "j2", message.queue_key(QUEUE, 9))
    put(store, "j3", NIGHT)
    store.submit([new("j4", after=("j1",))])
    claim(store, job_id="j1")
    figures = read(store)
    # The message of a job that was claimed is in the list yet, as it was taken from none.
    assert {name: load.listed for name, load in figures.queues.items()} == {QUEUE: 2, NIGHT: 1}
    assert (figures.delayed, figures.blocked) == (0, 1)
    assert figures.counts == {QUEUE: QueueCounts(started=1, queue_s=figures.counts[QUEUE].queue_s)}


def test_the_oldest_is_the_next_of_any_list(store: Store) -> None:
    put(store, "j1", QUEUE)
    put(store, "j2", QUEUE)
    put(store, "j3", message.queue_key(QUEUE, 3))
    store.link.client.zadd(keys.WAITING, {"j1": 500, "j2": 100, "j3": 400})
    assert read(store).queues[QUEUE] == QueueLoad(listed=3, oldest_at=400)
    store.link.client.zrem(keys.WAITING, "j1", "j3")
    assert read(store).queues[QUEUE].oldest_at is None, "nobody knows since when a plain client's message is there"


def test_parked_jobs_and_those_over_their_share_wait_too(store: Store) -> None:
    store.link.client.hset(keys.WINDOWS, QUEUE, 1)
    for number in range(3):
        put(store, f"j{number}", QUEUE, about={"share": "alice"})
    put(store, "p", NIGHT)
    store.claim("p", host=HOST, queue=NIGHT, envelope=envelope(job_id="p"), needs=Needs(1000), fits=False)
    store.link.client.delete(NIGHT)
    store.link.client.zadd(keys.PARKED_GROUP + f"{NIGHT}|{Needs(1000)}", {"p": 300})
    figures = read(store)
    assert (figures.queues[QUEUE].listed, figures.queues[QUEUE].held) == (1, 2)
    assert figures.queues[NIGHT] == QueueLoad(parked=1, oldest_at=300)
    assert figures.delayed == 0, "those over their share are no delayed jobs"


def test_hosts_serve_queues_that_are_empty(store: Store) -> None:
    HostStore(store.link).beat(HOST, machine="m", about={"queues": [NIGHT], "slots": 2})
    figures = read(store)
    assert figures.queues == {NIGHT: QueueLoad()}
    assert [row.host for row in figures.hosts] == [HOST]


def test_ends_are_counted_and_a_lost_hash_is_a_new_beginning(store: Store) -> None:
    submit(store)
    store.finish(held(claim(store).fence), State.FAILED, {**RECEIPT, "state": "failed", "run_s": 2})
    assert dict(read(store).counts[QUEUE].ended) == {"failed": 1}
    assert {state: count for state, count in read(store).ended.items() if count} == {"failed": 1}
    store.link.client.delete(keys.COUNTS)
    assert read(store).counts == {}


@pytest.mark.parametrize("value", ["string", "list"])
def test_what_lies_in_the_place_of_a_key_counts_as_nothing(store: Store, value: str) -> None:
    put(store, "j1", QUEUE)
    shared = (keys.DELAYED, keys.BLOCKED, keys.COUNTS, keys.SHARES, keys.PARKED)
    for key in (*shared, NIGHT):
        store.link.client.set(key, "x") if value == "string" else store.link.client.lpush(key, "no message")
    put(store, "j2", QUEUE)
    figures = read(store)
    assert figures.queues[QUEUE].listed == 2
    assert (figures.delayed, figures.blocked, figures.counts) == (0, 0, {})


def test_a_hash_that_somebody_has_filled_is_not_read(store: Store) -> None:
    store.link.client.hset(keys.COUNTS, mapping={f"started q{number}": 1 for number in range(20_001)})
    assert read(store).counts == {}


def test_huge_messages_are_not_looked_through_for_ever(store: Store) -> None:
    for number in range(8):
        put(store, f"j{number}", f"q{number}")
        store.link.client.lset(f"q{number}", 0, "x" * 2**20 + f'"id": "j{number}"')
    known = [load.oldest_at is not None for load in read(store).queues.values()]
    assert known == [True] * 4 + [False] * 4


def test_its_cost_does_not_grow_with_the_jobs(store: Store) -> None:
    """Counted in what Redis is asked, and in what it answers, which no other load of this computer changes."""

    def cost() -> tuple[int, int]:
        before, _ = _stats(store), read(store)
        return tuple(after - first for first, after in zip(before, _stats(store), strict=True))  # type: ignore[return-value]

    HostStore(store.link).beat(HOST, machine="m", about={"queues": [QUEUE], "slots": 2})
    for number in range(300):
        put(store, f"a{number}", QUEUE)
    read(store)
    calls, sent = cost()
    for first in range(0, 3000, 500):
        store.submit([new(f"b{number}") for number in range(first, first + 500)])
    more_calls, more_sent = cost()
    assert more_calls == calls
    assert more_sent <= sent + 300, "the numbers are longer"


def _stats(store: Store) -> tuple[int, int]:
    stats = store.link.client.info("commandstats")
    calls = sum(row["calls"] for name, row in stats.items() if name not in ("cmdstat_info", "cmdstat_ping"))
    return calls, store.link.client.info("stats")["total_net_output_bytes"]
