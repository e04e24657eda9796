"""One job from its claim to its receipt, with Docker and Redis in memory and log files in a temporary folder."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from celery_docker import errors, keys, logfiles, message, settings
from celery_docker.attempt import Attempts
from celery_docker.broadcast import Broadcast
from celery_docker.container import LABEL_ATTEMPT, LABEL_BOOT, LABEL_HOST, LABEL_JOB, Frame, Status, Stream
from celery_docker.job import Delivery, Job
from celery_docker.lifecycle import Cause, State, Tally
from celery_docker.livelog import Told
from celery_docker.output import Piece
from celery_docker.patience import Patience
from celery_docker.plan import ContainerPlan
from celery_docker.policy import Limits, Policy
from celery_docker.runner import Ended, LetGo, Runner
from celery_docker.store import Claim, Verdict
from tests.fakes import FakeEngine, Script, says
from tests.fakes_records import FakeRecords
from tests.waiting import eventually

T = TypeVar("T")
HOST, OTHER = "node1", "node2"
JOB, NAME = "j1", "run-j1"
OK = says(b"hello\n", b"warning\n")
FAILING = says(b"almost\n", exit_code=3)
LONG = replace(OK, until_released=True)
LATE = 1e12


@dataclass
class Announcements:
    """What a client saw of a job before its end."""

    metas: list[Mapping[str, Any]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def started(self, meta: Mapping[str, Any]) -> None:
        self.metas.append(meta)

    def retrying(self, reason: str) -> None:
        self.reasons.append(reason)


class Watched:
    """What those who watch a job are told; `failure` is raised instead."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.failure: Exception | None = None

    def append(self, told: Sequence[Told]) -> None:
        if self.failure is not None:
            raise self.failure
        self.pieces += [piece for one in told for piece in one.pieces]


@dataclass
class Bench:
    """One host, with everything around its runner within reach."""

    folder: Path
    engine: FakeEngine
    records: FakeRecords
    runner: Runner
    keeper: logfiles.LogKeeper
    watched: Watched
    announced: Announcements = field(default_factory=Announcements)
    sleeps: list[float] = field(default_factory=list)
    faults: list[errors.HostError] = field(default_factory=list)

    @property
    def log(self) -> Path:
        return self.folder / "job.log"

    def delivery(self, job_id: str = JOB, **kwargs: Any) -> Delivery:
        wanted = {"image": "busybox", "logoutfile": str(self.log), **kwargs}
        envelope = message.task_message(job_id, wanted, queue="celery", tag="t1", origin="1@here")
        return Delivery(job_id, (), wanted, "celery", envelope)

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
        return Runner(old.attempts, old.records, old.settings, old.host, old.patience)

    def container(self, attempt: str | None = "1", *, started: bool = True, job: str | None = JOB) -> str:
        """Make the container that an earlier process, or somebody else, left behind; return its id."""
        labels = {LABEL_HOST: HOST, LABEL_ATTEMPT: attempt, LABEL_JOB: job}
        body = {"Image": "busybox:latest", "Labels": {key: value for key, value in labels.items() if value is not None}}
        container_id = self.engine.create(ContainerPlan(NAME, body))
        if started:
            self.engine.start(container_id)
        return container_id

    def nothing_is_left(self) -> bool:
        """Say whether the job is over for this host: no container, no note, no slot."""
        notes = list(self.keeper.state_dir.glob("*")) if self.keeper.state_dir.exists() else []
        return not (self.engine.names() or notes or self.runner.jobs() or self.records.in_hand.get(HOST))


def make_bench(folder: Path, script: Script = OK, **environ: str) -> Bench:
    engine, records = FakeEngine({"busybox:latest": script}), FakeRecords()
    keeper, sleeps, faults = logfiles.LogKeeper(folder / "state"), list[float](), list[errors.HostError]()
    watched = Watched()
    chosen = settings.parse({settings.PREFIX + name.upper(): value for name, value in environ.items()})
    attempts = Attempts(
        engine=engine,
        records=records,
        logs=keeper,
        rules=Policy(mounts=(str(folder),)),
        docker_host=chosen.docker_host,
        host=HOST,
        boot_id="boot1",
        patience=Patience(sleeps.append, faults.append),
        broadcast=Broadcast(watched, HOST),
    )
    made = Runner(attempts, records, chosen, HOST, attempts.patience)
    return Bench(folder, engine, records, made, keeper, watched, sleeps=sleeps, faults=faults)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path.resolve())


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


# The host's faults


@pytest.mark.parametrize("fault", [errors.EngineAway("Docker is away"), errors.NoSpace("no space left on device")])
def test_a_fault_of_the_host_is_heard(bench: Bench, fault: errors.HostError) -> None:
    """Whoever watches the host's health decides whether it takes more jobs."""
    bench.engine.failures["create"] = [fault]
    assert isinstance(bench.run(), LetGo)
    assert bench.faults == [fault]


@pytest.mark.parametrize("kwargs", [{"image": "nobody/has:it"}, {"user": 3.5}, {}])
def test_other_ends_are_not_the_host_s_fault(bench: Bench, kwargs: dict[str, Any]) -> None:
    bench.run(**kwargs)
    assert bench.faults == []


# Success


def test_a_job_that_succeeds(bench: Bench) -> None:
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.sentence.startswith("succeeded: in ")
    told = end.receipt
    assert (told["id"], told["state"], told["exit_code"], told["host"]) == (JOB, "succeeded", 0, HOST)
    assert (told["stdout_bytes"], told["stderr_bytes"], told["output"]) == (6, 8, "hello\nwarning\n")
    assert told["image_digest"] == "sha256:busybox:latest"
    assert told["pull_s"] is None
    assert [entry["attempt"] for entry in told["attempts"]] == [1]
    assert bench.log.read_text() == "hello\nwarning\n"
    assert bench.nothing_is_left()


