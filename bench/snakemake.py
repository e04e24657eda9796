"""How long a workflow of thirty jobs takes by the plugin, beside cluster-generic: `python -m bench.snakemake`, as root.

Starts a Redis, a Docker, a worker and the service of its own, as the tests do, and leaves nothing behind. Both run the
same rules with the same poll interval and number of jobs: the plugin in plain busybox images, cluster-generic with the
shipped wrappers and a Snakemake in each container, which needs the libraries of this host. Run it on a machine that
does nothing else.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests import servers, snakemakes
from tests.gateways import Gateway
from tests.snakemakes import GLIBC, Desk, cluster_generic, plugin
from tests.workers.worker import Worker

USER = 31001
POLL_S = 2
WAYS = PLUGIN, _ = ("the plugin, plain busybox", "cluster-generic, the wrappers")
_SNAKEFILE = """
{container}
rule all:
    input: expand("out/{{n}}.txt", n=range({jobs}))
rule one:
    output: "out/{{n}}.txt"
    shell: "echo {{wildcards.n}} > {{output}}"
"""


def main(argv: Sequence[str]) -> int:
    """Print both times; return 0 if all files are there and no container is left."""
    parser = argparse.ArgumentParser(prog="python -m bench.snakemake")
    parser.add_argument("--jobs", type=int, default=30, help="of the workflow; default: 30")
    parser.add_argument("--slots", type=int, default=4, help="of the worker; default: 4")
    options = parser.parse_args(argv)
    environment = snakemakes.installed()
    with ExitStack() as stack:
        redis = stack.enter_context(servers.RedisServer())
        dockerd = stack.enter_context(servers.Dockerd())
        dockerd.import_busybox()
        dockerd.import_image(GLIBC, snakemakes.glibc_tar())
        worker = Worker(redis.url, dockerd, CELERY_DOCKER_CONCURRENCY=str(options.slots), CELERY_DOCKER_CPUS="64")
        worker.policy.write_text(f'mounts = ["/tmp", "/usr", "{environment}"]\nnetworks = ["none"]\n')
        stack.enter_context(worker)
        gateway = stack.enter_context(Gateway(redis.url))
        print(f"{options.jobs} jobs, {options.slots} slots, asked every {POLL_S} s", flush=True)
        results = [_measured(way, environment, gateway, dockerd, options.jobs) for way in WAYS]
    return 0 if all(results) else 1


def _measured(way: str, environment: Path, gateway: Gateway, dockerd: servers.Dockerd, jobs: int) -> bool:
    """Run the workflow, print how long it took, and return whether all of it is as it should be."""
    with Desk(environment, USER, gateway.url) as desk:
        if way == PLUGIN:
            container, words = 'container: "docker://busybox"', plugin("--seconds-between-status-checks", str(POLL_S))
        else:
            submit = f"--image {GLIBC} --mount {environment} --mount /usr --name {{rule}}"
            container, words = "", cluster_generic(desk.shipped, submit, poll_s=POLL_S)
        desk.write(_SNAKEFILE.format(container=container, jobs=jobs))
        began_s = time.monotonic()
        made = desk.snakemake(*words)
        took_s = time.monotonic() - began_s
        files, running = len(list(desk.folder.glob("out/*.txt"))), len(dockerd.running())
    print(f"{took_s:6.1f} s  {way}: {files} files, {running} running containers", flush=True)
    is_complete = made.returncode == 0 and files == jobs and not running
    if not is_complete:
        print(made.stdout[-3000:])
    return is_complete


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
