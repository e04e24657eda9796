"""What Docker loses when it is late to a container's output: `sudo build/venv/bin/python -m bench.streams --delay 5`.

Starts a Redis, a Docker and a worker of its own, and runs jobs of one line. Then strace (of the package of that name)
holds each thread of dockerd back after it has opened a container's stream, and the same jobs run again. The baseline
are the jobs before. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from celery_docker.client.client import Client
from tests import servers
from tests.waiting import eventually
from tests.workers.worker import Worker

PATIENCE_S = 600
# dockerd opens a stream through its number, and nothing else in this way.
STREAMS = [f"/proc/self/fd/{number}" for number in range(300)]
LINE = "a line\n"


def silent(client: Client, jobs: int) -> int:
    """Return how many of so many jobs succeeded without their line."""
    batch = client.map(lambda number: {"image": "busybox", "command": ["echo", LINE.strip()]}, range(jobs))
    return sum(job.result(PATIENCE_S)["output"] != LINE for job in batch.jobs())


@contextmanager
def late(dockerd: int, delay_s: float) -> Iterator[None]:
    """Let the Docker of that PID notice that a stream is open only so many seconds after it is."""
    argv = ["strace", "-f", "-p", str(dockerd), "-e", "trace=openat"]
    argv += ["-e", f"inject=openat:delay_exit={delay_s * 1e6:.0f}", *(f"-P{path}" for path in STREAMS)]
    with tempfile.NamedTemporaryFile("w+") as said, subprocess.Popen(argv, stderr=said) as strace:  # noqa: S603
        try:
            eventually(lambda: "attached" in Path(said.name).read_text(), PATIENCE_S, "strace to be attached")
            yield
        finally:
            strace.send_signal(signal.SIGINT)


def main(argv: Sequence[str]) -> int:
    """Print how many jobs lost their output, and by which Docker."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--delay", type=float, default=0.2, help="seconds; default: %(default)s")
    options = parser.parse_args(argv)
    with servers.RedisServer() as redis_server, servers.Dockerd() as dockerd:
        dockerd.import_busybox()
        with (
            Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY="4"),
            closing(Client(redis_server.url)) as client,
        ):
            print(f"Docker with API {dockerd.api}, {os.cpu_count()} CPUs, load average {os.getloadavg()[0]:.1f}")
            print(f"as it is             {silent(client, options.jobs):3} of {options.jobs} jobs without their line")
            with late(int((dockerd.folder / "pid").read_text()), options.delay):
                lost = silent(client, options.jobs)
            print(f"late by {options.delay:6.2f} s      {lost:3} of {options.jobs} jobs without their line")
            print(f"dockerd has said     {dockerd.log.count(servers.GIVEN_UP):3} times: {servers.GIVEN_UP}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
