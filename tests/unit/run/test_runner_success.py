"""A job that succeeds, how its paths and users reach Docker, and what those who watch it see."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core.container import (
    LABEL_ARGUMENTS,
    LABEL_ATTEMPT,
    LABEL_BOOT,
    LABEL_GPUS,
    LABEL_HOST,
    LABEL_JOB,
    LABEL_LOGS,
    LABEL_NEEDS,
    Stream,
)
from celery_docker.core.joblogs import JobLogs, of_labels
from celery_docker.core.lifecycle import State
from celery_docker.core.plan import ContainerPlan
from celery_docker.core.policy import Defaults, Limits, Policy
from celery_docker.host import resolver
from celery_docker.run.runner import Ended
from celery_docker.store import keys
from tests.fakes.engine import Script, says
from tests.unit.run.workbench import (
    HOST,
    JOB,
    NAME,
    OK,
    Background,
    Bench,
    make_bench,
)
from tests.waiting import eventually

# Success


def test_a_job_that_succeeds(bench: Bench) -> None:
    end = bench.ended()
    assert end.state is State.SUCCEEDED
    assert end.sentence.startswith("succeeded in ")
    receipt = end.receipt
    assert (receipt["id"], receipt["state"], receipt["exit_code"], receipt["host"]) == (JOB, "succeeded", 0, HOST)
    assert (receipt["stdout_bytes"], receipt["stderr_bytes"], receipt["output"]) == (6, 8, "hello\nwarning\n")
    assert receipt["image_digest"] == "sha256:busybox:latest"
    assert receipt["pull_s"] is None
    assert [entry["attempt"] for entry in receipt["attempts"]] == [1]
    assert bench.log.read_text() == "hello\nwarning\n"
    assert bench.nothing_is_left()


def test_a_client_sees_where_it_runs(bench: Bench) -> None:
    receipt = bench.ended().receipt
    assert bench.announced.metas == [{"host": HOST, "container": receipt["container_id"], "attempt": 1}]


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


def test_a_pull_is_told_in_the_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its beginning, and with the bytes that have come; a Redis that is away does not hold it up."""
    arrived, release = threading.Event(), threading.Event()

    def pull(
        image: str,
        _platform: str | None,
        *,
        progress: Callable[[int, int], object],
        check: Callable[[], object],
        **_: Any,
    ) -> str:
        progress(2**20, 2**22)
        arrived.set()
        while not release.wait(0.05):
            check()
        bench.engine.images[image] = OK
        return ""

    monkeypatch.setattr(bench.engine, "pull", pull)
    bench.records.failures["update"] = [errors.StoreAway("no answer")]
    thread = threading.Thread(target=bench.ended, kwargs={"image": "tool:1"})
    thread.start()
    assert arrived.wait(30)
    fields = ("state", "image", "pulled_bytes", "pull_size_bytes")
    expected = ["starting", "tool:1", str(2**20), str(2**22)]
    eventually(lambda: [bench.records.record(JOB).get(name) for name in fields] == expected, 30, "the bytes")
    release.set()
    thread.join(30)
    assert bench.records.record(JOB)["state"] == "succeeded"


def test_an_image_that_is_there_is_not_pulled(bench: Bench) -> None:
    bench.run()
    assert "pull" not in bench.engine.calls


def test_pull_always_pulls_an_image_that_is_there(bench: Bench) -> None:
    """The image that runs then is the one that was pulled."""
    bench.engine.registry = {"busybox:latest": says(b"newer\n")}
    end = bench.ended(pull="always")
    assert bench.engine.calls.count("pull") == 1
    assert end.receipt["output"] == "newer\n"
    assert end.receipt["pull_s"] is not None


def test_pull_never_takes_an_image_that_is_there(bench: Bench) -> None:
    assert bench.ended(pull="never").state is State.SUCCEEDED
    assert "pull" not in bench.engine.calls