def test_a_client_sees_where_it_runs(bench: Bench) -> None:
    told = bench.ended().receipt
    assert bench.announced.metas == [{"host": HOST, "container": told["container_id"], "attempt": 1}]


def test_streams_are_attached_before_the_start(bench: Bench) -> None:
    """Attached afterwards, the output of a short job is lost."""
    bench.run()
    assert bench.engine.calls.index("attach") < bench.engine.calls.index("start")


def test_the_record_says_running_before_the_container_runs(bench: Bench) -> None:
    states: list[str] = []
    original = bench.engine.start

    def start(container_id: str) -> None:
        states.append(bench.records.jobs[JOB]["state"])
        original(container_id)

    bench.engine.start = start  # type: ignore[method-assign]
    bench.run()
    assert states == ["running"]


def test_record_then_result_then_container(bench: Bench) -> None:
    """Whoever dies in between leaves the evidence behind."""
    job = bench.claimed()
    end = bench.runner.run(job, bench.announced)
    assert isinstance(end, Ended)
    assert bench.records.record(JOB)["state"] == "succeeded"
    assert bench.engine.names() == [NAME], "Celery's result is not stored yet"
    assert bench.records.expiry == {}
    assert bench.runner.jobs() == [job]
    bench.runner.done(job, settled=True)
    assert bench.engine.names() == []
    assert bench.records.expiry == {JOB: 384 * 3600}
    assert bench.nothing_is_left()


def test_a_missing_image_is_pulled(bench: Bench) -> None:
    bench.engine.registry = {"tool:1": OK}
    end = bench.ended(image="tool:1")
    assert end.state is State.SUCCEEDED
    assert end.receipt["pull_s"] is not None
    assert bench.engine.calls.count("pull") == 1


def test_an_image_that_is_there_is_not_pulled(bench: Bench) -> None:
    bench.run()
    assert "pull" not in bench.engine.calls


def test_pull_always_pulls_an_image_that_is_there(bench: Bench) -> None:
    """What runs then is what was pulled."""
    bench.engine.registry = {"busybox:latest": says(b"newer\n")}
    end = bench.ended(pull="always")
    assert bench.engine.calls.count("pull") == 1
    assert end.receipt["output"] == "newer\n"
    assert end.receipt["pull_s"] is not None


def test_pull_never_takes_an_image_that_is_there(bench: Bench) -> None:
    assert bench.ended(pull="never").state is State.SUCCEEDED
    assert "pull" not in bench.engine.calls


@pytest.mark.parametrize(
    ("asked", "ceiling", "expected"),
    [
        (512 * 2**20, None, "out of memory: limit 512m, raise it with -m"),
        (512 * 2**20, 2**31, "out of memory: limit 512m, raise it with -m"),
        (None, 2**31, "out of memory: limit 2g, set by this host's policy"),
        (None, None, "out of memory: the host had no memory left"),
    ],
)
def test_out_of_memory_is_told_with_the_limit(
    tmp_path: Path, asked: int | None, ceiling: int | None, expected: str
) -> None:
    bench = make_bench(tmp_path, Script(exit_code=137, oom_killed=True))
    bench.runner.attempts.rules = Policy(limits=Limits(memory_bytes=ceiling))
    told = bench.ended(retries=0, logoutfile=None, memory=asked).receipt
    assert (told["oom_killed"], told["signal"], told["state"]) == (True, 9, "failed")
    assert told["reason"] == expected


# Failure and retry


