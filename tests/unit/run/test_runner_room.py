"""A host's room, as the runner takes and frees it: jobs without room are parked, and what runs is counted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from celery_docker import errors
from celery_docker.core import container
from celery_docker.core.admission import Needs, Offer
from celery_docker.core.lifecycle import Cause, EndRequest
from celery_docker.run.room import leases_of
from celery_docker.run.runner import LetGo
from tests.unit.run.workbench import HOST, JOB, LONG, OTHER, Background, Bench, container_status, make_bench
from tests.waiting import eventually

GIB = 2**30


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A host that offers 4 GiB, whose containers run until they are released."""
    made = make_bench(tmp_path.resolve(), LONG)
    made.runner.ledger.offer = Offer(8000, 4 * GIB)
    return made


def free_gib(bench: Bench) -> float:
    return bench.runner.ledger.free_room.free.memory_bytes / GIB


def is_claimed(bench: Bench, job_id: str, memory: str) -> bool:
    return bench.runner.claim(bench.delivery(job_id, memory=memory)) is not None


def test_jobs_are_claimed_while_there_is_room_for_them(bench: Bench) -> None:
    sizes = {"j1": "3g", "j2": "2g", "j3": "1g"}
    assert [is_claimed(bench, job_id, size) for job_id, size in sizes.items()] == [True, False, True]
    assert bench.records.record("j2")["state"] == "queued"
    assert set(bench.records.parked) == {"celery|0 2147483648 0"}
    assert free_gib(bench) == 0
    bench.runner.forget("j1")
    assert is_claimed(bench, "j2", "2g")
    assert bench.records.parked == {}


def test_a_job_that_asks_for_nothing_takes_a_slot_only(bench: Bench) -> None:
    is_claimed(bench, "j1", "4g")
    assert bench.runner.claim(bench.delivery("j2")) is not None


def test_a_parked_job_holds_no_slot(bench: Bench) -> None:
    is_claimed(bench, "j1", "4g")
    is_claimed(bench, "j2", "1g")
    assert [job.job_id for job in bench.runner.jobs()] == ["j1"]


def test_a_message_that_is_dropped_takes_no_room(bench: Bench) -> None:
    bench.records.claim(JOB, host=OTHER, queue="celery", envelope={})
    assert not is_claimed(bench, JOB, "1g")
    assert free_gib(bench) == 4


def test_a_claim_that_fails_takes_no_room(bench: Bench) -> None:
    bench.records.failures["claim"] = [ZeroDivisionError()]
    with pytest.raises(ZeroDivisionError):
        bench.runner.claim(bench.delivery(memory="1g"))
    assert free_gib(bench) == 4


def test_a_job_that_is_rejected_needs_no_room(bench: Bench) -> None:
    """It has to end now, and says why."""
    is_claimed(bench, "j1", "4g")
    refused = replace(bench.delivery("j2", memory="1g"), refusal="it is no job")
    assert bench.runner.claim(refused) is not None
    assert bench.runner.claim(bench.delivery("j3", memory="much")) is not None


def test_the_container_says_what_its_job_takes(bench: Bench) -> None:
    job = bench.claimed(memory="1g", cpus=0.5)
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: len(bench.engine.containers({container.LABEL_HOST: HOST})) == 1)
    (row,) = bench.engine.containers({container.LABEL_HOST: HOST})
    assert row.labels[container.LABEL_NEEDS] == str(Needs(500, GIB))
    bench.runner.end(job, EndRequest(Cause.CANCELLED, "enough"))
    running.answer()


def test_an_image_does_not_say_what_its_job_takes(bench: Bench) -> None:
    """A container has the labels of its image: the next process would find no room for others."""
    labels = {container.LABEL_NEEDS: str(Needs(64_000, 1000 * GIB)), container.LABEL_GPUS: "0,1"}
    script = bench.engine.images["busybox:latest"]
    bench.engine.images["busybox:latest"] = replace(script, labels=labels)
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is container.Status.RUNNING)
    assert leases_of(bench.engine.containers({container.LABEL_HOST: HOST})) == {}
    bench.runner.end(job, EndRequest(Cause.CANCELLED, "enough"))
    running.answer()


def test_the_next_process_counts_what_runs_before_it_takes_a_job(bench: Bench) -> None:
    """One container runs, one job was claimed and not started when the worker was killed."""
    job = bench.claimed(memory="2g")
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: bench.records.record(JOB)["state"] == "running")
    is_claimed(bench, "j2", "1g")
    before, bench.runner = bench.runner, bench.next_process()
    bench.runner.ledger.offer = Offer(8000, 4 * GIB)
    bench.runner.count_room()
    assert free_gib(bench) == 2
    assert len(bench.runner.left_behind()) == 2
    assert free_gib(bench) == 1
    assert not is_claimed(bench, "j3", "2g")
    adopted = bench.runner.claim(bench.delivery(memory="2g"))
    assert adopted is not None
    assert (adopted.needs, free_gib(bench)) == (Needs(0, 2 * GIB), 1)
    before.end(job, EndRequest(Cause.CANCELLED, "enough"))
    running.answer()


def test_a_job_that_ran_before_is_adopted_beyond_the_offer(bench: Bench) -> None:
    """An administrator has lowered it."""
    bench.claimed(memory="3g")
    bench.runner = bench.next_process()
    bench.runner.ledger.offer = Offer(8000, GIB)
    assert bench.claimed(memory="3g").needs == Needs(0, 3 * GIB)
    assert not is_claimed(bench, "j2", "512m")


def test_a_retry_frees_its_room_once_its_container_is_gone(bench: Bench) -> None:
    job = bench.claimed(memory="3g", retries=1)
    bench.engine.failures["create"] = [errors.HostError("no disk")]
    assert isinstance(bench.runner.run(job, bench.announced), LetGo)
    assert free_gib(bench) == 1
    bench.runner.done(job, settled=False)
    assert free_gib(bench) == 4


def test_a_slot_that_broke_keeps_its_room_while_the_container_runs(bench: Bench) -> None:
    assert bench.runner.abandon(bench.claimed(memory="3g"))
    assert free_gib(bench) == 1
    assert bench.runner.jobs() == []
    bench.runner.count_room()
    assert free_gib(bench) == 4
