"""How fast celery-docker-api answers, each figure beside the same without it: `python -m bench.gateway`.

Starts a Redis and the service of its own, as the tests do, and leaves nothing behind. Eight processes ask at once, each
with a connection to the service for each request, as every client has; the baseline asks Redis by the same functions,
with a connection that stays; the page and the metrics have none. Then batches, single submissions with and without a
key in turns, restarts of the service under forty clients, and first answers of a service that is started for a request
which waits, as systemd does it. There is no worker: a host only says that it is alive. Run it on a machine that does
nothing else: clients, service and Redis share its CPUs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_docker.client.client import Client
from celery_docker.core.batch import Expanded
from celery_docker.core.batchinputs import Row, Source
from celery_docker.core.jobrecord import Holding
from celery_docker.core.lifecycle import State
from celery_docker.core.signingkeys import Keys
from celery_docker.host.keyfile import KeyFile
from celery_docker.store import keys, pages
from celery_docker.store.hosts import HostStore
from celery_docker.store.listing import JobRow
from celery_docker.store.queries import Queries
from tests import servers
from tests.gateways import Gateway
from tests.waiting import eventually

API = "/api/v1"
IMAGE, COMMAND = "busybox", "true"
HOST = "bench"
ABOUT = {"queues": ["celery"], "slots": 0, "phase": "serving", "accepting": True, "status": "serving"}
BATCH = 10_000
PAGE = 100
RESTARTS = 3
FORTY = 40
STARTS = 10
ANSWER_S = 60
Ask = Callable[[], object]


@dataclass(frozen=True)
class Rate:
    """Answers: how many a second, how long they took, and the CPU time of the service for each.

    The latter is the one that other load changes least.
    """

    a_second: float
    took_s: Sequence[float]
    cpu_s: float

    def __str__(self) -> str:
        p50, p99 = (self.took_s[int(len(self.took_s) * share)] * 1e3 for share in (0.5, 0.99))
        return f"{self.a_second:6.0f} /s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  CPU {self.cpu_s * 1e3:5.2f} ms"


@dataclass(frozen=True)
class Bench:
    """The service, its Redis, and another Redis for what is queued beside it."""

    redis: servers.RedisServer
    gateway: Gateway
    beside: servers.RedisServer
    clients: int
    seconds: float

    def rate(self, make: Callable[[Bench], Ask]) -> Rate:
        """Return how often so many processes together are answered, each with what `make` returns there."""
        heartbeat(self.redis.url)
        context = multiprocessing.get_context("fork")
        took: Any = context.SimpleQueue()
        asking = [context.Process(target=self._ask, args=(make, took)) for _ in range(self.clients)]
        before_s = self.cpu_s
        for process in asking:
            process.start()
        took_s = sorted(one for _ in asking for one in took.get())
        for process in asking:
            process.join()
        return Rate(len(took_s) / self.seconds, took_s, (self.cpu_s - before_s) / len(took_s))

    def _ask(self, make: Callable[[Bench], Ask], took: Any) -> None:
        ask, took_s = make(self), []
        ask()
        end = time.monotonic() + self.seconds
        while (begin := time.monotonic()) < end:
            ask()
            took_s.append(time.monotonic() - begin)
        took.put(took_s)

    @property
    def rss_mib(self) -> float:
        """The memory of the service, as the kernel sees it."""
        status = self._read("status").splitlines()
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) / 1024

    @property
    def cpu_s(self) -> float:
        """The CPU time of the service since its start."""
        fields = self._read("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _read(self, name: str) -> str:
        process = self.gateway.process
        return Path(f"/proc/{process.pid if process else ''}/{name}").read_text()


def heartbeat(url: str) -> None:
    """Let a host say that it is alive: without one, each job's answer says that there is none."""
    with closing(Client(url)) as client:
        HostStore(client.store.link).beat(HOST, machine="bench", about=ABOUT)


def through(method: str, target: str, body: Any = None) -> Callable[[Bench], Ask]:
    """Return what asks the service, in as few steps as there are: the clients share the CPUs with it."""
    text = b"" if body is None else json.dumps(body).encode()
    request = f"{method} {target} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text

    def make(bench: Bench) -> Ask:
        def ask() -> None:
            with closing(asked(bench, request)) as connection:
                answer_of(connection)

        return ask

    return make


