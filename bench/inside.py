"""Measures the worker of the machine that it runs in, with the packaged interpreter; prints JSON.

Runs as root, alone: needs nothing but the installed package. Product and baseline take turns, so that what else the
computer does falls on both. The baseline is Docker alone: the same container body (`plan`), the same calls in the same
order (create, attach, start, read to the end, wait, inspect; remove) from as many threads as there are slots. A clock
stops when the end of the last job is known: at its Celery result, or at its inspect. Both remove afterwards.
"""

from __future__ import annotations

import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import redis
from celery import Celery

from celery_docker.core import jobspec, plan, policyfile
from celery_docker.engine import unixhttp
from celery_docker.store import keys

URL = "redis://127.0.0.1:6379/0"
SOCKET = "/var/run/docker.sock"
API = "/v1.41/containers"
UPGRADE = {"Connection": "Upgrade", "Upgrade": "tcp"}
POLICY = Path("/etc/celery-docker/policy.toml")
TRUE = "true"
NAP_S = 1.3
PATIENCE_S = 300
NOBODYS_QUEUE = "bench"
AT_ONCE = 500
TURNS = 4
PING = f"import redis; redis.Redis.from_url({URL!r}).ping()"
_OURS = ("info", "monitor", "scard")
_TICKS = os.sysconf("SC_CLK_TCK")


class Worker:
    """The process under test, as the kernel sees it."""

    def __init__(self, pid: int) -> None:
        self._folder = Path("/proc", str(pid))

    @property
    def cpu_s(self) -> float:
        """The user and system time that all its threads have used so far."""
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def rss_mib(self) -> float:
        status = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024