def test_a_failure_is_tried_again_and_holds_no_slot_meanwhile(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    before = time.time()
    end = bench.run()
    assert end == LetGo("attempt 1: exit code 3; again in 10 s")
    assert bench.announced.reasons == ["attempt 1: exit code 3; again in 10 s"]
    assert bench.nothing_is_left()
    assert bench.records.record(JOB)["state"] == "queued"
    assert before + 10 <= bench.records.delayed[JOB] <= time.time() + 10
    assert bench.sleeps == []


def test_failure_then_success(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    assert isinstance(bench.run(), LetGo)
    bench.engine.images["busybox:latest"] = OK
    bench.records.publish_due(LATE)
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert [(entry["attempt"], entry["exit_code"]) for entry in end.receipt["attempts"]] == [(1, 3), (2, 0)]
    assert end.receipt["output"] == "hello\nwarning\n", "of the last attempt"
    assert bench.log.read_text() == "almost\nhello\nwarning\n", "of both"
    assert bench.nothing_is_left()


def test_the_message_goes_back_to_its_queue_under_a_new_tag(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.run()
    bench.records.publish_due(LATE)
    (published,) = bench.records.queues["celery"]
    assert '"delivery_tag": "t1"' not in published
    assert '"id": "j1"' in published


def test_with_the_default_settings_a_failing_job_runs_four_times(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    end = bench.retried()
    assert end.state is State.FAILED
    assert end.sentence == "failed: exit code 3 (host node1, attempt 4)"
    assert [entry["exit_code"] for entry in end.receipt["attempts"]] == [3, 3, 3, 3]
    assert bench.log.read_text() == "almost\n" * 4
    assert bench.nothing_is_left()


@pytest.mark.parametrize(
    ("environ", "kwargs", "runs"),
    [
        ({"max_retries": "1"}, {}, 2),
        ({"max_retries": "0"}, {}, 1),
        ({"max_retries": "1"}, {"retries": 2}, 3),
        ({}, {"retries": 0}, 1),
        ({}, {"retry_on": [75]}, 1),
        ({}, {"retry_on": [3]}, 4),
    ],
    ids=str,
)
def test_how_often(tmp_path: Path, environ: dict[str, str], kwargs: dict[str, Any], runs: int) -> None:
    """The worker's setting, unless the job says otherwise."""
    assert len(make_bench(tmp_path, FAILING, **environ).retried(**kwargs).receipt["attempts"]) == runs


def test_the_record_is_given_back_before_the_container_goes(tmp_path: Path) -> None:
    """The other way round, whoever dies in between runs the attempt twice."""
    bench = make_bench(tmp_path, FAILING)
    states: list[str] = []
    original = bench.engine.remove

    def remove(container_id: str) -> None:
        states.append(bench.records.jobs[JOB]["state"])
        original(container_id)

    bench.engine.remove = remove  # type: ignore[method-assign]
    bench.run()
    assert states == ["queued"]


def test_a_retry_that_is_due_before_its_slot_is_free_is_not_lost(tmp_path: Path) -> None:
    """Docker takes long to remove the container, and the message of the next attempt comes back to this host."""
    bench = make_bench(tmp_path, FAILING, retry_delay="0")
    original = bench.engine.remove
    claims: list[Background] = []

    def slow_remove(container_id: str) -> None:
        if not claims:
            assert bench.records.publish_due(LATE) == 1
            claims.append(Background(lambda: bench.runner.claim(bench.delivery())))
            claims[0].join(0.2)
        original(container_id)

    bench.engine.remove = slow_remove  # type: ignore[method-assign]
    assert isinstance(bench.run(), LetGo)
    job = claims[0].answer()
    assert job is not None, "its message was dropped as a second delivery; nobody will ever run it"
    assert job.attempt.number == 2


# The host's fault


@pytest.mark.parametrize(
    ("call", "failure"),
    [
        ("create", errors.EngineAway()),
        ("create", errors.HostError("no space left on device")),
        ("create", errors.EngineDenied()),
        ("attach", errors.EngineAway()),
        ("start", errors.HostError("cgroups: cannot make one")),
        ("start", errors.EngineAway()),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_fault_of_the_host_leaves_the_jobs_budget_alone(bench: Bench, call: str, failure: Exception) -> None:
    bench.engine.failures[call] = [failure]
    assert bench.run(retries=0) == LetGo(f"attempt 1: {failure}; again in 10 s")
    assert bench.nothing_is_left()
    record = bench.records.record(JOB)
    assert (record["exits"], record["host_faults"]) == ("0", "1")
    bench.records.publish_due(LATE)
    assert bench.ended(retries=0).state is State.SUCCEEDED


def test_a_registry_that_is_down_is_tried_again(bench: Bench) -> None:
    bench.engine.registry = {"tool:1": OK}
    bench.engine.failures["pull"] = [errors.HostError("image 'tool:1' cannot be pulled now: connection refused")]
    end = bench.retried(image="tool:1", retries=0)
    assert end.state is State.SUCCEEDED
    assert len(end.receipt["attempts"]) == 2


def test_a_host_that_stays_ill_gives_up(bench: Bench) -> None:
    bench.engine.failures["create"] = [errors.EngineAway() for _ in range(20)]
    end = bench.retried()
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "Docker does not answer"
    assert len(end.receipt["attempts"]) == 11


def test_a_start_whose_answer_was_lost_is_looked_up(bench: Bench) -> None:
    """Docker heard it all the same: the job runs once."""
    original = bench.engine.start

    def start(container_id: str) -> None:
        original(container_id)
        raise errors.EngineAway

    bench.engine.start = start  # type: ignore[method-assign]
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert len(end.receipt["attempts"]) == 1
    assert bench.engine.calls.count("create") == 1


def test_an_engine_that_is_away_after_the_end_is_asked_until_it_answers(bench: Bench) -> None:
    """The container ended; only how is not known yet."""
    bench.engine.failures["inspect"] = [errors.EngineAway() for _ in range(8)]
    bench.engine.failures["digest"] = [errors.EngineAway()]
    assert bench.ended().state is State.SUCCEEDED
    assert bench.sleeps == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0, 0.1]
    assert len(bench.faults) == 9, "the host is looked at, and takes no more jobs for now"


@pytest.mark.parametrize("exit_code", [1, 130, 143])
def test_a_container_that_docker_takes_along_is_no_failure_of_the_job(tmp_path: Path, exit_code: int) -> None:
    """A Docker that goes down stops its containers, which may answer to that as they like, and tells to the last."""
    bench = make_bench(tmp_path, Script(exit_code=exit_code))
    bench.engine.going_down = True
    end = bench.run(retries=0)
    assert isinstance(end, LetGo)
    assert "went down under it" in end.sentence


def test_a_container_that_ended_well_while_docker_goes_down_is_done(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, OK)
    bench.engine.going_down = True
    assert bench.ended().state is State.SUCCEEDED


def test_a_container_that_failed_while_a_docker_that_spares_containers_goes_down_is_retried(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, Script(exit_code=3))
    bench.engine.going_down = bench.engine.live_restore = True
    assert bench.run() == LetGo("attempt 1: exit code 3; again in 10 s")


def test_a_container_that_docker_took_along_before_it_was_started_again_is_no_failure_of_the_job(
    tmp_path: Path,
) -> None:
    """Where systemd holds Docker's socket, nobody is refused in between: the next Docker answers as if nothing was."""
    bench = make_bench(tmp_path, Script(exit_code=143, until_released=True))
    slot = Background(lambda: bench.run(retries=0))
    eventually(lambda: "start" in bench.engine.calls and _status(bench) is Status.RUNNING)
    bench.engine.lives += 1
    bench.engine.release(f"run-{JOB}")
    end = slot.answer()
    assert isinstance(end, LetGo)
    assert "went down under it" in end.sentence


@pytest.mark.parametrize(
    ("live_restore", "boot", "state"),
    [(True, "boot1", State.ERROR), (True, "boot2", None), (False, "boot1", None)],
    ids=["spared", "booted since", "Docker ends its containers"],
)
def test_a_container_that_ended_by_itself_while_docker_was_away_does_not_run_again(
    tmp_path: Path, live_restore: bool, boot: str, state: State | None
) -> None:
    """Where nothing else can have ended it, it has run to its end, well or not."""
    bench = make_bench(tmp_path, Script(exit_code=255, until_released=True))
    bench.engine.live_restore = live_restore
    slot = Background(lambda: bench.run(retries=0))
    eventually(lambda: "start" in bench.engine.calls and _status(bench) is Status.RUNNING)
    bench.runner.attempts.boot_id = boot
    bench.engine.lives += 1
    bench.engine.release(f"run-{JOB}")
    end = slot.answer()
    if state is None:
        assert isinstance(end, LetGo)
        assert "went down under it" in end.sentence
    else:
        assert isinstance(end, Ended)
        assert (end.state, end.receipt["exit_code"]) == (state, None)
        assert "was away, and nobody knows how" in end.sentence


def test_a_container_is_removed_even_if_docker_is_away_at_first(bench: Bench) -> None:
    """Nobody would ever look for it again: its job is over."""
    bench.engine.failures["remove"] = [errors.EngineAway()]
    bench.ended()
    assert bench.engine.names() == []


def test_a_mistake_of_ours_ends_the_job_and_not_only_its_slot(bench: Bench) -> None:
    """Whatever nobody thought of: the record must not say `running` for ever."""
    bench.engine.failures["create"] = [RuntimeError("a bug")]
    end = bench.ended()
    assert end.state is State.ERROR
    assert "a bug" in end.sentence
    assert bench.records.record(JOB)["state"] == "error"


# The request's fault


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        ({"image": "BusyBox"}, "image: 'BusyBox' is not an image name"),
        ({"privileged": True}, "'privileged' is not an argument"),
        ({"command": "a\0b"}, r"command: 'a\x00b' must not contain a NUL byte"),
        ({"inputpath": "data"}, "inputpath: 'data' must be an absolute path"),
        ({"inputpath": "/no/such/path"}, "inputpath: '/no/such/path' on host "),
        ({"user": "no-such-user"}, "user: 'no-such-user' is not known on host "),
        ({"inputpath": "/etc"}, "inputpath: '/etc' is outside what this host allows; rule mounts = ["),
        ({"logoutfile": "/etc/x.log"}, "logoutfile: '/etc/x.log' is outside what this host allows"),
        ({"image": "no/such-image"}, "image 'no/such-image:latest' cannot be pulled: not found"),
        ({"pull": "always"}, "image 'busybox:latest' cannot be pulled: not found"),
        (
            {"image": "tool", "pull": "never"},
            "image 'tool:latest' is not on host node1 and pull is 'never'; pull it there, or say pull='missing'",
        ),
        ({"network": "none"}, "network: 'none' is not allowed on this host; rule networks = ['bridge']"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_met_is_rejected_at_once(bench: Bench, kwargs: dict[str, Any], reason: str) -> None:
    """One line, nothing retried, nothing left behind."""
    end = bench.ended(**kwargs)
    assert end.state is State.REJECTED
    assert end.sentence.startswith(f"rejected: {reason}")
    assert len(end.sentence.splitlines()) == 1
    assert bench.records.delayed == {}
    assert bench.nothing_is_left()


def test_policy_is_asked_before_the_pull(bench: Bench) -> None:
    bench.runner.attempts.rules = Policy(images=("busybox",))
    bench.engine.registry = {"evil:latest": OK}
    assert bench.ended(image="evil", logoutfile=None).state is State.REJECTED
    assert bench.engine.calls == []


@pytest.mark.parametrize("exit_code", [126, 127])
def test_a_command_that_cannot_be_started_is_rejected_with_its_exit_code(tmp_path: Path, exit_code: int) -> None:
    bench = make_bench(tmp_path, Script(cannot_start=exit_code))
    end = bench.ended(command="nope")
    assert end.state is State.REJECTED
    assert end.receipt["exit_code"] == exit_code
    assert "command 'nope' cannot be started" in end.sentence
    assert bench.nothing_is_left()


def test_a_log_that_cannot_be_written_is_rejected_before_anything_runs(bench: Bench) -> None:
    end = bench.ended(logoutfile=str(bench.folder))
    assert end.state is State.REJECTED
    assert "cannot write the log file" in end.sentence
    assert "start" not in bench.engine.calls
    assert bench.nothing_is_left()


@pytest.mark.parametrize("job_id", ["../x", "a b", "a" * 300, "a\0b"], ids=lambda job_id: repr(job_id[:8]))
def test_a_job_id_that_cannot_be_a_name_is_rejected_and_touches_nothing(bench: Bench, job_id: str) -> None:
    """Ids come from submitters; ours become names of containers and files."""
    bystander = bench.folder / "x.logs"
    bystander.write_text("not ours")
    bench.keeper.state_dir.mkdir()
    end = bench.ended(job_id=job_id)
    assert end.state is State.REJECTED
    assert end.sentence.startswith("rejected: id: ")
    assert bystander.exists()
    assert bench.records.expiry == {job_id: 384 * 3600}
    assert bench.nothing_is_left()


# A second process: what an earlier one left behind


@pytest.fixture
def before(tmp_path: Path) -> Bench:
    """A host whose worker claimed a job and died."""
    bench = make_bench(tmp_path.resolve(), LONG)
    delivery = bench.delivery()
    claim = bench.records.claim(JOB, host=HOST, queue=delivery.queue, envelope=delivery.envelope)
    assert claim.verdict is Verdict.RUN
    return bench


def test_a_running_container_is_adopted(before: Bench) -> None:
    """It goes on, under the same attempt; its log has every byte once."""
    with before.keeper.open(JOB, 1, str(before.log), None) as files:
        files.write(Frame(Stream.STDOUT, b"hel"))
    container_id = before.container()
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas)
    before.engine.say(NAME, Frame(Stream.STDOUT, b"more\n"))
    before.engine.release(NAME)
    end = running.answer()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]
    assert end.receipt["output"] == "hello\nwarning\nmore\n"
    assert before.log.read_text() == "hello\nwarning\nmore\n"
    assert before.engine.calls.count("create") == 1
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


def test_a_container_that_ended_meanwhile_is_harvested(before: Bench) -> None:
    """It is never run again: how it ended is its result."""
    container_id = before.container()
    before.engine.release(NAME, exit_code=0)
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert before.log.read_text() == "hello\nwarning\n"
    assert before.engine.calls.count("start") == 1
    assert before.nothing_is_left()


def test_a_container_that_failed_meanwhile_is_retried_like_any_other(before: Bench) -> None:
    before.container()
    before.engine.release(NAME, exit_code=3)
    assert before.run() == LetGo("attempt 1: exit code 3; again in 10 s")
    assert before.nothing_is_left()


@pytest.mark.parametrize("exit_code", [137, 143, 255])
@pytest.mark.parametrize("restarted", [None, "before its end", "after its end"])
def test_an_end_that_no_worker_saw_is_the_jobs_own_if_docker_saw_it_all(
    before: Bench, exit_code: int, restarted: str | None
) -> None:
    before.container()
    before.engine.lives += restarted == "before its end"
    before.engine.release(NAME, exit_code)
    before.engine.lives += restarted == "after its end"
    sentence = before.run(retries=1).sentence
    if restarted:
        assert sentence.startswith(f"attempt 1: Docker or the host went down under it (exit code {exit_code})")
    else:
        assert sentence.startswith(f"attempt 1: exit code {exit_code}")
    assert before.nothing_is_left()


@pytest.mark.parametrize("has_ended", [True, False])
@pytest.mark.parametrize("exit_code", [0, 1, 143])
def test_a_stop_that_an_earlier_process_began_counts_as_none_of_the_jobs_retries(
    before: Bench, has_ended: bool, exit_code: int
) -> None:
    """That process was killed in the grace of its containers."""
    container_id = before.container()
    before.engine.tell(container_id)
    if has_ended:
        before.engine.release(NAME, exit_code)
    job = before.claimed(retries=0)
    running = Background(lambda: before.runner.run(job, before.announced))
    if not has_ended:
        eventually(lambda: before.announced.metas)
        before.engine.release(NAME, exit_code)
    end = running.answer()
    if exit_code == 0:
        assert end.state is State.SUCCEEDED
    else:
        assert end == LetGo("attempt 1: its container was stopped before this worker took it over; again in 0 s")


def test_a_container_that_never_started_is_made_again(before: Bench) -> None:
    before.engine.images["busybox:latest"] = OK
    left = before.container(started=False)
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != left
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]
    assert before.nothing_is_left()


def test_a_job_whose_container_was_never_made_is_run(before: Bench) -> None:
    before.engine.images["busybox:latest"] = OK
    end = before.ended()
    assert end.state is State.SUCCEEDED
    assert [entry["attempt"] for entry in end.receipt["attempts"]] == [1]


def test_a_container_of_an_earlier_attempt_is_replaced(bench: Bench) -> None:
    """It was reported; only Docker was away when it should have been removed."""
    left = bench.container(attempt="7")
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] != left
    assert bench.nothing_is_left()


def test_a_container_whose_record_was_lost_is_adopted_by_its_name(tmp_path: Path) -> None:
    """Redis forgot the job, the message came again: Docker knows better."""
    bench = make_bench(tmp_path.resolve(), LONG)
    container_id = bench.container(attempt="1")
    bench.engine.release(NAME, exit_code=0)
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert bench.log.read_text() == "hello\nwarning\n"
    assert bench.engine.calls.count("start") == 1


def test_a_container_found_by_its_name_is_not_given_up_for_a_pull_that_fails(tmp_path: Path) -> None:
    """With pull=always too: the container is there, so nothing has to be pulled for it."""
    bench = make_bench(tmp_path.resolve(), LONG)
    container_id = bench.container(attempt="1")
    bench.engine.release(NAME, exit_code=0)
    end = bench.ended(pull="always")
    assert end.state is State.SUCCEEDED
    assert end.receipt["container_id"] == container_id
    assert "pull" not in bench.engine.calls


def test_a_job_whose_record_was_lost_while_it_ran_is_adopted_after_a_crash(tmp_path: Path) -> None:
    """Redis was emptied after the claim; what the runner said since then is enough for the next process."""
    bench = make_bench(tmp_path.resolve(), LONG)
    job = bench.claimed()
    for kept in (bench.records.jobs, bench.records.index, bench.records.in_hand):
        kept.clear()
    first = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: _status(bench) is Status.RUNNING)
    adopted = bench.next_process().claim(bench.delivery())
    assert adopted is not None, "nobody looks after the container any more"
    assert adopted.attempt.number == 1, "under another number its running container would be replaced"
    bench.engine.release(NAME)
    assert first.answer().state is State.SUCCEEDED


def test_somebody_elses_container_of_that_name_is_left_alone(bench: Bench) -> None:
    """A submitter chooses the id of a job; he must not choose which container of the host dies."""
    bench.engine.images["busybox:latest"] = LONG
    theirs = bench.container(attempt=None, job=None)
    bench.engine.images["busybox:latest"] = OK
    end = bench.ended()
    assert end.state is not State.SUCCEEDED
    assert NAME in end.sentence
    found = bench.engine.inspect(theirs)
    assert found is not None
    assert found.status is Status.RUNNING


@pytest.mark.parametrize("call", ["inspect", "replay"])
def test_a_running_container_survives_that_docker_is_away_while_it_is_adopted(before: Bench, call: str) -> None:
    """A running container never dies because the worker did, nor because Docker was slow to answer it."""
    container_id = before.container()
    before.engine.failures[call] = [errors.EngineAway()]
    job = before.claimed()
    running = Background(lambda: before.runner.run(job, before.announced))
    eventually(lambda: before.announced.metas or not running.is_alive())
    found = before.engine.inspect(container_id)
    assert found is not None, "it was removed"
    assert found.status is Status.RUNNING
    assert before.records.delayed == {}, "its next attempt would replace it"
    before.engine.release(NAME)
    assert running.answer().receipt["container_id"] == container_id


def test_an_adopted_job_whose_log_cannot_be_opened_any_more_leaves_no_container(before: Bench) -> None:
    """Its log file was replaced by a folder; the job ends, and nothing of it runs on unseen."""
    before.container()
    before.log.mkdir()
    job = before.claimed()
    end = before.runner.run(job, before.announced)
    assert isinstance(end, Ended)
    assert end.state is not State.SUCCEEDED
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


def test_a_job_that_ended_before_the_crash_is_only_reported(before: Bench) -> None:
    """The record has the receipt; Celery's result and the container were still to come."""
    container_id = before.container()
    before.engine.release(NAME)
    receipt = {"state": "succeeded", "reason": None, "run_s": 1.5, "host": HOST, "attempts": [1], "output": ""}
    receipt["container_id"] = container_id
    before.records.finish(JOB, host=HOST, fence=1, state=State.SUCCEEDED, receipt=receipt)
    job = before.claimed()
    end = before.runner.run(job, before.announced)
    assert isinstance(end, Ended)
    assert (end.state, end.receipt) == (State.SUCCEEDED, receipt)
    before.runner.done(job, settled=True)
    assert before.nothing_is_left()


# Second deliveries


def test_a_second_delivery_while_the_job_is_in_a_slot_is_dropped(bench: Bench) -> None:
    job = bench.claimed()
    assert bench.runner.claim(bench.delivery()) is None
    assert bench.records.calls.count("claim") == 1
    assert bench.runner.jobs() == [job]
    assert bench.engine.calls == []


def test_a_second_delivery_after_the_end_is_dropped(bench: Bench) -> None:
    bench.run()
    calls = list(bench.engine.calls)
    assert bench.runner.claim(bench.delivery()) is None
    assert bench.engine.calls == calls
    assert bench.runner.jobs() == []


def test_a_delivery_of_a_job_that_another_host_has_is_dropped(bench: Bench) -> None:
    delivery = bench.delivery()
    bench.records.claim(JOB, host=OTHER, queue="celery", envelope=delivery.envelope)
    assert bench.runner.claim(delivery) is None
    assert bench.runner.jobs() == []
    assert bench.records.record(JOB)["owner"] == OTHER


def test_a_dropped_delivery_does_not_block_the_job_for_later(bench: Bench) -> None:
    """The other host gave the job back, and now it is this host's turn."""
    delivery = bench.delivery()
    claim = bench.records.claim(JOB, host=OTHER, queue="celery", envelope=delivery.envelope)
    assert bench.runner.claim(delivery) is None
    bench.records.requeue(
        JOB,
        host=OTHER,
        fence=claim.fence,
        delay_s=0,
        queue="celery",
        envelope=delivery.envelope,
        tally=Tally(exits=1),
        attempts=({"attempt": 1, "host": OTHER, "started_at": "2026-11-22T10:00:00.000Z"},),
    )
    bench.records.publish_due(LATE)
    assert [entry["host"] for entry in bench.ended().receipt["attempts"]] == [OTHER, HOST]


# Another owner


@pytest.mark.parametrize("call", ["update", "finish"])
def test_who_is_not_the_owner_any_more_stops_his_container_and_says_nothing(bench: Bench, call: str) -> None:
    bench.records.failures[call] = [errors.Fenced(f"job {JOB} belongs to another host now")]
    assert bench.run() == LetGo(f"job {JOB} belongs to another host now")
    assert bench.engine.names() == []
    assert "receipt" not in bench.records.record(JOB)
    assert bench.announced.reasons == []
    assert bench.runner.jobs() == []


def test_who_is_not_the_owner_any_more_cannot_give_the_job_back(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.records.failures["requeue"] = [errors.Fenced()]
    assert isinstance(bench.run(), LetGo)
    assert bench.engine.names() == []
    assert bench.records.delayed == {}


def take_over(bench: Bench, owner: str = OTHER) -> dict[str, str]:
    """Let the job be another host's, as it is after this one was silent for too long; return its record."""
    state = "starting" if owner else "queued"
    bench.records.jobs[JOB] |= {"state": state, "owner": owner, "fence": "2" if owner else "1"}
    bench.records.in_hand[HOST].discard(JOB)
    return dict(bench.records.jobs[JOB])


def running(bench: Bench) -> Background:
    """Let a job run in a slot."""
    slot = Background(bench.run)
    eventually(lambda: bench.records.jobs.get(JOB, {}).get("state") == "running" and "start" in bench.engine.calls)
    return slot


def test_a_running_job_that_is_anothers_is_stopped_and_nothing_is_said(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, LONG)
    slot = running(bench)
    as_before = take_over(bench)
    (job,) = bench.runner.jobs()
    bench.runner.fence(job, "it is another's")
    assert slot.answer() == LetGo("it is another's")
    assert bench.engine.calls.index("stop") < bench.engine.calls.index("remove"), "it gets its grace"
    assert bench.records.record(JOB) == as_before
    assert bench.announced.reasons == []
    assert bench.nothing_is_left()


def test_a_container_that_is_found_running_and_is_anothers_gets_its_grace_too(before: Bench) -> None:
    before.container()
    job = before.claimed()
    as_before = take_over(before)
    assert isinstance(before.runner.run(job, before.announced), LetGo)
    before.runner.done(job, settled=False)
    assert before.engine.calls.index("stop") < before.engine.calls.index("remove")
    assert before.records.record(JOB) == as_before
    assert before.nothing_is_left()


def test_a_failure_of_a_job_that_is_anothers_is_not_announced(tmp_path: Path) -> None:
    """The other host may have told its success already."""
    bench = make_bench(tmp_path, replace(FAILING, until_released=True))
    slot = running(bench)
    as_before = take_over(bench)
    bench.engine.release(NAME)
    assert isinstance(slot.answer(), LetGo)
    assert bench.announced.reasons == []
    assert bench.records.record(JOB) == as_before
    assert bench.nothing_is_left()


@pytest.mark.parametrize("earlier", [None, Cause.CANCELLED, Cause.TIMEOUT, Cause.INTERRUPTED])
def test_a_job_that_is_anothers_before_it_began_does_not_begin(bench: Bench, earlier: Cause | None) -> None:
    """What was ordered before does not count any more, either."""
    job = bench.claimed()
    if earlier is not None:
        bench.runner.end(job, earlier, "so be it")
    as_before = take_over(bench)
    bench.runner.fence(job, "it is another's")
    assert bench.runner.run(job, bench.announced) == LetGo("it is another's")
    bench.runner.done(job, settled=False)
    assert "create" not in bench.engine.calls
    assert bench.announced.reasons == []
    assert bench.records.record(JOB) == as_before


def test_a_job_that_was_taken_away_may_come_back(tmp_path: Path) -> None:
    """Its message reaches this host before this host has seen that it had lost the job."""
    bench = make_bench(tmp_path, LONG)
    slot = running(bench)
    take_over(bench, owner="")
    job = bench.runner.claim(bench.delivery())
    assert job is not None, "its message was dropped as a second delivery; nobody will ever run it"
    assert (job.attempt.number, job.claim.fence) == (2, 2)
    assert isinstance(slot.answer(), LetGo)
    assert bench.engine.names() == [], "the container of the attempt that does not count"


def test_a_job_that_has_left_its_slot_cannot_be_fenced(bench: Bench) -> None:
    job = bench.claimed()
    bench.runner.done(job, settled=False)
    take_over(bench, owner="")
    bench.runner.fence(job, "it is another's")
    assert job.order is None
    assert bench.runner.claim(bench.delivery()) is not None


def test_what_this_host_owns_and_has_in_no_slot(bench: Bench) -> None:
    bench.claimed()
    bench.records.claim("j2", host=HOST, queue="celery", envelope=bench.delivery("j2").envelope)
    assert [envelope["headers"]["id"] for envelope in bench.runner.left_behind()] == ["j2"]


@pytest.mark.parametrize(
    ("cause", "state"), [(Cause.CANCELLED, State.CANCELLED), (Cause.LOST, State.LOST), (Cause.EXPIRED, State.EXPIRED)]
)
def test_a_job_that_is_only_to_be_ended(bench: Bench, cause: Cause, state: State) -> None:
    original = bench.records.claim

    def claim(job_id: str, **arguments: Any) -> Claim:
        return replace(original(job_id, **arguments), cancel_reason="so be it", cancel_cause=cause)

    bench.records.claim = claim  # type: ignore[method-assign]
    end = bench.ended()
    assert (end.state, end.receipt["reason"]) == (state, "so be it")
    assert "create" not in bench.engine.calls


# Redis away


@pytest.mark.parametrize("call", ["claim", "update", "finish", "settle"])
@pytest.mark.parametrize("failure", [errors.StoreAway, errors.StoreRefused])
def test_while_redis_is_away_a_job_waits_and_nothing_is_lost(
    bench: Bench, call: str, failure: type[errors.CeleryDockerError]
) -> None:
    """However long; a password that was changed by mistake is corrected some time, too."""
    bench.records.failures[call] = [failure() for _ in range(8)]
    assert bench.ended().state is State.SUCCEEDED
    assert bench.sleeps == [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0]
    assert bench.records.record(JOB)["state"] == "succeeded"
    assert bench.engine.calls.count("create") == 1
    assert bench.nothing_is_left()


def test_a_retry_waits_for_redis_too(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, FAILING)
    bench.records.failures["requeue"] = [errors.StoreAway()]
    assert isinstance(bench.run(), LetGo)
    assert bench.records.record(JOB)["state"] == "queued"
    assert bench.sleeps == [0.1]


# What else can happen to a running container


def test_a_container_that_somebody_else_removed_is_an_error_and_not_run_again(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, LONG)
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: "start" in bench.engine.calls and bench.engine.names())
    eventually(lambda: _status(bench) is Status.RUNNING)
    bench.engine.remove(NAME)
    end = running.answer()
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "its container was removed by somebody else, so its end is unknown"
    assert end.receipt["exit_code"] is None
    bench.runner.done(job, settled=True)
    assert bench.nothing_is_left()


def _status(bench: Bench) -> Status | None:
    found = bench.engine.inspect(NAME)
    return found.status if found else None


@pytest.mark.parametrize("said", [b"", b"hello\n"], ids=["silent", "in the middle"])
def test_a_stream_that_breaks_is_taken_up_again(tmp_path: Path, said: bytes) -> None:
    """A restart of Docker cuts every stream; the container goes on, and so does its log, to the byte."""
    bench = make_bench(tmp_path, replace(says(said), until_released=True))
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: _status(bench) is Status.RUNNING)
    eventually(lambda: bench.log.exists() and bench.log.read_bytes() == said)
    bench.engine.break_streams(NAME)
    eventually(lambda: {"ended", "replay"} & set(bench.engine.calls))
    bench.engine.say(NAME, Frame(Stream.STDOUT, b"after the break\n"))
    bench.engine.release(NAME)
    end = running.answer()
    assert bench.log.read_bytes() == said + b"after the break\n"
    assert end.receipt["output"] == (said + b"after the break\n").decode()
    assert end.receipt["stdout_bytes"] == len(said) + 16


