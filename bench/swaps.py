"""What somebody gains who swaps the folders of his jobs: `sudo build/venv/bin/python -m bench.swaps --jobs 1000`.

Starts a Redis, a Docker and a worker of its own. A program swaps a job's folder for a link to a secret, or a link for
another, a thousand times a second, while jobs start, wait for their image, and are taken over by another worker; under
a tight policy and under the shipped one, as a user and as root. A job that prints the secret, or a log beside it, came
through. The baseline is a check of the path followed by `docker create` with the same path: what the worker did before
celery-docker-open. Leaves nothing behind.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from celery_docker.client.client import Client
from celery_docker.client.handles import Job
from celery_docker.core import jobspec, plan, policyfile
from celery_docker.engine.dockerd import DockerEngine
from celery_docker.host import paths
from tests import servers
from tests.waiting import eventually
from tests.workers.registry import Registry
from tests.workers.worker import Worker

PATIENCE_S = 600
ALICE = "54321"
SHIPPED = Path(__file__).parents[1] / "etc/celery-docker/policy.toml"
SAY = "for place in /input /ref /work; do cat $place/notes 2>/dev/null && echo; done | sort -u"
# Prints how often it has swapped.
SWAP = """
import os, signal, sys, time
kind, path, good, secret = sys.argv[1:]
def end(*_):
    print(swaps, flush=True)
    os._exit(0)
swaps = 0
signal.signal(signal.SIGTERM, end)
while True:
    for target in (secret, good):
        if kind == "link":
            os.symlink(target, path + ".new")
            os.rename(path + ".new", path)
        elif target == secret:
            os.rename(path, path + ".moved")
            os.symlink(secret, path)
        else:
            os.unlink(path)
            os.rename(path + ".moved", path)
        swaps += 1
        time.sleep(0.0005)
"""


@dataclass
class Lab:
    """A folder below the policy's roots, whose user swaps what is in it, and a secret outside of the roots."""

    folder: Path
    secret: Path
    rows: list[tuple[str, int, Counter[str]]] = field(default_factory=list)

    @contextmanager
    def swapping(self, kind: str, what: str, seen: Counter[str]) -> Iterator[str]:
        """Swap a path all the time and yield it; then keep what was seen."""
        path, good = self.folder / "data", self.folder / "good"
        (path if kind == "folder" else good).mkdir()
        ((path if kind == "folder" else good) / "notes").write_text("data")
        if kind == "link":
            path.symlink_to(good)
        words = [sys.executable, "-c", SWAP, kind, str(path), str(good), str(self.secret)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)  # noqa: S603
        try:
            yield str(path)
        finally:
            process.send_signal(signal.SIGTERM)
            swaps = int(process.communicate()[0])
        for name in ("data", "data.new", "data.moved", "good"):
            place = self.folder / name
            if place.is_symlink():
                place.unlink()
            elif place.exists():
                shutil.rmtree(place)
        seen["through"] += len(os.listdir(self.secret)) - 1
        self.rows.append((what, swaps, seen))


def seen_by(path: str) -> dict[str, Any]:
    """Return the fields of a job that sees a path as its input, and by two further mounts."""
    return {"inputpath": path, "mounts": [f"{path}:/ref:ro", f"{path}:/work"]}


def note(seen: Counter[str], output: str | None) -> None:
    """Count what a job came to: None is a refusal; what it should not have printed is shown."""
    kinds = {None: "refused", "data": "right", "secret": "through"}
    text = output if output is None else output.strip()
    seen[kinds.get(text, f"printed {text!r}")] += 1


def ended(job: Job, seen: Counter[str]) -> None:
    job.wait(PATIENCE_S)
    receipt = job.receipt or {}
    note(seen, receipt["output"] if receipt.get("container_id") else None)


def at_the_start(lab: Lab, client: Client, kind: str, name: str, count: int) -> None:
    seen = Counter[str]()
    with lab.swapping(kind, f"{name}: {kind} at the start", seen) as path:
        users = [ALICE if number % 2 else "0" for number in range(count)]
        jobs = [client.submit("busybox", ["sh", "-c", SAY], retries=0, user=user, **seen_by(path)) for user in users]
        for job in jobs:
            ended(job, seen)


def during_a_pull(lab: Lab, client: Client, registry: Registry, kind: str, name: str, count: int) -> None:
    seen = Counter[str]()
    with lab.swapping(kind, f"{name}: {kind} during a pull", seen) as path:
        for number in range(count):
            registry.speaks.clear()
            image, user = f"{registry.address}/slow:1", ALICE if number % 2 else "0"
            job = client.submit(image, ["sh", "-c", SAY], retries=0, user=user, pull="always", **seen_by(path))
            eventually(lambda job=job: job.state != "queued", PATIENCE_S)  # type: ignore[misc]
            time.sleep(random.uniform(0.05, 0.3))  # noqa: S311
            registry.speaks.set()
            ended(job, seen)