@pytest.mark.parametrize(
    ("asked", "ceiling", "default", "expected"),
    [
        (512 * 2**20, None, None, "out of memory: limit 512m, raise it with -m"),
        (512 * 2**20, 2**31, None, "out of memory: limit 512m, raise it with -m"),
        (2**31, 2**31, None, "out of memory: limit 2g, set by this host's policy"),
        (None, 2**31, None, "out of memory: limit 2g, set by this host's policy"),
        (None, 2**31, 2**30, "out of memory: limit 1g, raise it with -m"),
        (None, None, 2**30, "out of memory: limit 1g, raise it with -m"),
        (None, None, None, "out of memory: the host had no memory left"),
    ],
)
@pytest.mark.parametrize("script", [Script(exit_code=137, oom_killed=True), Script(exit_code=137, oom_missed=True)])
def test_out_of_memory_is_told_with_the_limit(
    tmp_path: Path, asked: int | None, ceiling: int | None, default: int | None, expected: str, script: Script
) -> None:
    """Also where the kernel alone knows of it."""
    bench = make_bench(tmp_path, script)
    bench.runner.attempts.policy = Policy(limits=Limits(memory_bytes=ceiling), defaults=Defaults(memory_bytes=default))
    receipt = bench.ended(retries=0, logoutfile=None, memory=asked).receipt
    assert (receipt["oom_killed"], receipt["signal"], receipt["state"]) == (True, 9, "failed")
    assert receipt["reason"] == expected


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
    assert len(plan.body["Labels"].pop(LABEL_ARGUMENTS)) == 64
    root = resolver.identity("root", Policy())
    assert of_labels({LABEL_LOGS: plan.body["Labels"].pop(LABEL_LOGS)}) == JobLogs(str(bench.log), None, root)
    # Those of an image would count where there are none.
    empty = {LABEL_GPUS: "", LABEL_NEEDS: ""}
    assert plan.body["Labels"] == {LABEL_JOB: JOB, LABEL_HOST: HOST, LABEL_BOOT: "boot1", LABEL_ATTEMPT: "1", **empty}
    assert [mount["Source"] for mount in plan.body["HostConfig"]["Mounts"]] == [
        f"/pins/{JOB}/inputpath",
        f"/pins/{JOB}/outputpath",
    ]
    assert bench.opener.pinned == {}


def test_further_mounts_are_pinned_and_released(bench: Bench) -> None:
    plans: list[ContainerPlan] = []
    original = bench.engine.create

    def create(plan: ContainerPlan) -> str:
        plans.append(plan)
        return original(plan)

    bench.engine.create = create  # type: ignore[method-assign]
    bench.run(mounts=[f"{bench.folder}:/ref:ro", f"{bench.folder}:/work"])
    assert plans[0].body["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": f"/pins/{JOB}/mounts.0", "Target": "/ref", "ReadOnly": True},
        {"Type": "bind", "Source": f"/pins/{JOB}/mounts.1", "Target": "/work", "ReadOnly": False},
    ]
    assert bench.opener.pinned == {}


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


# Who is told of its end


@pytest.mark.parametrize("script", [OK, Script(exit_code=3)])
def test_the_notices_of_a_job_are_listed_with_its_end(tmp_path: Path, script: Script) -> None:
    bench = make_bench(tmp_path.resolve(), script)
    bench.runner.attempts.policy = Policy(mounts=(str(tmp_path),), notify=("*@example.org", "lab-chat"))
    bench.ended(retries=0, notify=["alice@example.org", "lab-chat"])
    assert bench.records.notices == {f"{JOB} 1", f"{JOB} 2"}


def test_a_job_that_is_refused_for_whom_it_names_tells_nobody(bench: Bench) -> None:
    end = bench.ended(notify=["alice@example.org"])
    assert end.state is State.REJECTED
    assert "notify: 'alice@example.org' is not allowed on this host; rule notify = []" in end.sentence
    assert bench.records.notices == set()


def test_a_job_that_is_refused_for_something_else_tells_of_it(tmp_path: Path) -> None:
    bench = make_bench(tmp_path.resolve())
    bench.runner.attempts.policy = Policy(mounts=(str(tmp_path),), notify=("lab-chat",))
    assert bench.ended(notify=["lab-chat"], network="none").state is State.REJECTED
    assert bench.records.notices == {f"{JOB} 1"}


def test_a_retry_tells_nobody_yet(tmp_path: Path) -> None:
    bench = make_bench(tmp_path.resolve(), Script(exit_code=3))
    bench.runner.attempts.policy = Policy(mounts=(str(tmp_path),), notify=("lab-chat",))
    bench.run(retries=1, notify=["lab-chat"])
    assert bench.records.notices == set()
    assert bench.records.publish_due(1e12) == 1
    bench.ended(retries=1, notify=["lab-chat"])
    assert bench.records.notices == {f"{JOB} 1"}
