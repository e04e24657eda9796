"""How much of the memory of hosts jobs of all sizes have in use: `sudo build/venv/bin/python -m bench.admission`.

Starts a Redis, a Docker and workers of its own, one for each host of `--hosts`. The same jobs run twice: first with as
many slots on each host as it has memory for jobs of the largest size, at least one, which is what one sets where a host
counts slots only; then with enough slots, and an offer.
The use is the sum of what the running containers have asked for, sampled from Docker, as long as jobs wait. No job
uses the memory that it asks for. Ends with status 1 where a host had more in use than it offers. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass

from celery_docker.client.client import Client
from celery_docker.core.jobspec import JobSpec
from celery_docker.core.lifecycle import State
from tests import servers
from tests.workers.roomsampler import RoomSampler
from tests.workers.several import host

GIB = 2**30
SIZES = (0.25, 0.5, 0.5, 1, 1, 1.5, 2, 4)
PATIENCE_S = 3600
UNLIMITED = "1024g"


@dataclass(frozen=True)
class Load:
    """The jobs of a run: their memory in GiB and their seconds; and the memory of the hosts, by name."""

    jobs: Sequence[tuple[float, float]]
    hosts_gib: Mapping[str, int]

    def slots(self, size: float) -> dict[str, int]:
        """Return how many jobs of a size each host has memory for, but one at least."""
        return {name: max(1, int(memory / size)) for name, memory in self.hosts_gib.items()}


@dataclass(frozen=True)
class Use:
    """What a run came to: shares of the memory of all hosts, and the most of one host's."""

    mean: float
    highest: float
    highest_of_a_host: float
    seconds: float


def main() -> int:
    """Run both, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--hosts", default="8", help="GiB that each host offers, such as 2,4,8 for three")
    parser.add_argument("--seconds", type=float, default=8, help="mean length of a job")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    draw = random.Random(options.seed)  # noqa: S311  # the same jobs in each run, not a secret
    jobs = [
        (draw.choice(SIZES), draw.uniform(0.5 * options.seconds, 1.5 * options.seconds)) for _ in range(options.jobs)
    ]
    hosts = [int(memory) for memory in options.hosts.split(",")]
    load = Load(jobs, {f"host{number}@here": memory for number, memory in enumerate(hosts, 1)})
    print(f"{options.jobs} jobs of {min(SIZES)} to {max(SIZES)} GiB on {options.hosts} GiB; seed {options.seed}")
    print("| run | mean use of memory while jobs wait | highest | highest of a host | seconds in all |")
    print("|---|---|---|---|---|")
    few = load.slots(max(SIZES))
    counted = measured(load, few, dict.fromkeys(load.hosts_gib, UNLIMITED))
    _print(f"slots for the largest job ({sum(few.values())}), baseline", counted)
    offers = {name: f"{memory}g" for name, memory in load.hosts_gib.items()}
    offered = measured(load, load.slots(min(SIZES)), offers)
    _print("an offer, slots enough", offered)
    return 0 if offered.highest_of_a_host <= 1 else 1


def _print(name: str, use: Use) -> None:
    print(
        f"| {name} | {use.mean:.0%} | {use.highest:.0%} | {use.highest_of_a_host:.0%} | {use.seconds:.0f} |", flush=True
    )


def measured(load: Load, slots: Mapping[str, int], offers: Mapping[str, str]) -> Use:
    """Return the use of the memory while jobs wait, and the seconds until all have ended."""
    with ExitStack() as stack:
        redis, dockerd = stack.enter_context(servers.RedisServer()), stack.enter_context(servers.Dockerd())
        dockerd.import_busybox()
        client = stack.enter_context(closing(Client(redis.url)))
        sampler = stack.enter_context(RoomSampler(dockerd))
        for name, offer in offers.items():
            settings = {"CELERY_DOCKER_CONCURRENCY": str(slots[name]), "CELERY_DOCKER_MEMORY": offer}
            stack.enter_context(host(redis.url, dockerd, name, CELERY_DOCKER_CPUS="512", **settings))
        began_s = time.monotonic()
        handles = [
            client.submit(JobSpec("busybox", ("sleep", f"{seconds:.1f}"), memory=int(size * GIB)))
            for size, seconds in load.jobs
        ]
        while _wait(client):
            time.sleep(0.05)
        waited_s = time.monotonic() - began_s
        ends = [handle.wait(PATIENCE_S) for handle in handles]
        seconds_in_all = time.monotonic() - began_s
    if set(ends) != {State.SUCCEEDED}:
        raise SystemExit(f"jobs ended as {sorted(set(ends))}")
    return _use(load, sampler, sampler.since(began_s) + waited_s, seconds_in_all)


def _wait(client: Client) -> bool:
    """Return whether jobs wait, in the queue or held back."""
    load = client.queries.jobs.load()
    return load.queued + load.blocked > 0


def _use(load: Load, sampler: RoomSampler, waited_until_s: float, seconds: float) -> Use:
    whole = sum(load.hosts_gib.values()) * GIB
    rows = [(at, sum(used.values())) for at, used in sampler.memory]
    first_s = next(at for at, used in rows if used)
    busy = [(at, used) for at, used in rows if first_s <= at <= waited_until_s]
    return Use(
        _mean(busy) / whole,
        max(used for _, used in rows) / whole,
        max(needs.memory_bytes / (load.hosts_gib[name] * GIB) for name, needs in sampler.peaks.items()),
        seconds,
    )


def _mean(rows: Sequence[tuple[float, float]]) -> float:
    """Return the mean over time of values that hold until the next one."""
    area = sum(used * (after - at) for (at, used), (after, _) in itertools.pairwise(rows))
    return area / (rows[-1][0] - rows[0][0])


if __name__ == "__main__":
    sys.exit(main())
