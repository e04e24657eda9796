"""Jobs of all sizes on hosts of different sizes, whose workers are killed: nothing is lost, no offer exceeded."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from celery_docker.store import keys
from tests import servers
from tests.faults.ledger import FULL, SEED, Ledger
from tests.faults.single_host import Conclude
from tests.workers.roomsampler import RoomSampler
from tests.workers.several import host

GIB = 2**30
# CPUs and GiB of each host.
OFFERS = {"small@here": (1, 2), "middle@here": (1, 4), "large@here": (2, 8)}
SIZES = (0.25, 0.5, 1, 1, 1.5, 2, 3, 4, 8)


def test_kills_of_workers_on_hosts_of_different_sizes(
    dockerd: servers.Dockerd, own_redis: servers.RedisServer, conclude: Conclude
) -> None:
    """In full, the groups of parked jobs are deleted from Redis once, too."""
    jobs, kills = (500, 12) if FULL else (50, 3)
    settings = {"CELERY_DOCKER_CONCURRENCY": "8", "CELERY_DOCKER_RESERVE_AFTER": "5", "CELERY_DOCKER_LOST_AFTER": "600"}
    with ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryDirectory(prefix="cdt-faults-", dir="/tmp"))
        Path(output).chmod(0o777)
        workers = [
            host(
                own_redis.url,
                dockerd,
                name,
                **settings,
                CELERY_DOCKER_CPUS=str(cpus),
                CELERY_DOCKER_MEMORY=f"{memory}g",
            )
            for name, (cpus, memory) in OFFERS.items()
        ]
        for worker in workers:
            stack.enter_context(worker)
        stack.callback(dockerd.remove_containers)
        ledger = stack.enter_context(
            Ledger(own_redis.url, [dockerd], workers, output=output, folder=Path(output), seed=SEED)
        )
        with RoomSampler(dockerd) as sampler:
            for _ in range(jobs):
                size = ledger.random.choice(SIZES)
                seconds = ledger.random.uniform(0, 2)
                ledger.add(f"sleep {seconds:.2f}", memory=int(size * GIB), cpus=size / 4)
            for number in range(kills):
                ledger.pause(0.2, 3)
                worker = ledger.random.choice(workers)
                worker.kill()
                worker.start()
                ledger.recover()
                if FULL and number == kills // 2:
                    with own_redis.client() as client:
                        client.delete(*client.keys(f"{keys.PARKED}*"))
            conclude(ledger.settle(f"kill -9 of workers with offers of different sizes, {kills} times"))
    assert set(sampler.peaks) == set(OFFERS)
    for name, (cpus, memory) in OFFERS.items():
        assert sampler.peaks[name].millicpus <= 1000 * cpus
        assert sampler.peaks[name].memory_bytes <= memory * GIB