class Product:
    """Jobs through the queue, by a plain Celery client."""

    def __init__(self) -> None:
        self._app = Celery(broker=URL, backend=URL)
        self.redis: Any = redis.Redis.from_url(URL, decode_responses=True)

    def run(self, jobs: int, command: str) -> float:
        """Submit jobs at once; return the seconds from the first submission to the last result."""
        begin = time.perf_counter()
        sent = [self._app.send_task(jobspec.TASK_NAME, ("busybox", command)) for _ in range(jobs)]
        for result in sent:
            result.get(timeout=PATIENCE_S)
        return time.perf_counter() - begin

    def send_s(self, jobs: int) -> float:
        """Return the seconds in which Celery submits jobs, to a queue that no worker reads."""
        begin = time.perf_counter()
        for _ in range(jobs):
            self._app.send_task(jobspec.TASK_NAME, ("busybox", TRUE), queue=NOBODYS_QUEUE, ignore_result=True)
        took_s = time.perf_counter() - begin
        self.redis.delete(NOBODYS_QUEUE)
        return took_s

    def settle(self) -> None:
        """Wait until the worker has removed its containers and let go of its jobs."""
        self._wait_until_empty(keys.host_jobs(socket.gethostname()))

    def wait_until_ended(self) -> None:
        """Wait until the worker has ended every job that was cancelled."""
        self._wait_until_empty(keys.CANCELLING)

    def _wait_until_empty(self, members: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.redis.scard(members):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker does not empty {members}")
            time.sleep(0.05)

    def commands(self) -> Counter[str]:
        """Return how often Redis has run each command, those inside of scripts included."""
        stats = self.redis.info("commandstats")
        return Counter({name.removeprefix("cmdstat_"): value["calls"] for name, value in stats.items()})


class Baseline:
    """Containers by Docker alone, in plain HTTP."""

    def __init__(self, threads: int) -> None:
        self._http = unixhttp.Http(SOCKET, keep=threads)
        self._policy = policyfile.parse(POLICY.read_text())
        self._pool = ThreadPoolExecutor(threads)
        self.run(threads, TRUE)

    def run(self, containers: int, command: str) -> float:
        """Run containers at once; return the seconds until the end of the last one is known."""
        begin = time.perf_counter()
        return max(self._pool.map(self._one, [command] * containers)) - begin

    def _one(self, command: str) -> float:
        container_plan = self._plan(command)
        container_id = json.loads(self._call("POST", f"create?name={container_plan.name}", container_plan.body))["Id"]
        output = self._http.open(
            "POST", f"{API}/{container_id}/attach?stdout=1&stderr=1&stream=1", headers=UPGRADE, timeout_s=PATIENCE_S
        )
        self._call("POST", f"{container_id}/start")
        while output.response.fp.read1(65536):
            pass
        self._call("POST", f"{container_id}/wait?condition=not-running")
        json.loads(self._call("GET", f"{container_id}/json"))
        ended_at = time.perf_counter()
        output.close()
        self._call("DELETE", f"{container_id}?v=1&force=1")
        return ended_at

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        answer = self._http.call(method, f"{API}/{path}", body=body, timeout_s=PATIENCE_S)
        if not answer.ok:
            raise OSError(f"Docker refuses {method} {path}: {answer.text}")
        return answer.body

    def _plan(self, command: str) -> plan.ContainerPlan:
        spec = jobspec.parse(("busybox", command), {})
        return plan.plan(
            spec, job_id=str(uuid.uuid4()), attempt=1, host="bench", resolved=plan.Resolved(), policy=self._policy
        )


def measure_jobs(worker: Worker, slots: int, jobs: int, rounds: int, singles: int) -> dict[str, Any]:
    """Measure what a job costs: time, CPU, memory, Redis."""
    rss_at_start = worker.rss_mib
    product, baseline = Product(), Baseline(slots)
    product.run(slots, TRUE)
    product.settle()
    rows = [_round(worker, product, baseline, jobs) for _ in range(rounds)]
    idle = _idle(worker, product, statistics.median(row["busy_s"] for row in rows))
    pairs = [_single(product, baseline) for _ in range(singles)]
    return {
        "jobs": jobs,
        "rounds": rows,
        "idle": idle,
        "singles": pairs,
        "sent": _sent(product, jobs),
        "rss_mib": {"start": rss_at_start, "end": worker.rss_mib},
    }


def measure_slots(slots: int, jobs: int, rounds: int) -> dict[str, Any]:
    """Measure whether a free slot waits for its next job: jobs that all last the same."""
    product, baseline = Product(), Baseline(slots)
    command = f"sleep {NAP_S}"
    rows = []
    for _ in range(rounds):
        rows.append({"product_s": product.run(jobs, command)})
        product.settle()
        rows[-1]["baseline_s"] = baseline.run(jobs, command)
    return {"jobs": jobs, "slots": slots, "nap_s": NAP_S, "rounds": rows}


def measure_batch(jobs: int, sent: int, rounds: int) -> dict[str, Any]:
    """Measure how long the command takes to queue a batch while the worker runs jobs of it.

    The baselines: as many plain LPUSH of the same message, 500 at a time, from a client that is up; and `sent` jobs by
    Celery. Another queue takes those, so that nobody runs them. Then what it takes to ask about the batch, beside the
    worker that runs its jobs and, once they are cancelled, while it ends thousands of them.
    """
    product = Product()
    rows: list[dict[str, float]] = []
    questions: list[dict[str, Any]] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        batch_id = _celery_docker("batch", "-q", "--array", f"1-{jobs}", "busybox", "true")
        product_s = time.perf_counter() - begin
        text = product.redis.lindex(jobspec.DEFAULT_QUEUE, 0)
        running = [_asked_s(batch_id) for _ in range(TURNS)]
        _celery_docker("queue", "purge", "--yes")
        ending = [_asked_s(batch_id) for _ in range(TURNS)]
        not_ended = product.redis.scard(keys.CANCELLING)
        product.wait_until_ended()
        push_s, celery_s = _push_s(product, text, jobs), product.send_s(sent)
        rows.append({"product_s": product_s, "push_s": push_s, "celery_s": celery_s})
        questions += [{"running": running, "ending": ending, "left": not_ended}]
    return {"jobs": jobs, "sent": sent, "rounds": rows, "asked": questions}


def _celery_docker(*line: str) -> str:
    return _said("/usr/bin/celery-docker", *line)


def _said(*command: str) -> str:
    options: dict[str, Any] = {"check": True, "capture_output": True, "text": True, "timeout": PATIENCE_S}
    return str(subprocess.run(command, **options).stdout).strip()  # noqa: S603  # our own words


def _asked_s(batch_id: str) -> dict[str, float]:
    """Return the seconds of each question, and those of a PING by the same library in a process of its own."""
    questions = {
        "ps": ("/usr/bin/celery-docker", "ps"),
        "status": ("/usr/bin/celery-docker", "status", batch_id),
        "results": ("/usr/bin/celery-docker", "results", batch_id),
        "ping": (sys.executable, "-c", PING),
    }
    took_s = {}
    for name, command in questions.items():
        begin = time.perf_counter()
        _said(*command)
        took_s[name] = time.perf_counter() - begin
    return took_s


def _push_s(product: Product, text: str, count: int) -> float:
    begin = time.perf_counter()
    for _ in range(0, count, AT_ONCE):
        with product.redis.pipeline(transaction=False) as pipeline:
            for _ in range(AT_ONCE):
                pipeline.lpush(NOBODYS_QUEUE, text)
            pipeline.execute()
    took_s = time.perf_counter() - begin
    product.redis.delete(NOBODYS_QUEUE)
    return took_s


def _round(worker: Worker, product: Product, baseline: Baseline, jobs: int) -> dict[str, Any]:
    commands, cpu_s, begin = product.commands(), worker.cpu_s, time.perf_counter()
    product_s = product.run(jobs, TRUE)
    product.settle()
    return {
        "product_s": product_s,
        "busy_s": time.perf_counter() - begin,
        "cpu_s": worker.cpu_s - cpu_s,
        "commands": _more(product.commands(), commands),
        "baseline_s": baseline.run(jobs, TRUE),
    }


def _idle(worker: Worker, product: Product, length_s: float) -> dict[str, Any]:
    commands, cpu_s = product.commands(), worker.cpu_s
    time.sleep(length_s)
    return {
        "length_s": length_s,
        "cpu_s": worker.cpu_s - cpu_s,
        "commands": _more(product.commands(), commands),
    }


def _single(product: Product, baseline: Baseline) -> dict[str, float]:
    product_s = product.run(1, TRUE)
    product.settle()
    return {"product_s": product_s, "baseline_s": baseline.run(1, TRUE)}


def _sent(product: Product, jobs: int) -> dict[str, Any]:
    """Count by command what each side sends, and what scripts do by themselves."""
    begin = time.perf_counter()
    with _monitor() as events_seen:
        product.run(jobs, TRUE)
        product.settle()
    busy_s = time.perf_counter() - begin
    mine = _own_ports()
    sides: dict[str, Counter[str]] = {"client": Counter(), "worker": Counter(), "script": Counter()}
    for event in events_seen:
        side = "client" if event["client_port"] in mine else "worker"
        side = "script" if event["client_type"] == "lua" else side
        sides[side][event["command"].split(" ", 1)[0].lower()] += 1
    return {"busy_s": busy_s, **{side: dict(_without_ours(counts)) for side, counts in sides.items()}}


@contextmanager
def _monitor() -> Iterator[list[dict[str, str]]]:
    """Collect every command that Redis runs, up to an ECHO of our own."""
    events_seen: list[dict[str, str]] = []
    end = str(uuid.uuid4())
    # A connection for each: MONITOR keeps its own.
    listening: Any = redis.Redis.from_url(URL)
    asking: Any = redis.Redis.from_url(URL)
    with listening.monitor() as monitor:
        events = itertools.takewhile(lambda event: end not in event["command"], monitor.listen())
        listener = Thread(target=lambda: events_seen.extend(events))
        listener.start()
        yield events_seen
        asking.echo(end)
        listener.join()


def _own_ports() -> set[str]:
    """Return the local ports of this process' TCP connections."""
    sockets = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    rows = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return {str(int(row[1].partition(":")[2], 16)) for row in rows if f"socket:[{row[9]}]" in sockets}


def _more(after: Counter[str], before: Counter[str]) -> dict[str, int]:
    return dict(_without_ours(after - before))


def _without_ours(counts: Counter[str]) -> Counter[str]:
    """Leave out what only the measurement itself asks."""
    return Counter({name: count for name, count in counts.items() if name not in _OURS})


def main(argv: Sequence[str]) -> None:
    """Run one measurement: `jobs PID`, `slots` or `batch`."""
    measurements: dict[str, Callable[[], dict[str, Any]]] = {
        "jobs": lambda: measure_jobs(Worker(int(argv[1])), slots=4, jobs=40, rounds=3, singles=30),
        "slots": lambda: measure_slots(slots=2, jobs=16, rounds=3),
        "batch": lambda: measure_batch(jobs=10_000, sent=1000, rounds=3),
    }
    print(json.dumps(measurements[argv[0]]()))


if __name__ == "__main__":
    main(sys.argv[1:])
