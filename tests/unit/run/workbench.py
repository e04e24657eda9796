"""One host with Docker and Redis in memory and log files in a temporary folder, as the tests of the runner need it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from celery_docker import errors
from celery_docker.core import message, settings
from celery_docker.core.container import LABEL_ATTEMPT, LABEL_HOST, LABEL_JOB, Status
from celery_docker.core.output import Beginning, Chunk, Piece, Reply
from celery_docker.core.plan import ContainerPlan
from celery_docker.core.policy import Policy
from celery_docker.host.keyfile import KeyFile
from celery_docker.run.attempt import Attempts
from celery_docker.run.broadcast import Broadcast
from celery_docker.run.job import Delivery, Job
from celery_docker.run.retrying import Retrying
from celery_docker.run.runner import Ended, LetGo, Runner
from tests.fakes.engine import FakeEngine, Script, says
from tests.fakes.opener import FakeOpener, OwnKeeper
from tests.fakes.records import FakeRecords

T = TypeVar("T")
HOST, OTHER = "node1", "node2"
JOB, NAME = "j1", "run-j1"
OK = says(b"hello\n", b"warning\n")
FAILING = says(b"almost\n", exit_code=3)
LONG = replace(OK, until_released=True)
LATE = 1e12


@dataclass
class Announcements:
    """The states of a job that a client saw before its end."""

    metas: list[Mapping[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def started(self, meta: Mapping[str, Any]) -> None:
        self.metas.append(meta)

    def retrying(self, reason: str) -> None:
        self.reasons.append(reason)


class Watched:
    """The output that those who watch a job get; `failure` is raised instead."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.failure: Exception | None = None

    def beginning(self, job_id: str, attempt: int) -> Beginning:
        return Beginning({}, {})

    def readers(self) -> Mapping[str, Mapping[str, str]]:
        return {}

    def append(self, chunks: Sequence[Chunk]) -> list[Reply]:
        if self.failure is not None:
            raise self.failure
        self.pieces += [piece for chunk in chunks for piece in chunk.pieces]
        return [Reply({}) for _ in chunks]


@dataclass
class Bench:
    """One host, with everything around its runner within reach."""

    folder: Path
    engine: FakeEngine
    records: FakeRecords
    runner: Runner
    keeper: OwnKeeper
    watched: Watched
    opener: FakeOpener
    announced: Announcements = field(default_factory=Announcements)
    sleeps: list[float] = field(default_factory=list)
    faults: list[errors.HostError] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def delivery(self, job_id: str = JOB, **kwargs: Any) -> Delivery:
        document = {"image": "busybox", "logoutfile": str(self.log), **kwargs}
        envelope = message.task_message(job_id, document, queue="celery", tag="t1", origin="1@here")
        return Delivery(job_id, (), document, "celery", envelope)

    def claimed(self, **kwargs: Any) -> Job:
        job = self.runner.claim(self.delivery(**kwargs))
        assert job is not None
        return job

    def run(self, **kwargs: Any) -> Ended | LetGo:
        """Take a job through everything that a slot does; only Celery's result is left out."""
        job = self.claimed(**kwargs)
        end = self.runner.run(job, self.announced)
        self.runner.done(job, settled=isinstance(end, Ended))
        return end

    def ended(self, **kwargs: Any) -> Ended:
        end = self.run(**kwargs)
        assert isinstance(end, Ended), end
        return end

    def retried(self, **kwargs: Any) -> Ended:
        """Run a job until it ends, whatever it waits for; the waiting itself is left out."""
        while isinstance(end := self.run(**kwargs), LetGo):
            assert self.records.publish_due(LATE) == 1
        return end

    def next_process(self) -> Runner:
        """Return the runner of a worker that was started anew on this host."""
        old = self.runner
        return Runner(old.attempts, old.records, old.settings, old.host, old.retrying)

    def container(self, attempt: str | None = "1", *, started: bool = True, job: str | None = JOB) -> str:
        """Make the container that an earlier process, or somebody else, left behind; return its id."""
        labels = {LABEL_HOST: HOST, LABEL_ATTEMPT: attempt, LABEL_JOB: job}
        body = {"Image": "busybox:latest", "Labels": {key: value for key, value in labels.items() if value is not None}}
        container_id = self.engine.create(ContainerPlan(NAME, body))
        if started:
            self.engine.start(container_id)
        return container_id

    def nothing_is_left(self) -> bool:
        """Say whether the job is over for this host: no container, no note, no pin, no slot."""
        notes = list(self.keeper.state_dir.glob("*")) if self.keeper.state_dir.exists() else []
        return not (
            self.engine.names() or notes or self.opener.pinned or self.runner.jobs() or self.records.in_hand.get(HOST)
        )


def make_bench(folder: Path, script: Script = OK, **environ: str) -> Bench:
    engine, records = FakeEngine({"busybox:latest": script}), FakeRecords()
    keeper, sleeps, faults = OwnKeeper(folder / "state"), list[float](), list[errors.HostError]()
    watched, opener = Watched(), FakeOpener()
    configured = settings.parse({settings.PREFIX + name.upper(): value for name, value in environ.items()})
    attempts = Attempts(
        engine=engine,
        records=records,
        logs=keeper,
        policy=Policy(mounts=(str(folder),)),
        key_file=KeyFile(str(folder / "key")),
        docker_host=configured.docker_host,
        host=HOST,
        boot_id="boot1",
        retrying=Retrying(sleeps.append, faults.append),
        broadcast=Broadcast(watched, HOST),
        opener=opener,
    )
    runner = Runner(attempts, records, configured, HOST, attempts.retrying)
    return Bench(folder, engine, records, runner, keeper, watched, opener, sleeps=sleeps, faults=faults)


class Background(threading.Thread):
    """A call in a thread of its own, which cannot keep the tests from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._answers: list[Any] = []
        self.start()

    def run(self) -> None:
        self._answers.append(self._call())

    def answer(self) -> Any:
        self.join(10)
        assert self._answers, "it did not come back"
        return self._answers[0]


def container_status(bench: Bench) -> Status | None:
    state = bench.engine.inspect(NAME)
    return state.status if state else None
