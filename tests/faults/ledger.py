"""Counts runs, not results: every job writes `start` and `end` to a file of its own, whoever started it.

After a fault the files say what ran, Redis what was told, Docker what is left; a `Row` is the sum of the three.
"""

from __future__ import annotations

import json
import os
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from types import TracebackType
from typing import Any, Protocol, Self

import redis
from celery import Celery

from celery_docker.client.client import Client
from celery_docker.store import keys
from tests.faults.counting import FINAL, Seen, count
from tests.waiting import eventually

FULL = os.environ.get("CELERY_DOCKER_FAULTS") == "full"
SEED = int(os.environ.get("CELERY_DOCKER_FAULTS_SEED") or random.SystemRandom().randrange(2**32))
SETTLE_S = 600 if FULL else 150
# The body of a job that runs until `Ledger.let_go`.
HELD = "until [ -e /output/go ]; do sleep 0.05; done"
# How soon after the start of a worker a container that ran without one has to be in a slot again.
ADOPTION_S = 5.0
# Lists, sets and hashes in which nothing may be left once every job has ended.
_PASSING = (
    "celery-docker:host:*:jobs",
    "celery-docker:host:*:taken:*",
    "celery-docker:waiting",
    "celery-docker:expiring",
    "celery-docker:delayed",
    "celery-docker:cancelling",
    "celery-docker:parked*",
    "celery-docker:share:*",
    "unacked*",
    "celery",
)


class Docker(Protocol):
    """The questions to each Docker: the names of its containers."""

    def containers(self) -> list[str]: ...
    def running(self) -> list[str]: ...


class Host(Protocol):
    """The questions to each worker: its log, and the paths that are pinned for its jobs."""

    @property
    def log(self) -> str: ...
    @property
    def pins(self) -> list[str]: ...


@dataclass(frozen=True)
class Row:
    """The outcome of a fault; `lost`, `doubled`, `orphans` and `late` have to be 0, and no keys left.

    `repeated` counts the jobs whose first end nobody could have seen, and which therefore ran again.
    `recover_s` is the slowest recovery after a fault, `adoption_s` the slowest adoption, if measured.
    """

    fault: str
    jobs: int
    lost: int
    doubled: int
    repeated: int
    orphans: int
    keys: tuple[str, ...]
    late: int
    recover_s: float | None
    adoption_s: float | None
    findings: tuple[str, ...] = field(default=(), compare=False)

    def cells(self) -> tuple[str, ...]:
        return (
            self.fault,
            *map(str, (self.jobs, self.lost, self.doubled, self.repeated, self.orphans, len(self.keys), self.late)),
            *("-" if seconds is None else f"{seconds:.1f}" for seconds in (self.recover_s, self.adoption_s)),
        )


HEADINGS = (
    *("fault", "jobs", "lost", "doubled", "ended unseen", "orphans", "keys left", "adopted late"),
    *("seconds to recover", "slowest adoption"),
)


