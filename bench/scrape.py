"""How long a scrape of /metrics takes, beside /api/v1/healthz in the same run: `python -m bench.scrape`.

Starts a Redis and the service of its own, as the tests do, and leaves nothing behind. There is no worker: made-up
heartbeats are of 200 hosts, and so many jobs were submitted to 20 queues; some of them have ended. Scrapes are more
than a second apart, since the service makes them once a second at most; each figure is of a connection of its own. The
lines with few jobs and with many show that the cost is not theirs. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import http.client
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from celery_docker.client import exposition, metrics
from celery_docker.core import jobrecord, message
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.store import jobstore
from celery_docker.store.figurequeries import FigureQueries
from celery_docker.store.hosts import HostStore
from celery_docker.store.jobstore import Store
from tests import servers
from tests.gateways import Gateway

QUEUES = 20
ENDED = 500
_AT_ONCE = 1000
_APART_S = 1.1


def heartbeats(store: Store, hosts: int) -> None:
    """Let so many hosts say that they are alive, each with a whole report."""
    for number in range(hosts):
        report = {
            "version": "0.2.0",
            "machine": f"m{number}",
            "unit": "celery-worker",
            "pid": 1,
            "slots": 64,
            "docker": "Docker 26.1.5 (API 1.45)",
            "python": "3.13.5",
            "running": 60,
            "running_by_queue": {f"queue{place}": 3 for place in range(QUEUES)},
            "queues": [f"queue{place}" for place in range(QUEUES)],
            "phase": "serving",
            "accepting": True,
            "status": "60 jobs running, 4 of 64 slots free",
            "offer": {"cpus": 64, "memory": 2**39, "gpus": [str(gpu) for gpu in range(8)]},
            "free": {"cpus": 4, "memory": 2**37, "gpus": 1},
            "sick": [],
            "unknown_containers": 0,
            "pulls": {"done": 30, "failed": 1},
        }
        HostStore(store.link).beat(f"node{number:03}", machine=f"m{number}", about=report)


def submit(store: Store, first: int, count: int) -> None:
    """Queue jobs of these numbers, in turns in all queues."""
    for start in range(first, first + count, _AT_ONCE):
        store.submit([_new(number) for number in range(start, min(start + _AT_ONCE, first + count))])


def end(store: Store, count: int) -> None:
    """End the first jobs, so that each queue has counters."""
    for number in range(count):
        new = _new(number)
        claim = store.claim(new.job_id, host="node000", queue=new.queue, envelope=new.envelope)
        receipt = {"id": new.job_id, "state": "succeeded", "run_s": number % 4000, "exit_code": 0}
        store.finish(Holding(new.job_id, "node000", claim.fence, new.queue), State.SUCCEEDED, receipt)
        store.settle(new.job_id, host="node000", retention_s=3600)


def _new(number: int) -> jobrecord.New:
    queue, job_id = f"queue{number % QUEUES}", f"job{number}"
    envelope = message.task_message(job_id, {"image": "busybox"}, queue=queue, tag=job_id, origin="1@bench")
    return jobrecord.New(job_id, queue, envelope, {"image": "busybox"})


def ask(port: int, target: str) -> tuple[float, bytes]:
    """Return how many milliseconds an answer took, connection and all, and what it says."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", target)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    if answer.status != 200:
        raise RuntimeError(f"{target}: {answer.status} {text[:200]!r}")
    return (time.perf_counter() - began) * 1e3, text


def line(store: Store, port: int, jobs: int, hosts: int, rounds: int) -> str:
    """Measure both in turns, and return the figures."""
    took: dict[str, list[float]] = {"/metrics": [], "/api/v1/healthz": []}
    text = b""
    for _ in range(rounds):
        time.sleep(_APART_S)
        heartbeats(store, hosts)
        for target, values in took.items():
            took_ms, answer = ask(port, target)
            values.append(took_ms)
            text = answer if target == "/metrics" else text
    scrape, health = took.values()
    size = f"{len(text) / 1e3:.0f} kB, {len(text.splitlines()):,} lines"
    return (
        f"{jobs:>8,} jobs, {hosts} hosts: /metrics {statistics.median(scrape):5.1f} ms median, "
        f"{max(scrape):5.1f} ms worst ({size}); "
        f"/api/v1/healthz {statistics.median(health):4.1f} ms, {max(health):4.1f} ms"
    )


def parts(store: Store) -> str:
    """Return the CPU time of the parts of a scrape, without a service: other load changes that least."""
    rows: list[Any] = []
    for _ in range(10):
        before_us = redis_us(store)
        began = time.process_time()
        read = FigureQueries(store.link).read()
        asked = time.process_time()
        families = metrics.of(read)
        made = time.process_time()
        exposition.text(families)
        rows.append((asked - began, made - asked, time.process_time() - made, (redis_us(store) - before_us) / 1e6))
    asking, making, text, redis = (statistics.median(values) * 1e3 for values in zip(*rows, strict=True))
    total = asking + making + text + redis
    parts = f"asking {asking:.1f} ms, figures {making:.1f} ms, text {text:.1f} ms, Redis {redis:.1f} ms"
    return f"CPU time of a scrape: {total:.1f} ms: {parts}"


def redis_us(store: Store) -> float:
    """Return for how many microseconds Redis was busy with commands, at most: those in scripts count twice."""
    return float(sum(row["usec"] for row in store.link.client.info("commandstats").values()))


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.scrape", description=__doc__)
    parser.add_argument("--jobs", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--hosts", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=20, help="default: %(default)s")
    options = parser.parse_args(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis, Gateway(redis.url) as gateway, closing(jobstore.connect(redis.url)) as store:
        few = 2 * ENDED
        submit(store, 0, few)
        end(store, ENDED)
        first_ms, _ = ask(gateway.port, "/metrics")
        print(f"the first /metrics of a process, which imports its library: {first_ms:.0f} ms")
        print(line(store, gateway.port, few, options.hosts, options.rounds))
        submit(store, few, options.jobs - few)
        print(line(store, gateway.port, options.jobs, options.hosts, options.rounds))
        print(parts(store))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
