"""The loss of a host: who may declare it, when, and what becomes of its jobs, every rule as a row of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from celery_docker.core import hostloss, lifecycle, message
from celery_docker.core.hostloss import Beat, Silence, Streak
from celery_docker.core.jobrecord import Ownership

SILENCE = Silence("node1", heard_at=1_767_225_600.0, for_s=612.4)


@pytest.mark.parametrize(
    ("streak", "beat", "lost_after_s", "expected"),
    [
        pytest.param(None, Beat(100), 600, Streak(100, 100), id="the first"),
        pytest.param(None, Beat(100, before=95), 600, Streak(100, 100), id="the first of this process"),
        pytest.param(Streak(50, 95), Beat(100, before=95), 600, Streak(50, 100), id="one more"),
        pytest.param(Streak(50, 95), Beat(110, before=95), 600, Streak(50, 110), id="a slow one"),
        pytest.param(Streak(50, 95), Beat(110.1, before=95), 600, Streak(110.1, 110.1), id="too slow"),
        pytest.param(Streak(50, 95), Beat(106, before=95), 10, Streak(106, 106), id="others may be lost sooner"),
        # Redis is another one, or was restored from an older copy.
        pytest.param(Streak(50, 95), Beat(100), 600, Streak(100, 100), id="forgotten"),
        pytest.param(Streak(50, 95), Beat(100, before=90), 600, Streak(100, 100), id="an older one remembered"),
        # Somebody set its clock: everybody's last heartbeat is long ago, or to come.
        pytest.param(Streak(50, 95), Beat(4000, before=95), 600, Streak(4000, 4000), id="clock set forward"),
        pytest.param(Streak(50, 95), Beat(20, before=95), 600, Streak(20, 20), id="clock set back"),
    ],
)
def test_a_streak_of_signs_of_life(streak: Streak | None, beat: Beat, lost_after_s: int, expected: Streak) -> None:
    assert hostloss.continued(streak, beat, lost_after_s) == expected


@pytest.mark.parametrize(
    ("streak", "expected"),
    [(None, False), (Streak(0, 0), False), (Streak(0, 599.9), False), (Streak(0, 600), True), (Streak(0, 9000), True)],
)
def test_who_may_take_over(streak: Streak | None, expected: bool) -> None:
    """Nobody before its own heartbeats have worked for a full period."""
    assert hostloss.may_take_over(streak, 600) is expected


@pytest.mark.parametrize(("streak", "expected"), [(Streak(100, 100), True), (Streak(50, 100), False)])
def test_who_has_to_look_for_its_jobs(streak: Streak, expected: bool) -> None:
    assert streak.is_new is expected


@pytest.mark.parametrize(
    ("ownership", "expected"),
    [
        pytest.param(Ownership("running", "node1", 3), False, id="its own"),
        pytest.param(Ownership("running", "node2", 4), True, id="another's"),
        pytest.param(Ownership("running", "", 3), True, id="queued again"),
        pytest.param(Ownership("running", "node1", 5), True, id="its own, but a later attempt"),
        pytest.param(Ownership("running", "node2", 3), True, id="another's to report"),
        pytest.param(Ownership("queued", ""), False, id="Redis has lost all but a cancel: it runs on to that"),
        pytest.param(None, False, id="Redis has lost it: it runs on"),
    ],
)
def test_which_job_is_fenced(ownership: Ownership | None, expected: bool) -> None:
    assert hostloss.is_fenced(ownership, "node1", 3) is expected


def record(kwargs: dict[str, Any] | None = None, **fields: str) -> dict[str, str]:
    envelope = message.task_message("j1", kwargs or {"image": "busybox"}, queue="celery", tag="t1", origin="1@here")
    return {
        "state": "running",
        "owner": "node1",
        "fence": "2",
        "attempt": "2",
        "claimed_at": "1767225000.5",
        "container_id": "c2",
        "queue": "celery",
        "message": json.dumps(envelope),
        **fields,
    }


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param(record(), None, id="a job like any other"),
        pytest.param(record({"image": "x", "requeue": True}), None, id="requeue=true"),
        pytest.param(record({"image": "x", "requeue": None}), None, id="requeue not said"),
        pytest.param(record({"image": "x", "requeue": 0}), None, id="0 is not false"),
        pytest.param(record(host_faults="9"), None, id="the tenth fault"),
        pytest.param(record({"image": "x", "requeue": False}), " and the job says requeue=false", id="requeue=false"),
        pytest.param(record(host_faults="10"), ", after 10 other faults of its hosts", id="too many faults"),
        pytest.param(record(message=""), " and its message is gone", id="no message"),
        pytest.param(record(queue=""), " and its message is gone", id="no queue"),
    ],
)
def test_which_jobs_end_with_their_host(fields: dict[str, str], reason: str | None) -> None:
    loss = hostloss.loss("j1", fields, SILENCE, "t2")
    assert loss.ends is (reason is not None)
    assert loss.reason == f"its host node1 was silent for 612 s{reason or ''}"


def test_the_limit_of_faults_is_that_of_every_other_fault_of_a_host() -> None:
    assert lifecycle.MAX_HOST_FAULTS == 10


def test_a_message_with_arguments_that_no_job_has() -> None:
    """Whatever is in the queue, the new host goes on."""
    envelope = {"body": "W1tdLCBbMV0sIHt9XQ==", "headers": {"id": "j1"}, "properties": {}}
    assert not isinstance(message.arguments(envelope)[1], Mapping)
    assert not hostloss.loss("j1", record(message=json.dumps(envelope)), SILENCE, "t2").ends


def test_what_the_record_then_says() -> None:
    earlier = {"attempt": 1, "host": "node3"}
    loss = hostloss.loss("j1", record(attempts=json.dumps([earlier]), host_faults="3"), SILENCE, "t2")
    assert loss.host_faults == 4
    assert loss.envelope["properties"]["delivery_tag"] == "t2"
    assert loss.attempts == (
        earlier,
        {
            "attempt": 2,
            "host": "node1",
            "container_id": "c2",
            "started_at": "2025-12-31T23:50:00.500Z",
            "finished_at": None,
            "exit_code": None,
            "reason": "host node1 was silent for 612 s",
        },
    )


def test_an_attempt_that_had_not_begun() -> None:
    """The record may name the container of the attempt before."""
    (entry,) = hostloss.loss("j1", record(state="starting"), SILENCE, "t2").attempts
    assert entry["container_id"] is None


def test_a_record_that_was_begun_again_in_mid_job() -> None:
    """Redis lost the record, and the owner's next word began it without the time of the claim."""
    fields = record()
    del fields["claimed_at"]
    (entry,) = hostloss.loss("j1", fields, SILENCE, "t2").attempts
    assert entry["started_at"] == "2026-01-01T00:00:00.000Z", "when the host was last heard"


@pytest.mark.parametrize(
    ("fates", "expected"),
    [
        ({}, "it had no jobs"),
        ({"kept": 2, "foreign": 1}, "it had no jobs"),
        ({"queued": 1}, "1 job queued again"),
        ({"queued": 3, "lost": 1}, "3 jobs queued again, 1 lost"),
        ({"lost": 2}, "2 jobs lost"),
        (
            {"ended": 1, "cancelled": 2, "lost": 3, "queued": 4},
            "4 jobs queued again, 3 lost, 2 cancelled, 1 ended already",
        ),
    ],
)
def test_a_takeover_in_one_line(fates: dict[str, int], expected: str) -> None:
    assert hostloss.sentence(SILENCE, fates) == f"host node1 was silent for 612 s: {expected}"
