"""How soon the next job starts after thousands of queued jobs were cancelled: `python -m bench.cancels --jobs 20000`.

Starts a Redis, a Docker and a worker with one slot of their own, as the tests do; needs root and leaves nothing behind.
The slot is held by a job while the others are queued and cancelled. Then one more is queued and the slot is freed: the
clock runs from there to the first act of that job's command. The baseline is the same with nothing to cancel; both take
turns. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from celery_docker.client.client import Client
from celery_docker.store import keys
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import Worker

PATIENCE_S = 600


@dataclass(frozen=True)
class Turn:
    """One measurement, in seconds: of queueing and cancelling the others, then from the free slot to the next job."""

    queue_s: float
    cancel_s: float
    next_s: float


def measure(client: Client, jobs: int) -> Turn:
    """Queue and cancel so many jobs behind one that holds the slot, then free it for one more."""
    folder = Path(tempfile.mkdtemp(prefix="cdt-cancels-", dir="/tmp"))  # where the policy allows mounts
    folder.chmod(0o777)
    try:
        held = client.submit(
            "busybox",
            ["sh", "-c", "touch /output/held; until [ -e /output/go ]; do sleep 0.01; done"],
            outputpath=str(folder),
        )
        eventually((folder / "held").exists, PATIENCE_S, "the slot to be held")
        begin = time.perf_counter()
        batch = (
            client.map(lambda number: {"image": "busybox", "command": f"echo {number}"}, range(jobs)) if jobs else None
        )
        queued = time.perf_counter()
        if batch is not None:
            batch.cancel()
        cancelled = time.perf_counter()
        following = client.submit("busybox", ["touch", "/output/next"], outputpath=str(folder))
        freed_at = time.time()
        (folder / "go").touch()
        if {held.wait(PATIENCE_S), following.wait(PATIENCE_S)} != {"succeeded"}:
            raise RuntimeError("a job that was not cancelled has not succeeded")
        next_s = (folder / "next").stat().st_mtime - freed_at
        eventually(lambda: not client.store.link.client.scard(keys.CANCELLING), PATIENCE_S, "the end of all")
        return Turn(queued - begin, cancelled - queued, next_s)
    finally:
        shutil.rmtree(folder)


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.cancels", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="how many are cancelled; default: %(default)s")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often, each beside its baseline; default: %(default)s"
    )
    options = parser.parse_args(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis_server, servers.Dockerd() as dockerd:
        dockerd.import_busybox()
        with (
            Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY="1"),
            closing(Client(redis_server.url)) as client,
        ):
            measure(client, 0)
            pairs = [(measure(client, options.jobs), measure(client, 0)) for _ in range(options.rounds)]
            print(_table(options.jobs, pairs))
    return 0


def _table(jobs: int, pairs: Sequence[tuple[Turn, Turn]]) -> str:
    rows = [
        (f"{jobs:,} jobs are queued", [turn.queue_s for turn, _ in pairs]),
        (f"{jobs:,} jobs are cancelled", [turn.cancel_s for turn, _ in pairs]),
        ("from the free slot to the next job, limit 1 s", [turn.next_s for turn, _ in pairs]),
        ("  the same with nothing to cancel", [turn.next_s for _, turn in pairs]),
    ]
    return "\n".join(
        f"{label:46} {statistics.median(took_s):6.2f} s  {min(took_s):.2f} to {max(took_s):.2f} s of {len(took_s)}"
        for label, took_s in rows
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