class FullDisk:
    """Log files that take nothing."""

    def write(self, frame: Frame) -> None:
        raise errors.LogFull("cannot write the log: No space left on device")

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *exc: Any) -> None: ...


class FullDiskKeeper:
    """Opens them."""

    def open(self, job_id: str, attempt: int, out: str | None, err: str | None) -> FullDisk:
        return FullDisk()

    resume = open

    def forget(self, job_id: str) -> None: ...


def test_a_job_whose_log_cannot_be_written_is_stopped(tmp_path: Path) -> None:
    """A disk that is full ends the job with that reason, not with a hole in its log."""
    bench = make_bench(tmp_path, LONG)
    bench.runner.attempts.logs = FullDiskKeeper()
    job = bench.claimed()
    end = bench.runner.run(job, bench.announced)
    assert isinstance(end, Ended)
    assert end.state is State.ERROR
    assert end.receipt["reason"] == "cannot write the log: No space left on device"
    assert [type(fault) for fault in bench.faults] == [errors.NoSpace], "the host takes no more jobs for now"
    assert _status(bench) is Status.EXITED
    assert bench.records.delayed == {}
    bench.runner.done(job, settled=True)
    assert bench.nothing_is_left()


def test_what_is_known_of_a_job_whose_log_broke_is_told(tmp_path: Path) -> None:
    """It did run: since when, until when and what it printed last are no secret."""
    bench = make_bench(tmp_path, LONG)
    bench.runner.attempts.logs = FullDiskKeeper()
    told = bench.ended().receipt
    assert told["started_at"] is not None
    assert told["finished_at"] is not None
    assert told["stdout_bytes"] == 6


