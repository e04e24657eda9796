"""Decisions about the container that lies under a job's name."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from celery_docker.core import container, orphan
from celery_docker.core.container import LABEL_ATTEMPT, LABEL_HOST, LABEL_JOB, Container, Event, Listed, Status, Step
from celery_docker.core.jobrecord import Ownership
from celery_docker.core.orphan import OrphanStep


def found(status: Status, attempt: str | None = "2", job: str | None = "j1") -> Container:
    values = {LABEL_ATTEMPT: attempt, LABEL_JOB: job}
    labels = {name: value for name, value in values.items() if value is not None}
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


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (Status.RUNNING, Step.ADOPT),
        (Status.EXITED, Step.HARVEST),
        # The start was written down before Docker was asked for it: it may have been cut off in that instant.
        (Status.CREATED, Step.REPEAT),
        # It ran, and somebody else ended it.
        (Status.DEAD, Step.GIVE_UP),
        (Status.REMOVING, Step.GIVE_UP),
    ],
)
def test_a_container_that_the_record_names(status: Status, expected: Step) -> None:
    assert container.next_step(found(status), 2, may_have_run=True) is expected
    assert container.next_step(found(status, "1"), 2, may_have_run=True) is Step.REPLACE


@pytest.mark.parametrize("attempt", ["1", "2"])
def test_a_container_that_runs_although_docker_does_not_know_it_is_waited_for(attempt: str) -> None:
    """Docker was killed in the instant in which it started it; whichever attempt it is of, nothing runs beside it."""
    assert container.next_step(found(Status.CREATED, attempt), 2, has_processes=True) is Step.AWAIT
    assert container.next_step(found(Status.EXITED, "2"), 2, has_processes=True) is Step.HARVEST


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


HOST, OTHER = "node1", "node2"
MADE_AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
OURS = {LABEL_JOB: "j1", LABEL_HOST: HOST, LABEL_ATTEMPT: "1"}


@pytest.mark.parametrize(
    ("name", "labels", "age_s", "expected"),
    [
        ("run-j1", OURS, 60, True),
        ("run-j1", {**OURS, "maintainer": "somebody"}, 60, True),
        # Its slot may not have it yet; or somebody has set the clock back.
        ("run-j1", OURS, 59, False),
        ("run-j1", OURS, -3600, False),
        # Another worker's, though it uses the same Docker.
        ("run-j1", {**OURS, LABEL_HOST: "node10"}, 60, False),
        ("run-j1", {**OURS, LABEL_HOST: ""}, 60, False),
        # Somebody's own, with a name or labels that look like ours.
        ("run-j1", {}, 60, False),
        ("run-j1", {LABEL_JOB: "j1", LABEL_ATTEMPT: "1"}, 60, False),
        ("run-j1", {LABEL_HOST: HOST, LABEL_ATTEMPT: "1"}, 60, False),
        ("run-j1", {LABEL_JOB: "j1", LABEL_HOST: HOST}, 60, False),
        # Somebody has renamed it.
        ("run-j2", OURS, 60, True),
        ("web", OURS, 60, True),
    ],
)
def test_whether_a_container_is_ours(name: str, labels: dict[str, str], age_s: float, expected: bool) -> None:
    listed = Listed("c" * 64, name, Status.RUNNING, labels, MADE_AT)
    assert orphan.is_ours(listed, HOST, MADE_AT + timedelta(seconds=age_s)) is expected


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.REMOVING])
@pytest.mark.parametrize(
    ("ownership", "expected"),
    [
        # This host has it in hand: its slot lost it.
        (Ownership("starting", HOST, in_hand=True), OrphanStep.DELIVER),
        (Ownership("running", HOST, in_hand=True), OrphanStep.DELIVER),
        # It has ended, and its result may not have been told.
        (Ownership("succeeded", HOST, in_hand=True, has_ended=True), OrphanStep.DELIVER),
        # It has ended, and everything was told.
        (Ownership("succeeded", HOST, has_ended=True), OrphanStep.REMOVE),
        (Ownership("cancelled", OTHER, has_ended=True), OrphanStep.REMOVE),
        # It will run anew.
        (Ownership("queued", ""), OrphanStep.REMOVE),
        (Ownership("queued", "", in_hand=True), OrphanStep.REMOVE),
        # It runs elsewhere.
        (Ownership("starting", OTHER), OrphanStep.REMOVE),
        (Ownership("running", OTHER), OrphanStep.REMOVE),
        (Ownership("running", OTHER, in_hand=True), OrphanStep.REMOVE),
    ],
)
def test_an_orphan_of_a_known_job(status: Status, ownership: Ownership, expected: OrphanStep) -> None:
    """The record decides, whatever the container does."""
    assert orphan.orphan_step(status, ownership, host=HOST, idle_s=0) is expected


@pytest.mark.parametrize(
    ("status", "idle_s", "expected"),
    [
        (Status.RUNNING, 1e9, OrphanStep.WARN),
        (Status.PAUSED, 1e9, OrphanStep.WARN),
        (Status.RESTARTING, 1e9, OrphanStep.WARN),
        (Status.EXITED, 3599, OrphanStep.LEAVE),
        (Status.EXITED, 3600, OrphanStep.REMOVE),
        (Status.CREATED, 3599, OrphanStep.LEAVE),
        (Status.CREATED, 3600, OrphanStep.REMOVE),
        (Status.DEAD, 3600, OrphanStep.REMOVE),
    ],
)
@pytest.mark.parametrize("ownership", [None, Ownership("running", HOST)], ids=["no record", "not in this host's set"])
def test_an_orphan_that_redis_knows_nothing_of(
    status: Status, idle_s: float, expected: OrphanStep, ownership: Ownership | None
) -> None:
    """A running one may be somebody's week of work; one that does not run is kept for an hour."""
    assert orphan.orphan_step(status, ownership, host=HOST, idle_s=idle_s) is expected


@pytest.mark.parametrize("ownership", [None, Ownership("queued", ""), Ownership("running", HOST, in_hand=True)])
def test_an_orphan_that_docker_is_removing(ownership: Ownership | None) -> None:
    assert orphan.orphan_step(Status.REMOVING, ownership, host=HOST, idle_s=1e9) is OrphanStep.LEAVE


@pytest.mark.parametrize(
    ("remembered", "expected"),
    [
        ([Event.START, Event.DIE], True),
        ([Event.START, Event.KILL, Event.DIE], False),
        # Docker was killed and started again, and ended what still ran.
        ([Event.DIE], False),
        ([Event.START], False),
        ([], False),
        # Somebody has restarted it, and it ended by itself since.
        ([Event.START, Event.KILL, Event.DIE, Event.START, Event.DIE], True),
        ([Event.KILL, Event.DIE, Event.START, Event.DIE], True),
        ([Event.START, Event.DIE, Event.START], False),
    ],
)
def test_an_end_that_is_surely_the_containers_own(remembered: list[Event], expected: bool) -> None:
    assert container.ended_by_itself(remembered) is expected


@pytest.mark.parametrize(
    ("remembered", "expected"),
    [
        ([Event.START, Event.KILL], True),
        ([Event.KILL, Event.DIE], True),
        ([Event.START, Event.DIE], False),
        # What somebody has started again since is not told to end.
        ([Event.START, Event.KILL, Event.DIE, Event.START], False),
        ([Event.START, Event.KILL, Event.DIE, Event.START, Event.KILL], True),
        ([], False),
    ],
)
def test_an_order_to_end_counts_until_the_next_start(remembered: list[Event], expected: bool) -> None:
    assert container.was_signalled(remembered) is expected
