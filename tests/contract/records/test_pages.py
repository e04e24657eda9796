"""Pages of jobs by state, name, host, queue and user: by the lists of jobs by state, and without them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from pytest_mock import MockerFixture

from celery_docker.core import jobrecord
from celery_docker.core.lifecycle import State
from celery_docker.store import keys, pages
from celery_docker.store.batchqueries import BatchQueries
from celery_docker.store.hosts import HostStore
from celery_docker.store.jobfilter import ALL, JobFilter
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import JobRow
from tests import servers
from tests.contract.records.worlds import HOST, OTHER, QUEUE, RedisWorld, claim, end, envelope, new

ALICE, BOB = 1000, 1001
NAMES = ("calm", "räksmörgås", "<img src=x onerror=alert(1)>", "n" * 128, "%d{}\\\"'")
FAILURES = (State.FAILED, State.LOST)
LIVE = (State.QUEUED, State.STARTING, State.RUNNING)
WANTED = [
    ALL,
    JobFilter((State.FAILED,)),
    JobFilter((State.FAILED, State.LOST, State.SUCCEEDED)),
    JobFilter((State.QUEUED,)),
    JobFilter((State.RUNNING, State.STARTING)),
    JobFilter((State.STARTING,), host=OTHER),
    JobFilter((State.QUEUED, State.FAILED)),
    JobFilter(tuple(State)),
    JobFilter((State.REJECTED,)),
    JobFilter(name=NAMES[1]),
    JobFilter((State.FAILED,), name=NAMES[2], host=HOST),
    JobFilter(queue="fast"),
    JobFilter(host="nobody"),
    JobFilter(name="\udcff\0"),
    JobFilter(name="\ud800"),
    *(JobFilter(uid=ALICE, states=states) for states in ((), FAILURES, LIVE, (State.RUNNING,))),
    JobFilter(uid=4711),
    JobFilter(since_at=1e9 + 60),
    JobFilter(FAILURES, since_at=1e9 + 60, uid=BOB),
    JobFilter(since_at=2e9),
]


class Shelf(RedisWorld):
    """The records, and questions about them."""

    def __init__(self, server: servers.RedisServer) -> None:
        super().__init__(server)
        self.client: Any = server.client(decode_responses=True)
        self.jobs = JobQueries(self.records.link)

    def fill(self, count: int, seed: int) -> None:
        """Write jobs of all kinds, some of them with one and the same time, of two users and of nobody."""
        draw = random.Random(seed)  # noqa: S311  # the same draw each time
        self.client.zadd(keys.HOSTS, {HOST: 1, OTHER: 1})
        for host in (HOST, OTHER):
            self.client.hset(keys.host_about(host), "about", '{"lists_ends": true}')
        for number in range(count):
            job_id = f"{draw.choice('aBz-_é')}{number:04}"
            about = {"name": draw.choice(NAMES), "image": "busybox"}
            if uid := draw.choice((ALICE, BOB, None)):
                about[jobrecord.UID] = str(uid)
            queue = draw.choice((QUEUE, "fast", "fast\x06\x166"))
            message = envelope(job_id=job_id)
            self.records.submit([jobrecord.New(job_id, queue, message, {"image": "busybox"}, about=about)])
            self._age(job_id, uid, 1e9 + draw.randrange(count // 3))
            if (state := draw.choice(list(State))) is not State.QUEUED:
                got = self.records.claim(job_id, host=draw.choice((HOST, OTHER)), queue=queue, envelope=message)
                self._move(job_id, got.fence, state)

    def _age(self, job_id: str, uid: int | None, at: float) -> None:
        for index in (keys.INDEX, *([keys.user_jobs(str(uid))] if uid else [])):
            self.client.zadd(index, {job_id: at})
            self.client.hset(keys.job(job_id), "submitted_at", repr(at))
            self.client.zadd(keys.live(index), {job_id: at})

    def _move(self, job_id: str, fence: int, state: State) -> None:
        owner = self.client.hget(keys.job(job_id), "owner")
        holding = jobrecord.Holding(job_id, owner, fence)
        if state is State.RUNNING:
            self.records.update(holding, {"state": "running"})
        elif state.is_final:
            self.records.finish(holding, state, {"state": state.value, "id": job_id})

    def keep_lists(self) -> None:
        self.client.delete(keys.LISTS_LOCK)
        self.housekeeping.keep_lists(self.housekeeping.now())
        assert self.client.exists(keys.LISTS)

    def whole(self, uid: int | None) -> list[str]:
        """Return the ids of an index as a page should have them: by time and id, the newest first."""
        entries = self.client.zrange(keys.INDEX if uid is None else keys.user_jobs(str(uid)), 0, -1, withscores=True)
        return [job_id for _, _, job_id in sorted(((at, name.encode(), name) for name, at in entries), reverse=True)]

    def gather(self, seed: int) -> list[str]:
        """Put half of the jobs into the batch b1, in an order of its own; return it, the highest number first."""
        draw = random.Random(seed)  # noqa: S311  # the same draw each time
        names = draw.sample(self.whole(None), self.client.zcard(keys.INDEX) // 2)
        self.client.zadd(keys.batch_jobs("b1"), {name: number for number, name in enumerate(names, 1)})
        return names[::-1]

    def walk(self, wanted: JobFilter, most: int, batch_id: str | None = None) -> Iterator[list[str]]:
        """Yield the pages of a listing."""
        place: pages.Mark | None = pages.NEWEST
        while place is not None:
            rows, place = self.jobs.page(wanted, place, most, batch_id)
            # What a client sends with its next request is a text.
            place = place and pages.mark(str(place))
            assert len(rows) <= most
            yield [row.job_id for row in rows]

    def close(self) -> None:
        self.client.close()
        super().close()


@pytest.fixture
def shelf(redis_server: servers.RedisServer) -> Iterator[Shelf]:
    shelf = Shelf(redis_server)
    yield shelf
    shelf.close()


def joined(parts: Iterator[list[str]]) -> list[str]:
    return [job_id for part in parts for job_id in part]


def expected(shelf: Shelf, wanted: JobFilter) -> list[str]:
    return [row.job_id for row in shelf.jobs.rows(shelf.whole(wanted.uid)) if wanted.has(row)]


@pytest.mark.parametrize("has_lists", [True, False])
def test_pages_have_each_job_that_is_wanted_once_and_in_order(shelf: Shelf, *, has_lists: bool) -> None:
    shelf.fill(400, seed=7)
    if has_lists:
        shelf.keep_lists()
    for wanted in WANTED:
        whole = expected(shelf, wanted)
        assert [row.job_id for row in shelf.jobs.each_recent(wanted)] == whole
        for most in (1, 7, 100):
            assert joined(shelf.walk(wanted, most)) == whole, (wanted, most)
        assert sorted(row.job_id for row in shelf.jobs.each_live(wanted)) == sorted(
            row.job_id for row in shelf.jobs.rows(whole) if not row.state.is_final
        )
    assert expected(shelf, JobFilter(FAILURES, uid=ALICE)), "there is something to find"
    assert expected(shelf, JobFilter((State.RUNNING,), uid=ALICE))


def test_jobs_of_one_state_are_looked_at_alone(shelf: Shelf) -> None:
    """The lists by state are read while they are complete; what is in none of them is not found, so that this shows."""
    HostStore(shelf.records.link).beat(HOST, machine="m", about={"unit": "u", "lists_ends": True, "slots": 1})
    shelf.records.submit([new("j1"), new("j2")])
    end(shelf.records, "j1", State.FAILED)
    end(shelf.records, "j2", State.LOST)
    shelf.keep_lists()
    failed = JobFilter((State.FAILED,))
    place = shelf.client.zscore(keys.INDEX, "j1")
    shelf.client.zrem(keys.ended(keys.INDEX, "failed"), "j1")
    shelf.client.zadd(keys.ended(keys.INDEX, "expired"), {"j1": place})
    assert joined(shelf.walk(failed, 5)) == []
    shelf.client.delete(keys.LISTS)
    assert joined(shelf.walk(failed, 5)) == ["j1"]
    shelf.client.set(keys.LISTS, "1")
    shelf.client.zrem(keys.ended(keys.INDEX, "expired"), "j1")
    assert joined(shelf.walk(failed, 5)) == ["j1"], "the numbers tell that one is missing"


@pytest.mark.parametrize(
    "about", ["", '{"version": "0.1.0"}', '{"lists_ends": false}', '{"unit": "\\"lists_ends\\": true"}']
)
def test_what_a_worker_of_an_older_version_has_ended_is_found_at_once(shelf: Shelf, about: str) -> None:
    """It lists no ends, and is there since housekeeping has vouched for the lists."""
    shelf.fill(30, seed=3)
    shelf.records.submit([new("j1", batch_id="b1", batch_index=1), new("j2", batch_id="b1", batch_index=2)])
    shelf.keep_lists()
    shelf.client.zadd(keys.HOSTS, {"old": 1})
    shelf.client.hset(keys.host_about("old"), "about", about)
    shelf.write("j1", state="failed", receipt="{}")
    failed = JobFilter((State.FAILED,))
    assert "j1" in joined(shelf.walk(failed, 5))
    assert joined(shelf.walk(failed, 5, "b1")) == ["j1"]


def test_a_list_may_be_wrong_about_a_job_but_no_page_is(shelf: Shelf) -> None:
    """What the record says counts: one whose record is gone, and one that is in two lists."""
    shelf.records.submit([new("j1"), new("j2"), new("j3")])
    for job_id in ("j1", "j2", "j3"):
        end(shelf.records, job_id, State.FAILED)
    shelf.keep_lists()
    shelf.write("j1", state="lost")
    shelf.lose("j2")
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 5)) == ["j3"]
    shelf.client.delete(keys.ended(keys.INDEX, "failed"))
    shelf.client.set(keys.ended(keys.INDEX, "failed"), "no list")
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 5)) == ["j3"]


@pytest.mark.parametrize("uid", [None, ALICE])
@pytest.mark.parametrize("states", [(State.QUEUED, State.FAILED), (State.FAILED,), (State.SUCCEEDED, State.FAILED)])
def test_while_jobs_end_none_comes_twice_and_none_is_missed(
    shelf: Shelf, uid: int | None, states: tuple[State, ...]
) -> None:
    """Between two pages some jobs end, and others come: those that are wanted all the time are in the pages once."""
    draw = random.Random(11)  # noqa: S311  # the same draw each time
    about = {} if uid is None else {jobrecord.UID: str(uid)}
    names = [f"j{number:03}" for number in range(120)]
    shelf.records.submit([new(name, about=about) for name in names])
    for name in draw.sample(names, 60):
        end(shelf.records, name, draw.choice((State.FAILED, State.SUCCEEDED)))
    shelf.keep_lists()
    wanted = JobFilter(states, uid=uid)
    throughout = expected(shelf, wanted)
    seen = []
    for number, part in enumerate(shelf.walk(wanted, 5)):
        seen += part
        queued = [row.job_id for row in shelf.jobs.each_live() if row.state is State.QUEUED]
        for name in draw.sample(queued, min(4, len(queued))):
            end(shelf.records, name, State.FAILED if State.QUEUED in states else draw.choice(FAILURES))
        shelf.records.submit([new(f"late{number}", about=about)])
    assert len(seen) == len(set(seen))
    assert set(throughout) <= set(seen)


def test_thousands_of_jobs_of_one_moment_have_pages(shelf: Shelf) -> None:
    """As after Redis has lost everything: what it learns again in one second has one time."""
    names = {f"j{number:05}": 1e9 for number in range(12_000)}
    shelf.client.zadd(keys.INDEX, names)
    pipeline = shelf.client.pipeline()
    for name in names:
        pipeline.hset(keys.job(name), "state", "failed" if name.endswith("7") else "queued")
    pipeline.execute()
    failed = sorted((name for name in names if name.endswith("7")), reverse=True)
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 500)) == failed
    shelf.keep_lists()
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 500)) == failed
    assert len(joined(shelf.walk(ALL, 500))) == len(names)


def test_thousands_of_batches_of_one_moment_have_pages(shelf: Shelf) -> None:
    """Each page begins behind the one before, also where that is within so many and the last batch of it is gone."""
    names = [f"b{number:05}" for number in range(12_000)]
    shelf.client.zadd(keys.BATCHES, {**dict.fromkeys(names, 1e9), "later": 1e9 + 1, "earlier": 1e9 - 1})
    wanted = {"earlier", *(name for name in names if name.endswith("7"))}
    seen: list[str] = []
    place: pages.Mark | None = pages.NEWEST
    while place is not None:
        before = place
        rows, place = pages.page(
            shelf.records.link,
            keys.BATCHES,
            before,
            500,
            lambda part: [(name, name) for name in part if name in wanted],
        )
        assert place != before
        seen += rows
        if place is not None:
            shelf.client.zrem(keys.BATCHES, place.name)
            place = pages.mark(str(place))
    assert seen == [*sorted(wanted - {"earlier"}, reverse=True), "earlier"]


@pytest.mark.parametrize("label", ["x", "é", "\x01"])
def test_a_page_of_large_jobs_is_shorter(shelf: Shelf, label: str) -> None:
    """Each has labels as long as they may be: five hundred such rows would take a hundred MiB where they are read."""
    names = [f"j{number:03}" for number in range(300)]
    labels = json.dumps({"a": label * (16_000 // len(label.encode()))}, ensure_ascii=False)
    for name in names:
        shelf.client.zadd(keys.INDEX, {name: 1e9})
        shelf.client.hset(keys.job(name), mapping={"state": "queued", "labels": labels})
    parts = list(shelf.walk(ALL, 500))
    assert [name for part in parts for name in part] == names[::-1]
    assert max(map(len, parts)) < 150
    assert len(joined(shelf.walk(JobFilter(name="nobody"), 500))) == 0


def test_thousands_of_running_jobs_have_pages(shelf: Shelf) -> None:
    """So many that looking at those that hosts have in hand takes longer than looking at all that have not ended."""
    names = [f"j{number:05}" for number in range(2100)]
    shelf.records.submit([new(name) for name in names])
    shelf.client.zadd(keys.HOSTS, {HOST: 1})
    shelf.client.hset(keys.host_about(HOST), "about", '{"lists_ends": true}')
    for name in names[50:]:
        claim(shelf.records, job_id=name)
    shelf.keep_lists()
    assert joined(shelf.walk(JobFilter((State.STARTING,)), 500)) == names[:49:-1]
    for name in names[50:150]:
        shelf.records.finish(jobrecord.Holding(name, HOST, 1), State.FAILED, {"state": "failed", "id": name})
        shelf.records.settle(name, host=HOST, retention_s=60)
    assert joined(shelf.walk(JobFilter((State.STARTING,)), 500)) == names[:149:-1]


@pytest.mark.parametrize("key", [keys.host_jobs(HOST), keys.LISTS])
def test_a_key_that_holds_something_else_hides_no_job(shelf: Shelf, key: str) -> None:
    shelf.records.submit([new("j1"), new("j2")])
    end(shelf.records, "j1", State.FAILED)
    shelf.client.zadd(keys.HOSTS, {HOST: 1, OTHER: 1})
    claim(shelf.records, OTHER, "j2")
    shelf.client.delete(key)
    shelf.client.zadd(key, {"x": 1})
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 5)) == ["j1"]
    assert joined(shelf.walk(JobFilter((State.STARTING,)), 5)) == ["j2"]


def test_broken_records_are_shown_and_in_no_state(shelf: Shelf) -> None:
    shelf.records.submit([new("j1"), new("j2"), new("j3"), new("j4")])
    shelf.lose("j1")
    shelf.client.set(keys.job("j1"), "no record")
    shelf.write("j2", state="melted", receipt="{}")
    shelf.client.hdel(keys.job("j3"), "state")
    shelf.write("j4", attempt="many")
    shelf.keep_lists()
    rows = {row.job_id: row.state.value for row in shelf.jobs.each_recent()}
    assert rows == {"j4": "broken", "j2": "melted (ended)", "j1": "broken"}
    assert joined(shelf.walk(JobFilter(tuple(State)), 5)) == []


def test_a_batch_is_filtered_in_its_order(shelf: Shelf) -> None:
    shelf.records.begin_batch("b1", {"size": 6})
    names = [f"j{number}" for number in range(6)]
    shelf.records.submit([new(name, batch_id="b1", batch_index=int(name[1:]) + 1) for name in names])
    for name in names[::2]:
        end(shelf.records, name, State.FAILED)
    failed = JobFilter((State.FAILED,))
    assert ids(shelf.jobs.each_of_batch("b1")) == names
    assert ids(shelf.jobs.each_of_batch("b1", failed)) == names[::2]
    rows, place = shelf.jobs.page(failed, pages.NEWEST, 2, "b1")
    assert (ids(rows), place) == (["j4", "j2"], pages.Mark(3, "j2"))
    assert ids(shelf.jobs.page(failed, pages.Mark(3, "j2"), 2, "b1")[0]) == ["j0"]


@pytest.mark.parametrize("has_lists", [True, False])
def test_pages_of_a_batch_have_each_job_that_is_wanted_once_and_in_order(shelf: Shelf, *, has_lists: bool) -> None:
    shelf.fill(200, seed=8)
    in_order = shelf.gather(seed=9)
    if has_lists:
        shelf.keep_lists()
    for wanted in WANTED:
        whole = [row.job_id for row in shelf.jobs.rows(in_order) if wanted.has(row)]
        assert ids(shelf.jobs.each_of_batch("b1", wanted)) == whole[::-1]
        for most in (1, 7, 100):
            assert joined(shelf.walk(wanted, most, "b1")) == whole, (wanted, most)


def test_a_page_of_a_batch_is_full_however_many_jobs_are_too_old(shelf: Shelf) -> None:
    names = [f"j{number:03}" for number in range(200)]
    shelf.records.submit([new(name, batch_id="b1", batch_index=int(name[1:])) for name in names])
    for name in names[5:]:
        shelf.write(name, submitted_at="1e9")
    recent = JobFilter(since_at=1.5e9)
    rows, place = shelf.jobs.page(recent, pages.NEWEST, 5, "b1")
    assert (ids(rows), place) == (names[4::-1], None)
    assert joined(shelf.walk(recent, 2, "b1")) == names[4::-1]


def test_a_page_that_is_short_and_no_end_went_through_ten_thousand_jobs(shelf: Shelf) -> None:
    names = {f"j{number:05}": float(number) for number in range(10_001)}
    shelf.client.zadd(keys.INDEX, names)
    pipeline = shelf.client.pipeline()
    for name in names:
        pipeline.hset(keys.job(name), mapping={"state": "failed", "name": name})
    pipeline.execute()
    for wanted, rows, place in (
        (JobFilter(name="j00000"), [], pages.Mark(1.0, "j00001")),
        (JobFilter(name="j00002"), ["j00002"], pages.Mark(1.0, "j00001")),
    ):
        part, following = shelf.jobs.page(wanted, pages.NEWEST, 5)
        assert (ids(part), following) == (rows, place)
    assert ids(shelf.jobs.page(JobFilter(name="j00000"), pages.Mark(1.0, "j00001"), 5)[0]) == ["j00000"]


def test_fields_of_the_jobs_of_a_batch_come_in_its_order(shelf: Shelf) -> None:
    """Over more than one portion, as they are: also of a record that cannot be read."""
    names = [f"j{number:04}" for number in range(1200)]
    shelf.records.submit([new(name, batch_id="b1", batch_index=int(name[1:])) for name in reversed(names)])
    end(shelf.records, "j0007", State.FAILED)
    shelf.write("j0007", attempt="many")
    shelf.lose("j0008")
    batches = BatchQueries(shelf.records.link)
    values = dict(batches.each_job("b1", "batch_index", "exit_code", "state"))
    assert [*values] == [name for name in names if name != "j0008"]
    assert (values["j0007"], values["j1199"]) == (["7", "0", "failed"], ["1199", None, "queued"])
    assert batches.going("b1") == (1198, 1200)
    assert list(batches.each_job("b1", "state", states=FAILURES)) == [("j0007", ["failed"])]
    assert list(batches.each_job("b1", "state", states=[State.LOST])) == list(batches.each_job("nobody", "state")) == []


def test_few_jobs_of_a_state_are_looked_for_in_a_batch(shelf: Shelf) -> None:
    """What the list of their state has not is not found, so that this shows; nor is what another job has replaced."""
    shelf.records.begin_batch("b1", {"size": 5})
    shelf.records.submit([new(f"j{number}", batch_id="b1", batch_index=number) for number in range(5)])
    for name in ("j1", "j2", "j3"):
        end(shelf.records, name, State.FAILED)
    shelf.records.submit([new("again", batch_id="b1", batch_index=2, about={"retry_of": "j2"})])
    shelf.keep_lists()
    failed = JobFilter((State.FAILED,))
    assert joined(shelf.walk(failed, 5, "b1")) == ["j3", "j1"]
    place = shelf.client.zscore(keys.INDEX, "j1")
    shelf.client.zrem(keys.ended(keys.INDEX, "failed"), "j1")
    shelf.client.zadd(keys.ended(keys.INDEX, "expired"), {"j1": place})
    assert joined(shelf.walk(failed, 5, "b1")) == ["j3"]
    shelf.client.delete(keys.LISTS)
    assert joined(shelf.walk(failed, 5, "b1")) == ["j3", "j1"]


def test_many_jobs_of_a_state_are_met_on_the_way_through_a_batch(shelf: Shelf) -> None:
    names = {f"j{number:04}": float(number) for number in range(2100)}
    shelf.client.zadd(keys.INDEX, names)
    pipeline = shelf.client.pipeline()
    for name in names:
        pipeline.hset(keys.job(name), "state", "failed")
    pipeline.execute()
    shelf.client.zadd(keys.batch_jobs("b1"), {name: -place for name, place in names.items()})
    shelf.keep_lists()
    assert joined(shelf.walk(JobFilter((State.FAILED,)), 500, "b1")) == [*names]
    assert joined(shelf.walk(JobFilter((State.LOST,)), 500, "b1")) == []


def ids(rows: Sequence[JobRow] | Iterator[JobRow]) -> list[str]:
    return [row.job_id for row in rows]


def test_a_place_that_nobody_gave_out_is_one_too(shelf: Shelf) -> None:
    shelf.records.submit([new("j1")])
    for text, count in (("1e308_x", 1), ("-1e308_x", 0), ("0_\x00", 0), (f"9e15_{'x' * 5000}", 1), ("1e-320_é", 0)):
        rows, place = shelf.jobs.page(ALL, pages.mark(text), 5)
        assert (len(rows), place) == (count, None)


def test_a_job_that_stays_is_passed_over_by_no_listing_while_others_go(shelf: Shelf, mocker: MockerFixture) -> None:
    """Those before it begin between two questions: whoever reads by rank goes on behind it."""
    mocker.patch("celery_docker.store.jobqueries._ROWS_AT_ONCE", 2)
    job_ids = [f"j{number}" for number in range(7)]
    shelf.records.submit([new(job_id) for job_id in job_ids])
    shelf.client.zadd(keys.WAITING, dict.fromkeys(job_ids, 5.0))
    rows = shelf.jobs.each_live()
    seen = [next(rows).job_id]
    for job_id in job_ids[:2]:
        claim(shelf.records, job_id=job_id)
    seen += [row.job_id for row in rows]
    assert sorted(seen) == job_ids


def test_a_name_that_is_no_text_ends_no_listing(shelf: Shelf, mocker: MockerFixture) -> None:
    mocker.patch("celery_docker.store.jobqueries._ROWS_AT_ONCE", 2)
    shelf.records.submit([new(f"j{number}") for number in range(3)])
    shelf.client.zadd(keys.WAITING, {"j0": 5, b"\xff\xfe": 6, "j1": 7, "j2": 8, b"\xff\xff": 9})
    assert [row.job_id for row in shelf.jobs.each_live()] == ["j0", "j1", "j2"]
