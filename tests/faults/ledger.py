"""Counts runs, not results: every job writes `start` and `end` to a file of its own, whoever started it.

After a fault the files say what ran, Redis what was told, Docker what is left; a `Row` is the sum of the three.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from celery import Celery

from celery_docker.client import Client
from celery_docker.jobspec import JobSpec
from tests import services
from tests.integration.worker import Worker
from tests.waiting import eventually

FULL = os.environ.get("CELERY_DOCKER_FAULTS") == "full"
SEED = int(os.environ.get("CELERY_DOCKER_FAULTS_SEED") or random.SystemRandom().randrange(2**32))
SETTLE_S = 600 if FULL else 90
_FINAL = ("SUCCESS", "FAILURE", "REVOKED")
# Lists, sets and hashes in which nothing may be left once every job has ended.
_PASSING = (
    "celery-docker:host:*:jobs",
    "celery-docker:delayed",
    "celery-docker:cancelling",
    "unacked*",
    "celery",
)


@dataclass(frozen=True)
class Row:
    """What a fault came to; `lost`, `doubled` and `orphans` have to be 0."""

    fault: str
    jobs: int
    lost: int
    doubled: int
    orphans: int
    keys: tuple[str, ...]
    recover_s: float
    findings: tuple[str, ...] = field(default=(), compare=False)

    def cells(self) -> tuple[str, ...]:
        return (
            self.fault,
            *map(str, (self.jobs, self.lost, self.doubled, self.orphans, len(self.keys))),
            f"{self.recover_s:.1f}",
        )


HEADINGS = ("fault", "jobs", "lost", "doubled", "orphans", "keys left", "seconds to recover")


@dataclass(frozen=True)
class Entry:
    """A job as it was submitted, and the file that its runs write to."""

    job_id: str
    file: Path

    def lines(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []


class Ledger:
    """Submits jobs, half by our client and half by a plain Celery client, and counts what became of them."""

    def __init__(self, redis: services.RedisServer, dockerd: services.Dockerd, seed: int) -> None:
        self.redis = redis
        self.dockerd = dockerd
        self.random = random.Random(seed)  # noqa: S311  # a test that can be repeated, not a secret
        self.folder = Path(tempfile.mkdtemp(prefix="cdt-faults-", dir="/tmp"))
        self.folder.chmod(0o777)
        self.entries: list[Entry] = []
        self.recovered_s: list[float] = []
        self._client = Client(redis.url)
        self.plain = Celery(broker=redis.url, backend=redis.url, set_as_current=False)
        self._records = redis.client(decode_responses=True)

    def submit(
        self, count: int, least_s: float = 0.0, most_s: float = 2.0, queue: str = "celery", **options: Any
    ) -> None:
        """Queue jobs of random length."""
        for _ in range(count):
            self._submit_one(self.random.uniform(least_s, most_s), queue, options)

    def _submit_one(self, length_s: float, queue: str, options: dict[str, Any]) -> None:
        name = uuid.UUID(int=self.random.getrandbits(128)).hex
        script = f"echo start >> /output/{name}; sleep {length_s:.2f}; echo end >> /output/{name}"
        command = ("sh", "-c", script)
        if len(self.entries) % 2:
            job_id = self._client.submit(
                JobSpec("busybox", command, outputpath=str(self.folder), **options), queue=queue
            ).id
        else:
            kwargs = {"command": command, "outputpath": str(self.folder), **options}
            job_id = self.plain.send_task("tasks.run_docker", args=["busybox"], kwargs=kwargs, queue=queue).id
        self.entries.append(Entry(job_id, self.folder / name))

    def pause(self, least_s: float, most_s: float) -> None:
        """Let a random time pass: the moment of the next fault."""
        time.sleep(self.random.uniform(least_s, most_s))

    def running(self) -> int:
        return sum(entry.lines() == ["start"] for entry in self.entries)

    def started(self) -> int:
        return sum(entry.file.exists() for entry in self.entries)

    def ended(self) -> int:
        """Return how many results are stored."""
        return sum(self.status(entry) in _FINAL for entry in self.entries)

    def status(self, entry: Entry) -> str:
        return str(self.meta(entry).get("status", "PENDING"))

    def meta(self, entry: Entry) -> dict[str, Any]:
        text = self._records.get(f"celery-task-meta-{entry.job_id}")
        meta: dict[str, Any] = json.loads(text) if text else {}
        return meta

    def record(self, entry: Entry) -> dict[str, str]:
        record: Any = self._records.hgetall(f"celery-docker:job:{entry.job_id}")
        return dict(record)

    def receipt(self, entry: Entry) -> dict[str, Any]:
        receipt: dict[str, Any] = json.loads(self.record(entry).get("receipt", "{}"))
        return receipt

    def recover(self) -> None:
        """Wait until one more job has started and one more result is stored; count the time."""
        began = time.monotonic()
        ended, started = (min(count + 1, len(self.entries)) for count in (self.ended(), self.started()))
        with suppress(AssertionError):
            eventually(
                lambda: self.ended() >= ended and self.started() >= started, SETTLE_S, "another start and result"
            )
        self.recovered_s.append(time.monotonic() - began)

    def settle(self, fault: str, worker: Worker, due: Sequence[str] = (), within_s: float = SETTLE_S) -> Row:
        """Wait for the end of everything and return the row; `due`: reasons for which a job has to run again."""
        with suppress(AssertionError):
            eventually(lambda: self.ended() == len(self.entries), within_s, "the end of all jobs")
        with suppress(AssertionError):
            eventually(lambda: not self._keys() and not self.dockerd.containers(), 20, "nothing left")
        lost = [entry for entry in self.entries if self._is_lost(entry)]
        doubled = [entry for entry in self.entries if self._is_doubled(entry, due)]
        orphans, keys = self.dockerd.containers(), self._keys()
        findings = [self._finding("lost", entry, worker) for entry in lost]
        findings += [self._finding("doubled", entry, worker) for entry in doubled]
        findings += [f"orphan {name}\n{_about(worker, name.removeprefix('run-'))}" for name in orphans]
        slowest_s = max(self.recovered_s, default=0.0)
        return Row(fault, len(self.entries), len(lost), len(doubled), len(orphans), keys, slowest_s, tuple(findings))

    def _is_lost(self, entry: Entry) -> bool:
        status, lines = self.status(entry), entry.lines()
        if status == "REVOKED":
            return False
        return status not in _FINAL or lines[-1:] != ["end"]

    def _is_doubled(self, entry: Entry, due: Sequence[str]) -> bool:
        lines = entry.lines()
        earlier = self.receipt(entry).get("attempts", [])[:-1]
        again = sum(any(reason in (one["reason"] or "") for reason in due) for one in earlier)
        return lines.count("start") > 1 + again or lines.count("end") > 1

    def _keys(self) -> tuple[str, ...]:
        return tuple(sorted(key for pattern in _PASSING for key in self._records.scan_iter(pattern, count=1000)))

    def _finding(self, what: str, entry: Entry, worker: Worker) -> str:
        record = {name: value for name, value in self.record(entry).items() if name not in ("message", "spec")}
        meta = {name: value for name, value in self.meta(entry).items() if name not in ("result", "receipt")}
        return (
            f"{what}: {entry.job_id}\n file: {entry.lines()}\n record: {record}\n result: {meta}\n"
            f"{_about(worker, entry.job_id)}"
        )

    def close(self) -> None:
        self._client.close()
        self.plain.close()
        self._records.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _about(worker: Worker, job_id: str) -> str:
    return "\n".join(f"  {line}" for line in worker.log.splitlines() if job_id in line)


def table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of a table in Markdown."""
    cells = [HEADINGS, tuple("---" for _ in HEADINGS), *(row.cells() for row in rows)]
    return [f"| {' | '.join(line)} |" for line in cells]
