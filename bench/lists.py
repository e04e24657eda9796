"""How fast lists of jobs are, by state and by name, each figure beside the way before: `python -m bench.lists`.

Starts a Redis of its own with 100,001 records as a version before would leave them, lets housekeeping list them by
state, and reads pages of rare and frequent jobs: by these lists and filters in Redis, and as it was done
before, with every row in Python. All are jobs of one batch, which is filtered with these lists and without, and
whose results are asked for as `celery-docker results` does, and by their ids, of Redis and through a gateway.
Another process asks Redis for a PING all the time, and Redis writes down its own slowest commands: both say for how
long it did nothing else. Run it on a machine that does nothing else: all share its CPUs.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

from celery_docker.cli.rendering import RESULT_FIELDS
from celery_docker.client.client import Client
from celery_docker.client.ports import Queries
from celery_docker.core import jobrecord, message
from celery_docker.core.lifecycle import FAILURES, State
from celery_docker.store import jobstore, keys, pages, redislink
from celery_docker.store import queries as store_queries
from celery_docker.store.housekeeping import Housekeeping
from celery_docker.store.jobfilter import ALL, JobFilter
from celery_docker.store.jobqueries import JobQueries
from celery_docker.store.listing import JobRow
from tests import servers
from tests.gateways import Gateway

HOST, UID, BATCH = "bench", 1000, "b1"
PAGE = 256
FAILED, QUEUED, RUNNING = 100, 50, 10
RARE = "needle"
AT_ONCE = 1000


def fill(redis: servers.RedisServer, count: int) -> None:
    """Write so many records with their indexes alone; the rare ones are all among the older half."""
    records = jobstore.connect(redis.url)
    template = _template(records)
    draw = random.Random(1)  # noqa: S311  # the same draw each time
    rare = draw.sample(range(1, count // 2), FAILED + QUEUED + RUNNING)
    states = dict.fromkeys(rare[:FAILED], State.FAILED) | dict.fromkeys(rare[FAILED:][:QUEUED], State.QUEUED)
    states |= dict.fromkeys(rare[FAILED + QUEUED :], State.RUNNING) | {0: State.LOST}
    with redis.client() as client:
        client.delete(*keys.lists(keys.INDEX), *keys.lists(keys.user_jobs(str(UID))))
        client.zadd(keys.HOSTS, {HOST: time.time()})
        client.hset(keys.host_about(HOST), "about", '{"lists_ends": true}')
        client.zadd(keys.USERS, {str(UID): 1})
        client.hset(keys.batch(BATCH), mapping={"created_at": "1", "size": str(count)})
        for first in range(0, count, AT_ONCE):
            with client.pipeline(transaction=False) as pipeline:
                for number in range(first, min(first + AT_ONCE, count)):
                    _write(pipeline, number, template, states.get(number, State.SUCCEEDED))
                pipeline.execute()


def _template(records: jobstore.Store) -> dict[str, str]:
    """Return the record of a job that has ended, as the store writes it."""
    envelope = message.task_message("t", {"image": "busybox"}, queue="celery", tag="t", origin="1@here")
    about = {"name": "align", "image": "busybox", "submitted_by": "alice@here", jobrecord.UID: str(UID)}
    records.submit([jobrecord.New("t", "celery", envelope, {"image": "busybox", "command": ["true"]}, about=about)])
    fence = records.claim("t", host=HOST, queue="celery", envelope=envelope).fence
    receipt = {"id": "t", "state": "succeeded", "exit_code": 0, "run_s": 1.5, "output": "line\n" * 100}
    records.finish(jobrecord.Holding("t", HOST, fence), State.SUCCEEDED, receipt)
    record = records.record("t")
    records.link.client.flushdb()
    return record


def _write(pipeline: Any, number: int, template: dict[str, str], state: State) -> None:
    job_id, at = f"{number:08x}-dead-4000-8000-000000000000", 1.7e9 + number / 7
    record = {**template, "state": state.value, "submitted_at": repr(at)}
    if number == 0:
        record["name"] = RARE
    if not state.is_final:
        record = {name: value for name, value in record.items() if name not in ("receipt", "finished_at", "exit_code")}
    pipeline.hset(keys.job(job_id), mapping=record)
    for index in (keys.INDEX, keys.user_jobs(str(UID))):
        pipeline.zadd(index, {job_id: at})
    pipeline.zadd(keys.batch_jobs(BATCH), {job_id: number})
    if state is State.QUEUED:
        pipeline.zadd(keys.WAITING, {job_id: at})
    if state is State.RUNNING:
        pipeline.sadd(keys.host_jobs(HOST), job_id)


def page(jobs: JobQueries, wanted: JobFilter, batch_id: str | None = None) -> list[JobRow]:
    """Return a page, with as many requests as a client sends for it."""
    rows: list[JobRow] = []
    place: pages.Mark | None = pages.NEWEST
    while place is not None and len(rows) < PAGE:
        part, place = jobs.page(wanted, place, PAGE - len(rows), batch_id)
        rows += part
    return rows


def page_before(jobs: JobQueries, wanted: JobFilter) -> list[JobRow]:
    """Return the same as the gateway did before: every row comes to Python, which looks whether it is wanted."""

    def rows_of(job_ids: Sequence[str]) -> list[tuple[str, JobRow]]:
        return [(row.job_id, row) for row in jobs.rows(job_ids) if wanted.has(row)]

    index = keys.INDEX if wanted.uid is None else keys.user_jobs(str(wanted.uid))
    rows: list[JobRow] = []
    place: pages.Mark | None = pages.NEWEST
    while place is not None and len(rows) < PAGE:
        part, place = pages.page(jobs.link, index, place, PAGE - len(rows), rows_of)
        rows += part
    return rows


def ping(url: str, worst: Any, is_over: Any) -> None:
    """Ask for a PING again and again; keep the longest time in which one was answered."""
    link = jobstore.connect(url).link
    while not is_over.is_set():
        begin = time.monotonic()
        link.client.ping()
        worst.value = max(worst.value, time.monotonic() - begin)


@dataclass(frozen=True)
class Measured:
    """A figure: the median of some turns, and for how long Redis was held.

    That is what a PING saw, and the slowest command as Redis says, both with the time in which others had its CPU;
    and the CPU time of a script's call on average and of the whole question, which have nothing of others in them.
    """

    took_s: float
    rows: int
    ping_s: float
    command_s: float
    cpu_s: float
    whole_cpu_s: float

    def __str__(self) -> str:
        held = f"PING {self.ping_s * 1e3:6.1f}   slowest command {self.command_s * 1e3:6.1f}"
        cpu = f"CPU a call {self.cpu_s * 1e3:5.2f}, in all {self.whole_cpu_s * 1e3:6.1f}"
        return f"{self.took_s * 1e3:9.1f} ms   {held}   {cpu}"


@dataclass(frozen=True)
class Bench:
    """A Redis full of jobs."""

    redis: servers.RedisServer
    turns: int

    def measure(self, ask: Callable[[], Sequence[object] | None], turns: int) -> Measured:
        """Return how long a question takes, and for how long Redis answers nobody else meanwhile."""
        context = multiprocessing.get_context("fork")
        worst, is_over = context.Value("d", 0.0), context.Event()
        with self.redis.client() as client:
            # Without the PINGs, which take CPU time of Redis, too.
            used_s, calls = _used(client)
            ask()
            used_s, calls = (now - before for now, before in zip(_used(client), (used_s, calls), strict=True))
            client.config_set("slowlog-log-slower-than", 1000)
            client.slowlog_reset()
            pinging = context.Process(target=ping, args=(self.redis.url, worst, is_over))
            pinging.start()
            took_s, rows = [], []
            for _ in range(turns):
                begin = time.monotonic()
                rows = list(ask() or ())
                took_s.append(time.monotonic() - begin)
            is_over.set()
            pinging.join()
            slowest_s = max((entry["duration"] for entry in client.slowlog_get(128)), default=1000) / 1e6
        took = statistics.median(took_s)
        return Measured(took, len(rows), worst.value, slowest_s, used_s / max(calls, 1), used_s)


def _used(client: Any) -> tuple[float, float]:
    """Return the CPU time that Redis has taken, and how many calls of scripts it has answered."""
    cpu, calls = client.info("cpu"), client.info("commandstats")
    return cpu["used_cpu_user"] + cpu["used_cpu_sys"], calls.get("cmdstat_evalsha", {}).get("calls", 0)


@dataclass(frozen=True)
class Question:
    """Something to ask in two ways, and how long it may take in the first."""

    name: str
    now: Callable[[], Sequence[object]]
    before: Callable[[], Sequence[object]]
    limit_s: float


def questions(jobs: JobQueries, count: int) -> list[Question]:
    """Return what is asked of all jobs."""
    asked = []
    for name, wanted, limit_s in (
        (f"a page of {PAGE} of {count:,}", ALL, 0.020),
        ("succeeded", JobFilter((State.SUCCEEDED,)), 0.030),
        (f"the {FAILED} failed", JobFilter((State.FAILED,)), 0.030),
        ("the one lost, the oldest", JobFilter((State.LOST,)), 0.030),
        ("no rejected", JobFilter((State.REJECTED,)), 0.030),
        (f"the {QUEUED} queued", JobFilter((State.QUEUED,)), 0.030),
        (f"the {RUNNING} running", JobFilter((State.RUNNING, State.STARTING)), 0.030),
        ("all that failed, of one user", JobFilter((State.FAILED, State.LOST), uid=UID), 0.030),
        ("queued or failed, of one user", JobFilter((State.QUEUED, State.FAILED), uid=UID), 0.030),
        ("one by its name", JobFilter(name=RARE), 2.0),
        ("nothing, by host", JobFilter(host="nobody"), 2.0),
        ("nothing, by name and state", JobFilter((State.SUCCEEDED,), name="nothing"), 2.0),
    ):
        before = partial(page_before, jobs, wanted)
        asked.append(Question(name, partial(page, jobs, wanted), before, limit_s))
    return asked


def questions_of_batch(jobs: JobQueries, link: redislink.Link, count: int) -> list[Question]:
    """Return what is asked of the batch; before, each of its jobs was looked at, as without the lists."""

    def without_lists(wanted: JobFilter) -> list[JobRow]:
        mark = link.client.getdel(keys.LISTS)
        try:
            return page(jobs, wanted, BATCH)
        finally:
            link.client.set(keys.LISTS, mark)

    asked = []
    for name, states in (
        (f"the {FAILED} failed", (State.FAILED,)),
        ("no rejected", (State.REJECTED,)),
        (f"the {QUEUED} queued", (State.QUEUED,)),
        ("succeeded", (State.SUCCEEDED,)),
    ):
        wanted = JobFilter(states)
        now = partial(page, jobs, wanted, BATCH)
        asked.append(Question(f"{name} of a batch of {count:,}", now, partial(without_lists, wanted), 0.030))
    return asked


def questions_of_results(queries: Queries, words: str) -> list[Question]:
    """Return what `celery-docker results` asks about the batch; before, it asked by ids."""

    def whole() -> Sequence[object]:
        return list(queries.batches.each_job(BATCH, "state", *RESULT_FIELDS))

    def failed() -> Sequence[object]:
        queries.batches.going(BATCH)
        return list(queries.batches.each_job(BATCH, *RESULT_FIELDS, states=FAILURES))

    def before(wanted: Collection[str]) -> Sequence[object]:
        job_ids = queries.batches.job_ids(BATCH)
        states = zip(job_ids, queries.jobs.fields(job_ids, "state"), strict=True)
        listed = [job_id for job_id, (state,) in states if state in wanted]
        return queries.jobs.fields(listed, *RESULT_FIELDS)

    return [
        Question(f"results of a batch{words}", whole, partial(before, [*State]), math.inf),
        Question(f"results --failed{words}", failed, partial(before, FAILURES), math.inf),
    ]


def report(bench: Bench, count: int, only: str, through: Queries) -> bool:
    """Measure and print what has a word in its name; return whether everything is as fast as it has to be."""
    records = jobstore.connect(bench.redis.url)
    jobs = JobQueries(records.link)
    housekeeping = Housekeeping(records.link)

    def keep_lists() -> None:
        records.link.client.delete(keys.LISTS, keys.LISTS_LOCK)
        housekeeping.keep_lists(time.time())

    print(f"{'all jobs listed by state':46} {bench.measure(keep_lists, 1)}")
    # A long run would outlive it, and no worker is there.
    records.link.client.persist(keys.LISTS)
    failures, holds = [], []
    for asked in [
        *questions(jobs, count),
        *questions_of_batch(jobs, records.link, count),
        *questions_of_results(store_queries.Queries(records.link), ""),
        *questions_of_results(through, " through a gateway"),
    ]:
        if only not in asked.name:
            continue
        now, before = bench.measure(asked.now, bench.turns), bench.measure(asked.before, 1)
        if now.rows != before.rows:
            raise RuntimeError(f"{asked.name}: {now.rows} rows, {before.rows} before")
        print(f"{asked.name:46} {now}", f"{'  before':46} {before}", sep="\n", flush=True)
        holds.append(now.cpu_s)
        failures += [asked.name] if now.took_s > asked.limit_s else []
    print(f"the most CPU time of a call: {max(holds) * 1e3:.2f} ms; too slow: {', '.join(failures) or 'nothing'}")
    return not failures and max(holds) < 0.020


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.lists", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_001, help="how many there are; default: %(default)s")
    parser.add_argument("--turns", type=int, default=5, help="of each question; default: %(default)s")
    parser.add_argument("--only", default="", help="what has this in its name; default: all")
    options = parser.parse_args(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis:
        fill(redis, options.jobs)
        with Gateway(redis.url) as gateway, closing(Client(gateway.url)) as client:
            return 0 if report(Bench(redis, options.turns), options.jobs, options.only, client.queries) else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