@dataclass(frozen=True)
class Entry:
    """A job as it was submitted, and the file that its runs write to."""

    job_id: str
    file: Path
    ends: bool = True

    def lines(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []


@dataclass(frozen=True)
class Unattended:
    """The containers that ran while no worker did, and how much each worker had logged by then."""

    job_ids: tuple[str, ...]
    log_starts: tuple[int, ...]


class Ledger:
    """Submits jobs, half by our client and half by a plain Celery client, and counts what became of them.

    `output` is the folder of the jobs' files as the workers' hosts name it; `folder` is the same as seen from here.
    """

    def __init__(
        self,
        redis_url: str,
        dockers: Sequence[Docker],
        workers: Sequence[Host],
        *,
        output: str,
        folder: Path,
        seed: int,
    ) -> None:
        self.dockers = dockers
        self.workers = workers
        self.output = output
        self.folder = folder
        self.random = random.Random(seed)  # noqa: S311  # a test that can be repeated, not a secret
        self.entries: list[Entry] = []
        self._go = folder / "go"
        self._recovered_s: list[float] = []
        self._adopted_s: list[float] = []
        self._late: list[str] = []
        self._client = Client(redis_url)
        self.plain = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
        self._records = redis.Redis.from_url(redis_url, decode_responses=True, socket_timeout=5)

    def submit(
        self, number: int, least_s: float = 0.0, most_s: float = 2.0, queue: str = "celery", **options: Any
    ) -> None:
        """Queue jobs of random length."""
        for _ in range(number):
            self.add(f"sleep {self.random.uniform(least_s, most_s):.2f}", queue, **options)

    def add(
        self,
        body: str,
        queue: str = "celery",
        *,
        image: str = "busybox",
        ends: bool = True,
        countdown_s: float | None = None,
        **options: Any,
    ) -> Entry:
        """Queue one job that runs `body`, in which $F is its own file; `ends` False: it is not to end well.

        One with a countdown comes from the plain client, since ours has none.
        """
        name = uuid.uuid4().hex
        command = _command(name, body)
        if len(self.entries) % 2 and countdown_s is None:
            job_id = self._client.submit(image, command, outputpath=self.output, queue=queue, **options).id
        else:
            kwargs = {"command": command, "outputpath": self.output, **options}
            job_id = self.plain.send_task(
                "tasks.run_docker", args=[image], kwargs=kwargs, queue=queue, countdown=countdown_s
            ).id
        entry = Entry(job_id, self.folder / name, ends)
        self.entries.append(entry)
        return entry

    def planned(self, body: str, *, ends: bool = True) -> tuple[Entry, dict[str, Any]]:
        """Return a job that the test submits under this id, and its job document."""
        name = uuid.uuid4().hex
        entry = Entry(str(uuid.uuid4()), self.folder / name, ends)
        self.entries.append(entry)
        return entry, {"image": "busybox", "command": list(_command(name, body)), "outputpath": self.output}

    @contextmanager
    def stream(self, number: int, most_s: float, over_s: float) -> Iterator[None]:
        """Submit jobs one by one, in the background, over some seconds."""

        def submit() -> None:
            for _ in range(number):
                self.submit(1, 0, most_s)
                self.pause(0, 2 * over_s / number)

        thread = Thread(target=submit, daemon=True)
        thread.start()
        yield
        thread.join(timeout=60)
        assert not thread.is_alive()

    def hold(self) -> None:
        """Have the jobs with the body HELD that start from now on wait for `let_go`."""
        self._go.unlink(missing_ok=True)

    def let_go(self) -> None:
        self._go.touch()

    def pause(self, least_s: float, most_s: float) -> None:
        """Let a random time pass: the moment of the next fault."""
        time.sleep(self.random.uniform(least_s, most_s))

    def under_load(self, least: int = 2) -> None:
        """Wait until some jobs run."""
        eventually(lambda: self.running() >= least, 60, f"{least} jobs to run")

    def cancel(self, entry: Entry) -> None:
        self._client.cancel(entry.job_id)

    def waiting(self) -> set[str]:
        """Return the messages that are in the queue."""
        messages: Any = self._records.lrange("celery", 0, -1)
        return set(messages)

    def parked(self) -> int:
        """Return how many jobs wait for room."""
        groups: Any = self._records.smembers(keys.PARKED)
        return sum(int(self._records.zcard(f"{keys.PARKED_GROUP}{group}")) for group in groups)

    def running(self) -> int:
        return sum(entry.lines()[-1:] == ["start"] for entry in self.entries)

    def started(self) -> int:
        return sum(entry.file.exists() for entry in self.entries)

    def ended(self) -> int:
        """Return how many results are stored."""
        return sum(self.status(entry) in FINAL for entry in self.entries)

    def status(self, entry: Entry) -> str:
        return str(self.meta(entry).get("status", "PENDING"))

    def meta(self, entry: Entry) -> dict[str, Any]:
        text = self._records.get(f"celery-task-meta-{entry.job_id}")
        meta: dict[str, Any] = json.loads(text) if isinstance(text, str) else {}
        return meta

    def record(self, entry: Entry) -> dict[str, str]:
        record: Any = self._records.hgetall(f"celery-docker:job:{entry.job_id}")
        return dict(record)

    def receipt(self, entry: Entry) -> dict[str, Any]:
        receipt: dict[str, Any] = json.loads(self.record(entry).get("receipt", "{}"))
        return receipt

    def recover(self) -> None:
        """Wait until one more job has started and one more result is stored, or nothing is left; count the time."""
        ended, started = self.ended(), self.started()

        def goes_on() -> bool:
            now = self.ended()
            return now == len(self.entries) or (now > ended and self.started() > min(started, len(self.entries) - 1))

        self.recover_to(goes_on)

    def recover_to(self, is_well: Callable[[], bool]) -> None:
        """Wait until a row's own condition holds; count the time."""
        began = time.monotonic()
        with suppress(AssertionError):
            eventually(is_well, SETTLE_S, "recovery")
        self._recovered_s.append(time.monotonic() - began)

    def unattended(self) -> Unattended:
        """Return what runs now that no worker does."""
        job_ids = tuple(name.removeprefix("run-") for docker in self.dockers for name in docker.running())
        return Unattended(job_ids, tuple(len(worker.log) for worker in self.workers))

    def adopted(self, unattended: Unattended, since_s: float | None = None) -> None:
        """Wait until what was left is in a slot again; count from `since_s` of the monotonic clock, or from now."""
        began = time.monotonic() if since_s is None else since_s
        late = set(unattended.job_ids)

        def all_adopted() -> bool:
            late.difference_update([job_id for job_id in late if self._is_adopted(job_id, unattended.log_starts)])
            return not late

        with suppress(AssertionError):
            eventually(all_adopted, max(0.0, began + ADOPTION_S - time.monotonic()), "adoption")
        self._adopted_s.append(time.monotonic() - began)
        self._late += late

    def _is_adopted(self, job_id: str, log_starts: Sequence[int]) -> bool:
        lines = [
            line
            for worker, start in zip(self.workers, log_starts, strict=True)
            for line in worker.log[start:].split("\n")
        ]
        if any(job_id in line and "taken over" in line for line in lines):
            return True
        return any(entry.job_id == job_id and self.status(entry) in FINAL for entry in self.entries)

    def settle(
        self, fault: str, due: Sequence[str] = (), unseen: Sequence[str] = (), within_s: float = SETTLE_S
    ) -> Row:
        """Wait for the end of everything and return the row; `due` and `unseen` are those of `count`."""
        with suppress(AssertionError):
            eventually(self._is_over, within_s, "the end of all jobs")
        left = [*self._containers(), *self._pins()]
        outcome = count([self._seen(entry) for entry in self.entries], left, due, unseen)
        findings = [self._finding("lost", job_id) for job_id in outcome.lost]
        findings += [self._finding("doubled", job_id) for job_id in outcome.doubled]
        findings += [f"orphan {name}\n{self._about(name.removeprefix('run-'))}" for name in outcome.orphans]
        findings += [self._finding(f"not taken over within {ADOPTION_S:g} s", job_id) for job_id in self._late]
        return Row(
            fault,
            *(len(self.entries), len(outcome.lost), len(outcome.doubled), len(outcome.repeated), len(outcome.orphans)),
            keys=self._keys(),
            late=len(self._late),
            recover_s=max(self._recovered_s, default=None),
            adoption_s=max(self._adopted_s, default=None),
            findings=tuple(findings),
        )

    def _is_over(self) -> bool:
        return self.ended() == len(self.entries) and not (self._keys() or self._containers() or self._pins())

    def _seen(self, entry: Entry) -> Seen:
        return Seen(entry.job_id, tuple(entry.lines()), self.status(entry), self.receipt(entry), entry.ends)

    def _containers(self) -> list[str]:
        return [name for docker in self.dockers for name in docker.containers()]

    def _pins(self) -> list[str]:
        return [f"pin {place}" for worker in self.workers for place in worker.pins]

    def _keys(self) -> tuple[str, ...]:
        return tuple(sorted(key for pattern in _PASSING for key in self._records.scan_iter(pattern, count=1000)))

    def _finding(self, verdict: str, job_id: str) -> str:
        entry = next((entry for entry in self.entries if entry.job_id == job_id), Entry(job_id, self.folder / "none"))
        record = {name: value for name, value in self.record(entry).items() if name not in ("message", "spec")}
        meta = {name: value for name, value in self.meta(entry).items() if name not in ("result", "receipt")}
        return f"{verdict}: {job_id}\n file: {entry.lines()}\n record: {record}\n result: {meta}\n{self._about(job_id)}"

    def _about(self, job_id: str) -> str:
        lines = (line for worker in self.workers for line in worker.log.splitlines())
        return "\n".join(f"  {line}" for line in lines if job_id in line)

    def close(self) -> None:
        self._client.close()
        self.plain.close()
        self._records.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _command(name: str, body: str) -> tuple[str, ...]:
    return ("sh", "-c", f"F=/output/{name}; echo start >>$F; {body}; echo end >>$F")


def in_words(times: int) -> str:
    """Return how often a fault was made, for the name of its row."""
    return "once" if times == 1 else f"{times} times"


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of a table in Markdown."""
    cells = [HEADINGS, tuple("---" for _ in HEADINGS), *(row.cells() for row in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]
