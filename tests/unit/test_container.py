"""What the container found under a job's name means."""

from __future__ import annotations

import pytest

from celery_docker import container
from celery_docker.container import LABEL_ATTEMPT, LABEL_JOB, Container, Status, Step


def found(status: Status, attempt: str | None = "2", job: str | None = "j1") -> Container:
    wanted = {LABEL_ATTEMPT: attempt, LABEL_JOB: job}
    labels = {name: value for name, value in wanted.items() if value is not None}
    return Container("c" * 64, "run-j1", status, labels, "sha256:" + "d" * 64)


def test_a_container_is_named_after_its_job() -> None:
    assert container.name_of("0f3a") == "run-0f3a"


def test_no_container_means_that_one_is_made() -> None:
    assert container.next_step(None, 1) is Step.CREATE


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        # It runs, or will: taken over.
        (Status.RUNNING, Step.ADOPT),
        (Status.PAUSED, Step.ADOPT),
        (Status.RESTARTING, Step.ADOPT),
        # It ran and ended while nobody looked: its result is read, it is never run again.
        (Status.EXITED, Step.HARVEST),
        # It never ran, or Docker cannot say any more.
        (Status.CREATED, Step.REPLACE),
        (Status.DEAD, Step.REPLACE),
        (Status.REMOVING, Step.REPLACE),
    ],
)
def test_a_container_of_this_attempt(status: Status, expected: Step) -> None:
    assert container.next_step(found(status), 2) is expected


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("attempt", ["1", "3", "02", "", None], ids=repr)
def test_a_container_of_another_attempt_is_replaced(status: Status, attempt: str | None) -> None:
    """Its attempt has been reported; only its name is in the way."""
    assert container.next_step(found(status, attempt), 2) is Step.REPLACE


def test_every_status_of_docker_is_decided() -> None:
    """The words are Docker's own (`docker inspect`, State.Status)."""
    assert {status.value for status in Status} == {
        *("created", "running", "paused", "restarting", "removing", "exited", "dead"),
    }