def asked(bench: Bench, request: bytes) -> socket.socket:
    """Send a request and return the connection on which its answer comes."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(ANSWER_S)
    connection.connect(bench.gateway.path)
    connection.sendall(request)
    return connection


def answer_of(connection: socket.socket) -> None:
    """Read the whole answer; raises `RuntimeError` if it is not as it should be."""
    answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    if not answer.startswith(b"HTTP/1.1 20"):
        raise RuntimeError(f"an answer begins with {answer[:200]!r}")


def direct(question: Callable[[Client], object]) -> Callable[[Bench], Ask]:
    """Return what asks Redis."""

    def make(bench: Bench) -> Ask:
        client = Client(bench.redis.url)
        return lambda: question(client)

    return make


def jobs_of_states(url: str) -> tuple[str, str]:
    """Queue a job, and another that has ended; return their ids."""
    with closing(Client(url)) as client:
        queued, ended = (client.submit(IMAGE, COMMAND).id for _ in range(2))
        envelope = json.loads(client.store.record(ended)["message"])
        claim = client.store.claim(ended, host=HOST, queue="celery", envelope=envelope)
        receipt = {"state": State.SUCCEEDED.value, "id": ended, "exit_code": 0}
        client.store.finish(Holding(ended, HOST, claim.fence), State.SUCCEEDED, receipt)
    return queued, ended


def rates(bench: Bench) -> list[str]:
    """Return the lines of what many ask at once."""
    queued, ended = jobs_of_states(bench.redis.url)
    rows = [
        ("healthz", through("GET", f"{API}/healthz"), "PING of Redis", lambda client: client.store.link.client.ping()),
        (
            "states of 1 job",
            through("GET", f"{API}/states?ids={queued}"),
            "directly",
            lambda client: client.queries.jobs.fields([queued], "state"),
        ),
        ("a queued job", through("GET", f"{API}/jobs/{queued}"), "directly", lambda client: client.documents([queued])),
        ("an ended job", through("GET", f"{API}/jobs/{ended}"), "directly", lambda client: client.documents([ended])),
        (
            "submit",
            through("POST", f"{API}/jobs", {"image": IMAGE, "command": COMMAND}),
            "directly",
            lambda client: client.submit(IMAGE, COMMAND),
        ),
    ]
    lines = []
    for name, with_it, words, without in rows:
        lines += [f"{name:34} {bench.rate(with_it)}", f"  {words:32} {bench.rate(direct(without))}"]
    for name, target in (("the page", "/"), ("metrics", "/metrics")):
        lines.append(f"{name:34} {bench.rate(through('GET', target))}")
    return lines


def page_lines(bench: Bench, queued: str) -> list[str]:
    """Return the lines of what is asked while tens of thousands of jobs wait."""
    with closing(Client(bench.redis.url)) as client:
        count = client.queries.jobs.load().queued

    def page(client: Client) -> object:
        queries = Queries(client.store.link)

        def rows_of(job_ids: Sequence[str]) -> list[tuple[str, JobRow]]:
            return [(row.job_id, row) for row in queries.jobs.rows(job_ids)]

        rows, _ = pages.page(queries.link, keys.INDEX, pages.NEWEST, PAGE, rows_of)
        return queries.waits.of(rows)

    return [
        f"{f'a page of {PAGE} among {count:,} queued':34} {bench.rate(through('GET', f'{API}/jobs?limit={PAGE}'))}",
        f"  {'directly':32} {bench.rate(direct(page))}",
        f"{'the last of them':34} {bench.rate(through('GET', f'{API}/jobs/{queued}'))}",
        f"  {'directly':32} {bench.rate(direct(lambda client: client.documents([queued])))}",
    ]


def batch_s(url: str) -> float:
    """Return the seconds in which a batch is queued, from jobs that are described already."""
    jobs = [
        Expanded(Row(number, Source.ARRAY, {}), {"image": IMAGE, "command": [COMMAND]}, {})
        for number in range(1, BATCH + 1)
    ]
    with closing(Client(url)) as client:
        begin = time.perf_counter()
        client.submit_batch(jobs)
        return time.perf_counter() - begin


def singles_ms(bench: Bench, count: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of single submissions through the service and to Redis, in turns."""
    took_ms: tuple[list[float], list[float]] = ([], [])
    with closing(Client(bench.gateway.url)) as with_it, closing(Client(bench.beside.url)) as without:
        for _ in range(count + 1):
            for client, values in zip((with_it, without), took_ms, strict=True):
                begin = time.perf_counter()
                client.submit(IMAGE, COMMAND)
                values.append((time.perf_counter() - begin) * 1e3)
    # The first of each imports and connects.
    return took_ms[0][1:], took_ms[1][1:]


