"""A job's image stays the same over its attempts: kept in its record, signed where the job is."""

from __future__ import annotations

import pytest

from celery_docker import errors
from celery_docker.core.container import Status
from celery_docker.core.lifecycle import State
from celery_docker.run.runner import Ended, LetGo
from tests.fakes.engine import says
from tests.unit.run import test_authority
from tests.unit.run.test_authority import delivery
from tests.unit.run.workbench import FAILING, HOST, JOB, LATE, LONG, OK, OTHER, Background, Bench, container_status
from tests.waiting import eventually

signed = test_authority.signed
FIRST, MOVED = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
BY_DIGEST = f"busybox@{FIRST}"


def images(bench: Bench) -> list[str]:
    """Return the images of all containers that were to be made, in order."""
    return [plan.image for plan in bench.engine.planned]


def fail_once(bench: Bench, **kwargs: object) -> None:
    """Let the first attempt of a job fail, and somebody move the tag of its image then."""
    bench.engine.images["busybox:latest"] = FAILING
    bench.engine.digests["busybox:latest"] = FIRST
    assert isinstance(bench.run(**kwargs), LetGo)
    bench.engine.images["busybox:latest"] = says(b"moved\n")
    bench.engine.digests["busybox:latest"] = MOVED
    bench.records.publish_due(LATE)


def test_a_retry_runs_the_image_that_it_has(bench: Bench) -> None:
    """By its digest, which Docker finds by itself."""
    fail_once(bench)
    bench.engine.images[BY_DIGEST] = OK
    assert bench.ended().receipt["output"] == "hello\nwarning\n"
    assert images(bench) == ["busybox:latest", BY_DIGEST]
    assert "pull" not in bench.engine.calls


@pytest.mark.parametrize("pull", ["missing", "always"])
def test_a_retry_pulls_the_digest_where_it_is_missing(bench: Bench, pull: str) -> None:
    """Also on another host, and where each job is to ask for its tag anew: this one has asked."""
    bench.engine.registry = {"busybox:latest": FAILING, BY_DIGEST: OK}
    fail_once(bench, pull=pull)
    pulled = bench.engine.calls.count("pull")
    assert bench.ended(pull=pull).state is State.SUCCEEDED
    assert bench.engine.calls.count("pull") == pulled + 1
    assert images(bench)[-1] == BY_DIGEST


def test_a_digest_that_is_gone_from_the_registry(bench: Bench) -> None:
    """The job does not run what it was not submitted for: the line says what to do."""
    fail_once(bench)
    end = bench.ended()
    assert end.state is State.REJECTED
    assert end.receipt["reason"] == (
        f"image '{BY_DIGEST}' cannot be pulled: not found; check its name and tag; an earlier attempt ran this digest: "
        "submit the job again, to run busybox as it is now"
    )


def test_a_digest_that_may_not_be_pulled(bench: Bench) -> None:
    fail_once(bench, pull="never")
    end = bench.ended(pull="never")
    assert end.receipt["reason"].startswith(f"image '{BY_DIGEST}' is not on host {HOST} and pull is 'never'")


def test_an_image_that_came_from_no_registry_is_what_its_tag_is(bench: Bench) -> None:
    bench.engine.images["busybox:latest"] = FAILING
    assert isinstance(bench.run(), LetGo)
    assert "image_pin" not in bench.records.record(JOB)
    bench.engine.images["busybox:latest"] = OK
    bench.records.publish_due(LATE)
    assert bench.ended().state is State.SUCCEEDED
    assert images(bench) == ["busybox:latest"] * 2


def test_a_first_attempt_asks_for_no_pin(bench: Bench) -> None:
    bench.run()
    assert "image_pin" not in bench.records.calls