def over_an_adoption(lab: Lab, client: Client, worker: Worker, kind: str, name: str, count: int) -> None:
    """The job is to see what it was started with, and its log is to stay where it was judged."""
    seen, out = Counter[str](), lab.folder / "out"
    out.mkdir(mode=0o777)
    out.chmod(0o777)
    with lab.swapping(kind, f"{name}: {kind} over an adoption", seen) as path:
        for number in range(count):
            script = f"touch /output/{number}; until [ -e /output/go{number} ]; do sleep 0.05; done; {SAY}"
            fields = {**seen_by(path), "outputpath": str(out), "logoutfile": f"{path}/{number}.log"}
            job = client.submit("busybox", ["sh", "-c", script], retries=0, user="0", **fields)
            eventually(lambda n=number, job=job: (out / str(n)).exists() or job.state.is_final, PATIENCE_S)  # type: ignore[misc]
            worker.kill()
            worker.start()
            (out / f"go{number}").touch()
            ended(job, seen)
    shutil.rmtree(out)


def baseline(lab: Lab, docker_host: str, kind: str, count: int) -> None:
    """Look where the path leads, refuse what is outside, and give Docker the path: a check before the use."""
    seen, engine = Counter[str](), DockerEngine(docker_host, connections=2)
    rules = policyfile.parse(f'mounts = ["{lab.folder}"]\nnetworks = ["none"]\n')
    with lab.swapping(kind, f"baseline, check and use: {kind} at the start", seen) as path:
        for number in range(count):
            try:
                place = paths.follow(path, rules.mounts)
            except (paths.Outside, OSError):
                note(seen, None)
                continue
            job = jobspec.parse(["busybox"], {"command": ["sh", "-c", SAY], "inputpath": path})
            resolved = plan.Resolved(user=ALICE, inputpath=place)
            made = plan.plan(job, job_id=f"swap-{number}", attempt=1, host="bench", resolved=resolved, policy=rules)
            try:
                container_id = engine.create(made)
            except Exception:  # noqa: BLE001  # it does not exist at the moment
                note(seen, None)
                continue
            try:
                with engine.attach(container_id) as stream:
                    engine.start(container_id)
                    note(seen, b"".join(frame.payload for frame in stream).decode())
            except Exception:  # noqa: BLE001
                note(seen, None)
            finally:
                engine.remove(container_id)


def main(argv: Sequence[str]) -> int:
    """Swap and print; the exit status is 1 if anything came through but in the baseline."""
    parser = argparse.ArgumentParser(prog="python -m bench.swaps", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that are started; default: %(default)s")
    options = parser.parse_args(argv)
    with (
        tempfile.TemporaryDirectory(prefix="cdt-swaps-", dir="/var/tmp") as name,
        tempfile.TemporaryDirectory(prefix="cdt-secret-", dir="/var/lib") as secret,
    ):
        lab = Lab(Path(name), Path(secret))
        for path in (lab.folder, lab.secret):
            path.chmod(0o755)
        (lab.secret / "notes").write_text("secret")
        _swap_all(lab, options.jobs)
    for what, swaps, seen in lab.rows:
        print(f"{what:52} {swaps:7,} swaps  {dict(sorted(seen.items()))}")
    return int(any(seen["through"] for what, _, seen in lab.rows if not what.startswith("baseline")))


def _swap_all(lab: Lab, jobs: int) -> None:
    tight = f'mounts = ["{lab.folder}"]\nnetworks = ["none"]\nusers = ["0-59999"]\n'
    with servers.RedisServer() as redis_server, servers.Dockerd() as dockerd, Registry() as registry:
        dockerd.import_busybox()
        for kind in ("folder", "link"):
            baseline(lab, f"unix://{dockerd.socket}", kind, jobs // 10)
        for name, rules in (("tight", tight), ("shipped", SHIPPED.read_text())):
            worker = Worker(redis_server.url, dockerd, CELERY_DOCKER_CONCURRENCY="4", CELERY_DOCKER_RETRY_DELAY="0")
            worker.policy.write_text(rules)
            with worker, closing(Client(redis_server.url)) as client:
                for kind in ("folder", "link"):
                    at_the_start(lab, client, kind, name, jobs // 4)
                    during_a_pull(lab, client, registry, kind, name, jobs // 20)
                    over_an_adoption(lab, client, worker, kind, name, jobs // 50)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
