"""How much of a host's memory jobs of all sizes have in use: `sudo build/venv/bin/python -m bench.admission`.

Starts a Redis, a Docker and workers of its own. The same jobs run twice: first with as many slots as there is memory
for jobs of the largest size, which is what one sets where a host counts slots only; then with enough slots, and an
offer.
The use is the sum of what the running containers have asked for, sampled from Docker, as long as jobs wait. No job
uses the memory that it asks for. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from celery_docker.client.client import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from tests import servers
from tests.workers.roomsampler import RoomSampler
from tests.workers.worker import Worker

GIB = 2**30
SIZES = (0.25, 0.5, 0.5, 1, 1, 1.5, 2, 4)
PATIENCE_S = 1800
UNLIMITED = "1024g"


@dataclass(frozen=True)
class Load:
    """The jobs of a run: their memory in GiB and their seconds."""

    jobs: Sequence[tuple[float, float]]
    memory_gib: int


def main() -> int:
    """Run both, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--memory", type=int, default=8, help="GiB that the host offers")
    parser.add_argument("--seconds", type=float, default=8, help="mean length of a job")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # noqa: S311  # the same jobs in each run, not a secret
    jobs = [
        (draw.choice(SIZES), draw.uniform(0.5 * options.seconds, 1.5 * options.seconds)) for _ in range(options.jobs)
    ]
    load = Load(jobs, options.memory)
    slots = max(1, int(options.memory / max(SIZES)))
    runs = {
        f"slots for the largest job ({slots}), baseline": (slots, UNLIMITED),
        "an offer, slots enough": (options.jobs, f"{options.memory}g"),
    }
    print(f"{options.jobs} jobs of {min(SIZES)} to {max(SIZES)} GiB on {options.memory} GiB; seed {options.seed}")
    print("| run | mean use of memory while jobs wait | highest | seconds in all |")
    print("|---|---|---|---|")
    for name, (concurrency, memory) in runs.items():
        mean, highest, seconds = measured(load, concurrency, memory)
        print(f"| {name} | {mean:.0%} | {highest:.0%} | {seconds:.0f} |", flush=True)
    return 0


def measured(load: Load, concurrency: int, memory: str) -> tuple[float, float, float]:
    """Return the mean and the highest use of the memory while jobs wait, and the seconds until all have ended."""
    settings = {"CELERY_DOCKER_CONCURRENCY": str(concurrency), "CELERY_DOCKER_MEMORY": memory}
    with servers.RedisServer() as redis, servers.Dockerd() as dockerd:
        dockerd.import_busybox()
        with (
            closing(Client(redis.url)) as client,
            RoomSampler(dockerd) as sampler,
            Worker(redis.url, dockerd, CELERY_DOCKER_CPUS="512", **settings),
        ):
            began_s = time.monotonic()
            handles = [
                client.submit(JobSpec("busybox", ("sleep", f"{seconds:.1f}"), memory=int(size * GIB)))
                for size, seconds in load.jobs
            ]
            while client.queries.jobs.load().queued:
                time.sleep(0.05)
            waited_s = time.monotonic() - began_s
            ends = [handle.wait(PATIENCE_S) for handle in handles]
            seconds_in_all = time.monotonic() - began_s
    if set(ends) != {State.SUCCEEDED}:
        raise SystemExit(f"jobs ended as {sorted(set(ends))}")
    rows = [(at, sum(used.values())) for at, used in sampler.memory]
    first_s = next(at for at, used in rows if used)
    busy = [(at, used) for at, used in rows if first_s <= at <= sampler.since(began_s) + waited_s]
    return (
        _mean(busy) / (load.memory_gib * GIB),
        max(used for _, used in rows) / (load.memory_gib * GIB),
        seconds_in_all,
    )


def _mean(rows: Sequence[tuple[float, float]]) -> float:
    """Return the mean over time of values that hold until the next one."""
    area = sum(used * (after - at) for (at, used), (after, _) in itertools.pairwise(rows))
    return area / (rows[-1][0] - rows[0][0])


if __name__ == "__main__":
    sys.exit(main())