def test_a_running_job_is_pinned_for_the_host_that_takes_it_over(bench: Bench) -> None:
    """Its own host may be lost at any time: once it runs, its record says what it runs."""
    bench.engine.images["busybox:latest"] = LONG
    bench.engine.digests["busybox:latest"] = FIRST
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING, 10, "the container to run")
    eventually(lambda: job.started_by, 10, "its start to be known")
    bench.runner.note_image(job)
    assert bench.records.record(JOB)["image_pin"] == FIRST
    inspections = bench.engine.calls.count("inspect")
    bench.runner.note_image(job)
    assert bench.engine.calls.count("inspect") == inspections, "it is known"
    bench.engine.release(f"run-{JOB}")
    assert isinstance(running.answer(), Ended)


def test_a_pin_that_redis_did_not_take_is_written_again(bench: Bench) -> None:
    bench.engine.images["busybox:latest"] = LONG
    bench.engine.digests["busybox:latest"] = FIRST
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING, 10, "the container to run")
    eventually(lambda: job.started_by, 10, "its start to be known")
    bench.records.failures["update"] = [errors.StoreAway("Redis is restarted")]
    with pytest.raises(errors.StoreAway):
        bench.runner.note_image(job)
    bench.runner.note_image(job)
    assert bench.records.record(JOB)["image_pin"] == FIRST
    bench.engine.release(f"run-{JOB}")
    assert isinstance(running.answer(), Ended)


def test_what_was_pulled_is_pinned_at_the_start(bench: Bench) -> None:
    bench.engine.registry = {"tool:1": OK}
    bench.engine.digests = {"tool:1": FIRST}
    bench.run(image="tool:1")
    assert bench.records.record(JOB)["image_pin"] == FIRST


def test_a_job_of_another_host_is_not_pinned(bench: Bench) -> None:
    bench.engine.images["busybox:latest"] = LONG
    bench.engine.digests["busybox:latest"] = FIRST
    job = bench.claimed()
    running = Background(lambda: bench.runner.run(job, bench.announced))
    eventually(lambda: container_status(bench) is Status.RUNNING, 10, "the container to run")
    eventually(lambda: job.started_by, 10, "its start to be known")
    bench.records.jobs[JOB] |= {"owner": OTHER, "fence": "9"}
    with pytest.raises(errors.Fenced):
        bench.runner.note_image(job)
    assert "image_pin" not in bench.records.record(JOB)
    bench.engine.release(f"run-{JOB}")
    assert isinstance(running.answer(), LetGo)


# Signed jobs


def run_signed(bench: Bench) -> Ended | LetGo:
    return test_authority.run(bench, delivery(bench))


def test_a_signed_job_is_pinned_with_the_key_of_the_queue(signed: Bench) -> None:
    signed.engine.images |= {"busybox:latest": FAILING, BY_DIGEST: OK}
    signed.engine.digests["busybox:latest"] = FIRST
    assert isinstance(run_signed(signed), LetGo)
    pin = signed.records.record(JOB)["image_pin"]
    assert pin.startswith(f"{FIRST} ")
    signed.records.publish_due(LATE)
    assert isinstance(run_signed(signed), Ended)
    assert images(signed)[-1] == BY_DIGEST


@pytest.mark.parametrize("forge", [lambda pin: pin.replace(FIRST, MOVED), lambda _: MOVED, lambda _: "nonsense"])
def test_a_forged_pin_changes_nothing_about_a_signed_job(signed: Bench, forge: object) -> None:
    """It runs what its submitter has asked for, as if there were no pin."""
    assert callable(forge)
    signed.engine.images |= {"busybox:latest": FAILING, f"busybox@{MOVED}": says(b"forged\n")}
    signed.engine.digests["busybox:latest"] = FIRST
    assert isinstance(run_signed(signed), LetGo)
    record = signed.records.jobs[JOB]
    record["image_pin"] = forge(record["image_pin"])
    signed.records.publish_due(LATE)
    signed.engine.images["busybox:latest"] = OK
    end = run_signed(signed)
    assert isinstance(end, Ended)
    assert images(signed)[-1] == "busybox:latest"
