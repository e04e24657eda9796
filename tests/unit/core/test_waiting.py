"""The reasons for which jobs wait, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from celery_docker.core.admission import Needs, Offer, Room
from celery_docker.core.lifecycle import State
from celery_docker.core.waiting import (
    OBSTACLES,
    HostFacts,
    JobFacts,
    Place,
    SharePlace,
    Wait,
    WaitKind,
    obstacle,
    wait_of,
)

NOW = 1_700_000_000.0
GIB = 2**30
FREE = HostFacts("node1", queues=("celery",), free_slots=2)
FULL = replace(FREE, free_slots=0)
DRAINED = replace(FREE, obstacle="drained by alice@node1: a new disk")
SICK = replace(FREE, name="node2", obstacle="Docker does not answer")
SILENT = replace(FREE, silent_s=45.0)
OTHER = HostFacts("node3", queues=("night",), free_slots=1)
QUEUED = JobFacts(State.QUEUED, queue="celery")
RETRIED = replace(QUEUED, attempt=2, failure="exit code 1")
RUNNING = JobFacts(State.RUNNING, queue="celery", host="node1", attempt=1)
STARTING = replace(RUNNING, state=State.STARTING, image="a/b:1")
JOB_ID = "0f3a1b2c-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("hosts", "kind", "reason"),
    [
        ([], WaitKind.WORKER, "no worker is alive"),
        ([SILENT], WaitKind.WORKER, "no worker is alive"),
        ([replace(FREE, is_lost=True)], WaitKind.WORKER, "no worker is alive"),
        ([OTHER], WaitKind.QUEUE, "no worker serves the queue 'celery'"),
        # Of an older version, after a Celery client has taken all queues from it.
        ([replace(FREE, queues=())], WaitKind.QUEUE, "no worker serves the queue 'celery'"),
        ([OTHER, DRAINED], WaitKind.HOST, "node1 takes no jobs: drained by alice@node1: a new disk"),
        (
            [DRAINED, SICK],
            WaitKind.HOST,
            "node1 takes no jobs: drained by alice@node1: a new disk; node2 takes no jobs: Docker does not answer",
        ),
        (
            [replace(SICK, name=f"n{number}", obstacle="no") for number in range(5)],
            WaitKind.HOST,
            "n0 takes no jobs: no; n1 takes no jobs: no; n2 takes no jobs: no; no jobs on 2 more hosts",
        ),
        ([FULL, DRAINED], WaitKind.SLOT, "no free slot"),
        # A slot that is free on a host that does not serve the queue is of no use.
        ([FULL, OTHER], WaitKind.SLOT, "no free slot"),
        ([FREE], WaitKind.SLOT, "on its way to a host"),
    ],
)
def test_hosts_for_a_queued_job(hosts: list[HostFacts], kind: WaitKind, reason: str) -> None:
    assert wait_of(QUEUED, hosts, NOW) == Wait(kind, reason)


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (Place(0), "no free slot; it is next"),
        (Place(1), "no free slot; 1 job before it"),
        (Place(7), "no free slot; 7 jobs before it"),
        (Place(1000, exact=False), "no free slot; at least 1,000 jobs before it"),
    ],
)
def test_the_place_in_the_queue(place: Place, reason: str) -> None:
    assert wait_of(replace(QUEUED, place=place), [FULL], NOW) == Wait(WaitKind.SLOT, reason, jobs_before=place.before)
    assert wait_of(replace(QUEUED, place=place), [FREE], NOW) == Wait(
        WaitKind.SLOT, reason.removeprefix("no free slot; "), jobs_before=place.before
    )


@pytest.mark.parametrize(
    ("job", "hosts", "kind", "reason"),
    [
        (replace(QUEUED, pending=2), [], WaitKind.JOBS, "waits for 2 jobs"),
        (replace(QUEUED, pending=1, first_pending=JOB_ID), [], WaitKind.JOBS, "waits for job 0f3a1b2c"),
        (
            replace(QUEUED, pending=3, first_pending="mine", is_held=True),
            [],
            WaitKind.JOBS,
            "waits for job mine and 2 more",
        ),
        (replace(QUEUED, is_held=True), [], WaitKind.BATCH, "held back by its batch's limit"),
        (
            replace(QUEUED, share=SharePlace("alice", 240, 4760)),
            [FULL],
            WaitKind.SHARE,
            "held back: alice has 240 jobs queued or running, 4,760 more before it",
        ),
        (
            replace(QUEUED, share=SharePlace("alice", 1, 0)),
            [FREE],
            WaitKind.SHARE,
            "held back: alice has 1 job queued or running, it is the next",
        ),
        # It is just being let go.
        (
            replace(QUEUED, share=SharePlace("alice", 2, None)),
            [FREE],
            WaitKind.SHARE,
            "held back: alice has 2 jobs queued or running",
        ),
        (
            replace(QUEUED, share=SharePlace("alice", 2, 7)),
            [OTHER],
            WaitKind.QUEUE,
            "no worker serves the queue 'celery'",
        ),
        (
            replace(RETRIED, share=SharePlace("alice", 2, 7)),
            [FULL],
            WaitKind.SHARE,
            "attempt 2 failed: exit code 1; attempt 3: held back: alice has 2 jobs queued or running, 7 more before it",
        ),
        (
            replace(QUEUED, not_before=NOW + 3600),
            [],
            WaitKind.TIME,
            "delayed until 2023-11-14T23:13:20Z (in 1h)",
        ),
        (replace(QUEUED, not_before=NOW - 1), [FULL], WaitKind.SLOT, "no free slot"),
        (
            replace(RETRIED, not_before=NOW + 12),
            [FREE],
            WaitKind.RETRY,
            "attempt 2 failed: exit code 1; attempt 3 in 12s",
        ),
        # Of a record that does not say why.
        (
            replace(RETRIED, failure="", not_before=NOW + 12),
            [FREE],
            WaitKind.RETRY,
            "attempt 2 failed; attempt 3 in 12s",
        ),
        # Nobody would publish it when it is due.
        (
            replace(RETRIED, not_before=NOW + 12),
            [],
            WaitKind.WORKER,
            "attempt 2 failed: exit code 1; attempt 3: no worker is alive",
        ),
        (
            replace(RETRIED, place=Place(1)),
            [FULL],
            WaitKind.SLOT,
            "attempt 2 failed: exit code 1; attempt 3: no free slot; 1 job before it",
        ),
        (
            replace(QUEUED, end_reason="cancelled by bob", pending=1),
            [FULL],
            WaitKind.END,
            "being ended: cancelled by bob",
        ),
        (
            replace(QUEUED, end_reason="cancelled by bob"),
            [SILENT],
            WaitKind.END,
            "being ended: cancelled by bob; no worker is alive",
        ),
        # The end of a job needs no worker of its queue.
        (replace(QUEUED, end_reason="cancelled by bob"), [OTHER], WaitKind.END, "being ended: cancelled by bob"),
        (replace(RUNNING, end_reason="cancelled by bob"), [FREE], WaitKind.END, "being stopped: cancelled by bob"),
        (RUNNING, [SILENT, OTHER], WaitKind.HOST, "its host node1 has been silent for 45s"),
        (replace(STARTING, pull=(0, 0)), [FREE], WaitKind.PULL, "pulling a/b:1 on node1"),
        (replace(STARTING, pull=(2**20, 2**22)), [FREE], WaitKind.PULL, "pulling a/b:1 on node1: 1 MiB of 4 MiB"),
    ],
)
def test_the_reason_of_a_wait(job: JobFacts, hosts: list[HostFacts], kind: WaitKind, reason: str) -> None:
    wait = wait_of(job, hosts, NOW)
    assert wait is not None
    assert (wait.kind, wait.reason) == (kind, reason)


@pytest.mark.parametrize(
    "job",
    [
        RUNNING,
        STARTING,
        replace(RUNNING, pull=(1, 2)),
        replace(RUNNING, state=State.SUCCEEDED, end_reason="cancelled by bob"),
        replace(RUNNING, host="gone"),
    ],
)
def test_a_job_that_waits_for_nothing(job: JobFacts) -> None:
    assert wait_of(job, [FREE], NOW) is None


def test_the_time_of_the_next_try() -> None:
    wait = wait_of(replace(RETRIED, not_before=NOW + 12), [FREE], NOW)
    assert wait is not None
    assert wait.next_try_at == NOW + 12


# Room

LARGE = replace(FREE, name="node3", offer=Offer(8000, 32 * GIB), room=Room(8000, 6 * GIB, 0))
SMALL = replace(FREE, offer=Offer(4000, 8 * GIB), room=Room(1000, 2 * GIB, 0))
# Of an older version.
OLD = replace(FREE, name="old")
PARKED = replace(QUEUED, needs=Needs(0, 4 * GIB), is_parked=True)
HUGE = replace(QUEUED, needs=Needs(0, 64 * GIB))
NOWHERE = "no host offers 64 GiB; the largest is node3 with 32 GiB"


@pytest.mark.parametrize(
    ("job", "hosts", "kind", "reason"),
    [
        (PARKED, [SMALL], WaitKind.ROOM, "waits for room: needs 4 GiB, node1 has 2 of 8 GiB free"),
        (
            replace(PARKED, needs=Needs(4000, 7 * GIB)),
            [SMALL, LARGE],
            WaitKind.ROOM,
            "waits for room: needs 4 CPUs and 7 GiB, node1 has 1 of 4 CPUs and 2 of 8 GiB free, node3 has 6 of 32 GiB "
            "free",
        ),
        # Of hosts that could never hold it nothing is said.
        (
            replace(PARKED, needs=Needs(0, 9 * GIB)),
            [SMALL, LARGE],
            WaitKind.ROOM,
            "waits for room: needs 9 GiB, node3 has 6 of 32 GiB free",
        ),
        # Room that no host has seen yet, or that is kept for another.
        (PARKED, [LARGE], WaitKind.ROOM, "waits for room: needs 4 GiB, node3 has enough"),
        (
            PARKED,
            [replace(LARGE, reserved_for="large"), replace(SMALL, reserved_for="other")],
            WaitKind.ROOM,
            "waits for room: needs 4 GiB, node3 has enough, which it keeps for job large, node1 has 2 of 8 GiB free",
        ),
        (
            PARKED,
            [replace(LARGE, free_slots=0)],
            WaitKind.ROOM,
            "waits for room: needs 4 GiB, node3 has no free slot",
        ),
        (PARKED, [OLD], WaitKind.ROOM, "waits for room: needs 4 GiB"),
        (
            PARKED,
            [replace(SMALL, name=f"n{number}") for number in range(5)],
            WaitKind.ROOM,
            "waits for room: needs 4 GiB, n0 has 2 of 8 GiB free, n1 has 2 of 8 GiB free, n2 has 2 of 8 GiB free, "
            "2 more hosts",
        ),
        (
            replace(PARKED, place=Place(2)),
            [SMALL],
            WaitKind.ROOM,
            "waits for room: needs 4 GiB, node1 has 2 of 8 GiB free; 2 jobs before it",
        ),
        (
            replace(PARKED, place=Place(1000, exact=False)),
            [SMALL],
            WaitKind.ROOM,
            "waits for room: needs 4 GiB, node1 has 2 of 8 GiB free; at least 1,000 jobs before it",
        ),
        (
            replace(PARKED, attempt=1, failure="exit code 1"),
            [SMALL],
            WaitKind.ROOM,
            "attempt 1 failed: exit code 1; attempt 2: waits for room: needs 4 GiB, node1 has 2 of 8 GiB free",
        ),
        # One that needs it and has not been looked at by a host.
        (replace(PARKED, is_parked=False, place=Place(0)), [SMALL], WaitKind.SLOT, "it is next"),
        (HUGE, [SMALL, LARGE], WaitKind.OFFER, NOWHERE),
        (replace(HUGE, is_parked=True), [SMALL, LARGE], WaitKind.OFFER, NOWHERE),
        (HUGE, [SMALL, replace(LARGE, free_slots=0, room=Room(0, 0, 0))], WaitKind.OFFER, NOWHERE),
        (
            replace(HUGE, attempt=1),
            [SMALL, LARGE],
            WaitKind.OFFER,
            f"attempt 1 failed; attempt 2: {NOWHERE}",
        ),
        # A host that takes no jobs now is one that could.
        (replace(HUGE, needs=Needs(0, 64 * GIB)), [replace(LARGE, obstacle="no")], WaitKind.OFFER, NOWHERE),
        (
            replace(PARKED, needs=Needs(0, 16 * GIB)),
            [SMALL, replace(LARGE, obstacle="drained by bob")],
            WaitKind.HOST,
            "node3 takes no jobs: drained by bob",
        ),
        # Hosts that are silent, or serve another queue, offer nothing.
        (
            replace(PARKED, needs=Needs(0, 16 * GIB)),
            [SMALL, replace(LARGE, silent_s=45.0)],
            WaitKind.OFFER,
            "no host offers 16 GiB; the largest is node1 with 8 GiB",
        ),
        (
            replace(PARKED, needs=Needs(0, 16 * GIB)),
            [SMALL, replace(LARGE, queues=("night",))],
            WaitKind.OFFER,
            "no host offers 16 GiB; the largest is node1 with 8 GiB",
        ),
        # Nobody knows what a host of an older version could hold.
        (replace(HUGE, is_parked=True), [SMALL, OLD], WaitKind.ROOM, "waits for room: needs 64 GiB"),
        (HUGE, [SMALL, OLD], WaitKind.SLOT, "on its way to a host"),
        (HUGE, [], WaitKind.WORKER, "no worker is alive"),
        (replace(HUGE, queue="night"), [SMALL], WaitKind.QUEUE, "no worker serves the queue 'night'"),
        (replace(HUGE, end_reason="cancelled by bob"), [SMALL], WaitKind.END, "being ended: cancelled by bob"),
        (replace(HUGE, pending=1), [SMALL], WaitKind.JOBS, "waits for 1 job"),
    ],
)
def test_a_job_that_waits_for_room(job: JobFacts, hosts: list[HostFacts], kind: WaitKind, reason: str) -> None:
    wait = wait_of(job, hosts, NOW)
    assert wait is not None
    assert (wait.kind, wait.reason) == (kind, reason)


def test_what_no_host_offers_lasts_until_somebody_does_something() -> None:
    assert WaitKind.OFFER in OBSTACLES
    assert WaitKind.ROOM not in OBSTACLES


def test_a_queue_that_is_taken_from() -> None:
    assert obstacle([DRAINED, FULL], "celery") is None