def restarts(bench: Bench) -> tuple[int, int]:
    """Return how many requests of forty clients were answered over some restarts, and how many were not."""
    statuses: list[int] = []
    unanswered: list[BaseException] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            try:
                statuses.append(bench.gateway.ask("POST", f"{API}/jobs", {"image": IMAGE})[0])
            except Exception as exc:  # noqa: BLE001  # whatever it is, it is no answer
                unanswered.append(exc)

    clients = [threading.Thread(target=ask) for _ in range(FORTY)]
    for thread in clients:
        thread.start()
    for _ in range(RESTARTS):
        before = len(statuses)
        eventually(lambda: len(statuses) + len(unanswered) > before + 200, ANSWER_S, "answers")  # noqa: B023  # asked at once
        bench.gateway.end()
        bench.gateway.start()
    is_over.set()
    for thread in clients:
        thread.join()
    return sum(status == 201 for status in statuses), len(unanswered) + sum(status != 201 for status in statuses)


def first_answers(bench: Bench, target: str) -> tuple[list[float], list[float]]:
    """Return the milliseconds from each start of the service to the answer of a request that was there before it.

    And those of them that were CPU time of the service.
    """
    took_ms, cpu_ms = [], []
    for _ in range(STARTS):
        bench.gateway.end()
        with closing(asked(bench, f"GET {target} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())) as connection:
            begin = time.perf_counter()
            bench.gateway.start()
            answer_of(connection)
            took_ms.append((time.perf_counter() - begin) * 1e3)
            cpu_ms.append(bench.cpu_s * 1e3)
    return took_ms, cpu_ms


def start_lines(bench: Bench) -> list[str]:
    """Return the lines of first answers."""
    lines = []
    for name, target in (("healthz", f"{API}/healthz"), ("metrics", "/metrics")):
        took_ms, cpu_ms = first_answers(bench, target)
        words = f"first answer of a start: {name}"
        median_ms, fastest_ms, median_cpu_ms = statistics.median(took_ms), min(took_ms), statistics.median(cpu_ms)
        lines.append(f"{words:34} {median_ms:6.0f} ms, fastest {fastest_ms:.0f} ms, CPU {median_cpu_ms:.0f} ms")
    return lines


def report(bench: Bench, rounds: int) -> None:
    """Measure and print."""
    bench.gateway.ask("GET", f"{API}/healthz")
    at_start_mib = bench.rss_mib
    print(*rates(bench), sep="\n")
    asked_mib = bench.rss_mib
    took_s = [(batch_s(bench.gateway.url), batch_s(bench.beside.url)) for _ in range(rounds)]
    with_s, without_s = (statistics.median(values) for values in zip(*took_s, strict=True))
    print(f"{f'a batch of {BATCH:,}, limit 5 s':34} {with_s:6.2f} s   {without_s:.2f} s directly, medians of {rounds}")
    with closing(Client(bench.redis.url)) as client:
        queued = client.submit(IMAGE, COMMAND).id
    print(*page_lines(bench, queued), sep="\n")
    for name in ("one submission, not signed", "one submission, signed"):
        if name.endswith(", signed"):
            # Who submits directly has it too.
            os.environ["CELERY_DOCKER_KEY"] = str(bench.gateway.key)
            KeyFile(str(bench.gateway.key)).write(Keys(b"k" * 32))
        with_ms, without_ms = (statistics.median(values) for values in singles_ms(bench, 200))
        print(f"{name:34} {with_ms - without_ms:6.2f} ms added: {with_ms:.2f} beside {without_ms:.2f} ms directly")
    mib = f"{at_start_mib:.0f} MiB at first, {asked_mib:.0f} after the single requests, {bench.rss_mib:.0f} after all"
    print(f"{'RSS of the service':34} {mib}")
    answered, unanswered = restarts(bench)
    print(f"{FORTY} clients over {RESTARTS} restarts: {answered:,} requests answered, {unanswered} not")
    print(*start_lines(bench), sep="\n")


def main(argv: Sequence[str]) -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--clients", type=int, default=8, help="how many ask at once; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="of the batches; default: %(default)s")
    options = parser.parse_args(argv)
    print(f"{os.cpu_count()} CPUs, load average before it {os.getloadavg()[0]:.1f}: best is 0", file=sys.stderr)
    with servers.RedisServer() as redis, servers.RedisServer() as beside, Gateway(redis.url) as gateway:
        report(Bench(redis, gateway, beside, options.clients, options.seconds), options.rounds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