# Paths and users reach Docker as they were looked up


def test_the_container_gets_what_the_names_mean_here(bench: Bench) -> None:
    (bench.folder / "in").write_text("x")
    (bench.folder / "out").mkdir()
    (bench.folder / "link").symlink_to("in")
    plans: list[ContainerPlan] = []
    original = bench.engine.create

    def create(plan: ContainerPlan) -> str:
        plans.append(plan)
        return original(plan)

    bench.engine.create = create  # type: ignore[method-assign]
    bench.run(inputpath=f"{bench.folder}/link", outputpath=f"{bench.folder}/out", user="root", command="id -u")
    (plan,) = plans
    assert plan.name == NAME
    assert plan.body["User"] == "0:0"
    assert plan.body["Cmd"] == ["id", "-u"]
    assert plan.body["Labels"] == {LABEL_JOB: JOB, LABEL_HOST: HOST, LABEL_BOOT: "boot1", LABEL_ATTEMPT: "1"}
    assert [mount["Source"] for mount in plan.body["HostConfig"]["Mounts"]] == [
        f"{bench.folder}/in",
        f"{bench.folder}/out",
    ]


def test_slots_do_not_disturb_each_other(tmp_path: Path) -> None:
    """Many jobs at once, each with its own container, log and receipt."""
    bench = make_bench(tmp_path.resolve())

    def one(number: int) -> Ended:
        log = str(bench.folder / f"{number}.log")
        return bench.ended(job_id=f"job-{number}", logoutfile=log)

    slots = [Background(lambda number=number: one(number)) for number in range(20)]  # type: ignore[misc]
    ends = [slot.answer() for slot in slots]
    assert {end.state for end in ends} == {State.SUCCEEDED}
    assert len({end.receipt["container_id"] for end in ends}) == 20
    assert all((bench.folder / f"{number}.log").read_text() == "hello\nwarning\n" for number in range(20))
    assert bench.nothing_is_left()


def test_the_keys_of_the_store_are_the_contract() -> None:
    """Other versions of the worker share the same Redis."""
    assert keys.job("j1") == "celery-docker:job:j1"
    assert keys.host_jobs("node1") == "celery-docker:host:node1:jobs"


# Those who watch


def test_the_whole_output_is_told_before_the_end_is_written(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, says(b"out", b"err"))
    told_at: list[int] = []
    finish = bench.records.finish

    def watched_finish(*args: Any, **kwargs: Any) -> None:
        told_at.append(len(bench.watched.pieces))
        finish(*args, **kwargs)

    bench.records.finish = watched_finish  # type: ignore[method-assign]
    bench.ended()
    assert told_at == [2]
    assert [(piece.stream, piece.attempt, piece.offset, piece.data) for piece in bench.watched.pieces] == [
        (Stream.STDOUT, 1, 0, b"out"),
        (Stream.STDERR, 1, 0, b"err"),
    ]


def test_a_job_does_not_notice_that_nobody_can_be_told(tmp_path: Path) -> None:
    bench = make_bench(tmp_path, says(b"out"))
    bench.watched.failure = errors.StoreAway("no room")
    assert bench.ended().state is State.SUCCEEDED
    assert bench.log.read_bytes() == b"out"
