"""How one user's many jobs delay another's ten, and whether they still fill the host: `python -m bench.shares`.

Starts a Redis, a Docker and a worker of their own, as the tests do; needs root and leaves nothing behind. Alice queues
thousands of jobs, Bob ten a minute later; counted are the jobs of hers that end until the last of his has. Then slots
in use are sampled while she is alone, with shares and without, in turns: jobs without a share go to the queue at once,
as those of a plain Celery client do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from celery_docker.client.client import Client
from celery_docker.client.submission import JobBuilder
from celery_docker.core.jobspec import Submission
from celery_docker.store import keys
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import Worker

PATIENCE_S = 600
FEW = 10
# Without shares his would have to wait for all of hers.
LONGEST_S = 120
SAMPLE_S = 0.05


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    options = _options(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis_server, servers.Dockerd() as dockerd:
        dockerd.import_busybox()
        with (
            Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY=str(options.slots)),
            closing(Client(redis_server.url)) as client,
        ):
            eventually(lambda: client.store.link.client.hlen(keys.WINDOWS), PATIENCE_S, "the windows")
            for has_shares in (False, True):
                print(_fairness(client, options, has_shares=has_shares), flush=True)
            in_use: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            for has_shares in [False, True] * options.rounds:
                in_use[has_shares].append(_use(client, options, has_shares=has_shares))
            for has_shares, rows in in_use.items():
                print(_line(has_shares, rows, options.slots))
    return 0


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.shares", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="how many Alice queues; default: %(default)s")
    parser.add_argument("--slots", type=int, default=8, help="of the host; default: %(default)s")
    parser.add_argument("--later", type=int, default=60, help="seconds until Bob comes; default: %(default)s")
    parser.add_argument("--nap", default="1", help="seconds that a job sleeps; default: %(default)s")
    parser.add_argument("--use", type=int, default=40, help="seconds of one sampling; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of samplings; default: %(default)s")
    return parser.parse_args(argv)


def _queue(client: Client, user: str, count: int, nap: str, *, has_shares: bool) -> list[str]:
    builder = JobBuilder(f"{user}@bench", "1@bench")
    kwargs = {"image": "busybox", "command": ["sleep", nap]}
    new_jobs = [builder.job(kwargs, Submission()) for _ in range(count)]
    client.store.submit(new_jobs if has_shares else [replace(new, about={}) for new in new_jobs])
    return [new.job_id for new in new_jobs]


def _fairness(client: Client, options: argparse.Namespace, *, has_shares: bool) -> str:
    many = _queue(client, "alice", options.jobs, options.nap, has_shares=has_shares)
    time.sleep(options.later)
    before = {row.job_id for row in client.queries.jobs.rows(many) if row.state.is_final}
    began = time.monotonic()
    few = _queue(client, "bob", FEW, options.nap, has_shares=has_shares)
    deadline = began + LONGEST_S
    while any(not row.state.is_final for row in client.queries.jobs.rows(few)) and time.monotonic() < deadline:
        time.sleep(SAMPLE_S)
    took_s = time.monotonic() - began
    last = max((row.finished_at or float("inf")) for row in client.queries.jobs.rows(few))
    ends = [row.finished_at for row in client.queries.jobs.rows(many) if row.job_id not in before and row.finished_at]
    between = sum(end <= last for end in ends)
    _clear(client, [*many, *few])
    state = "ended" if last < float("inf") else "had not ended"
    return (
        f"{_words(has_shares)}: {len(before)} of Alice's {options.jobs:,} had ended when Bob came; his {FEW} {state} "
        f"after {took_s:.1f} s, in which {between} of hers did"
    )


def _use(client: Client, options: argparse.Namespace, *, has_shares: bool) -> tuple[float, float]:
    """Return the mean number of jobs in hand, and how many ended in a second."""
    # More than can end meanwhile.
    many = _queue(client, "alice", options.slots * options.use * 10, options.nap, has_shares=has_shares)
    members = [keys.host_jobs(host) for host in client.store.link.client.zrange(keys.HOSTS, 0, -1)]
    eventually(lambda: sum(map(client.store.link.client.scard, members)) >= options.slots, PATIENCE_S, "full slots")
    began, samples = time.monotonic(), []
    ended = sum(row.state.is_final for row in client.queries.jobs.rows(many))
    while time.monotonic() < began + options.use:
        samples.append(sum(map(client.store.link.client.scard, members)))
        time.sleep(SAMPLE_S)
    took_s = time.monotonic() - began
    ended = sum(row.state.is_final for row in client.queries.jobs.rows(many)) - ended
    _clear(client, many)
    return statistics.mean(samples), ended / took_s


def _clear(client: Client, job_ids: Sequence[str]) -> None:
    client.cancel_many(job_ids, reason="measured")
    eventually(lambda: not client.store.link.client.scard(keys.CANCELLING), PATIENCE_S, "the end of all")
    eventually(lambda: not client.queries.jobs.load().in_hand, PATIENCE_S, "free slots")


def _words(has_shares: bool) -> str:
    return "with shares" if has_shares else "without"


def _line(has_shares: bool, rows: Sequence[tuple[float, float]], slots: int) -> str:
    in_use, rate = ([row[place] for row in rows] for place in (0, 1))
    return (
        f"{_words(has_shares)}, Alice alone: {statistics.median(in_use):.2f} of {slots} slots in use on average "
        f"({min(in_use):.2f} to {max(in_use):.2f}), {statistics.median(rate):.2f} jobs/s "
        f"({min(rate):.2f} to {max(rate):.2f})"
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
