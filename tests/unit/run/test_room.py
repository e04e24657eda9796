"""The ledger of a host's room: what jobs have of it, under threads, and after a process of before."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from celery_docker.core import admission, container
from celery_docker.core.admission import Lease, Needs, Offer
from celery_docker.core.container import Listed, Status
from celery_docker.run.room import Ledger

GIB = 2**30
OFFER = Offer(8000, 4 * GIB, ("0", "1"))
SMALL, LARGE, GPU = Needs(0, GIB), Needs(0, 3 * GIB), Needs(gpus=1)


def free_gib(ledger: Ledger) -> float:
    return ledger.free_room.free.memory_bytes / GIB


def listed(job_id: str, needs: str | None, gpus: str = "", status: Status = Status.RUNNING) -> Listed:
    labels = {container.LABEL_JOB: job_id, container.LABEL_GPUS: gpus}
    if needs is not None:
        labels[container.LABEL_NEEDS] = needs
    return Listed(f"c-{job_id}", f"run-{job_id}", status, labels, datetime.now(UTC))


def look(ledger: Ledger, *rows: Listed) -> None:
    ledger.begin_look()
    ledger.end_look(rows)


def test_a_job_has_its_part_until_its_slot_is_free() -> None:
    ledger = Ledger(OFFER)
    assert ledger.take("j1", LARGE) == Lease(LARGE)
    assert ledger.take("j2", LARGE) is None
    assert ledger.take("j2", SMALL) == Lease(SMALL)
    ledger.free("j1")
    assert free_gib(ledger) == 3
    assert ledger.take("j3", LARGE) == Lease(LARGE)


def test_a_job_that_is_freed_twice_gives_back_once() -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", SMALL)
    ledger.free("j1")
    ledger.free("j1")
    assert free_gib(ledger) == 4


def test_gpus_are_leased_by_name_and_taken_back() -> None:
    ledger = Ledger(OFFER)
    assert [ledger.take(job_id, GPU) for job_id in ("j1", "j2", "j3")] == [Lease(GPU, ("0",)), Lease(GPU, ("1",)), None]
    ledger.free("j1")
    assert ledger.take("j3", GPU) == Lease(GPU, ("0",))


def test_threads_never_take_more_than_there_is() -> None:
    """Forty slots ask for a GPU and some memory, use it for a moment and give it back, five hundred times each."""
    ledger, offer = Ledger(), Offer(8000, 4 * GIB, ("0", "1", "2"))
    ledger.offer = offer
    in_use, lock, mistakes, runs = set[str](), threading.Lock(), [], []

    def work(slot: int) -> None:
        for number in range(500):
            job_id = f"{slot}-{number}"
            lease = ledger.take(job_id, Needs(0, GIB, 1))
            if lease is None:
                continue
            with lock:
                runs.append(job_id)
                if in_use & set(lease.gpus) or len(lease.gpus) != 1:
                    mistakes.append(job_id)
                in_use.update(lease.gpus)
            if min(ledger.free_room.free.memory_bytes, ledger.free_room.free.gpus) < 0:
                mistakes.append(job_id)
            with lock:
                in_use.difference_update(lease.gpus)
            ledger.free(job_id)

    with ThreadPoolExecutor(40) as pool:
        list(pool.map(work, range(40)))
    assert runs
    assert mistakes == []
    assert ledger.free_room.free == offer.whole


# What a process of before has left


def test_what_runs_is_counted_from_the_containers() -> None:
    ledger = Ledger(OFFER)
    look(
        ledger,
        listed("j1", "2000 1073741824 1", "1"),
        listed("j2", "0 1073741824 0", status=Status.EXITED),
        # Of a version that has no such label, and one that somebody has changed.
        listed("j3", None),
        listed("j4", "much"),
    )
    room = ledger.free_room.free
    assert (room.millicpus, room.memory_bytes, room.devices) == (6000, 3 * GIB, ("0",))


def test_an_adopted_job_keeps_what_its_container_has() -> None:
    """Also where the host offers less now than it needs."""
    ledger = Ledger(Offer(8000, GIB, ("0", "1")))
    look(ledger, listed("j1", "0 3221225472 1", "1"))
    assert ledger.take("j1", Needs(0, 3 * GIB, 1)) == Lease(Needs(0, 3 * GIB, 1), ("1",))
    assert free_gib(ledger) == -2
    assert ledger.take("j2", SMALL) is None
    assert ledger.take("j3", admission.NOTHING) == Lease()
    ledger.free("j1")
    assert ledger.take("j2", SMALL) == Lease(SMALL)


def test_a_job_that_was_claimed_and_not_started_has_its_part_before_it_is_in_a_slot() -> None:
    ledger = Ledger(OFFER)
    look(ledger, listed("j1", "0 0 1", "0"))
    ledger.expect("j1", GPU)
    ledger.expect("j2", GPU)
    assert ledger.take("j3", GPU) is None
    assert ledger.take("j2", GPU) == Lease(GPU, ("1",))


def test_an_adopted_job_of_which_nothing_is_known_here_takes_what_it_needs() -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", LARGE)
    assert ledger.take("j2", LARGE) is None
    assert ledger.adopt("j2", LARGE) == Lease(LARGE)
    assert free_gib(ledger) == -2


def test_a_container_in_no_slot_keeps_its_part_until_it_is_gone() -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", LARGE)
    ledger.leave("j1")
    assert free_gib(ledger) == 1
    look(ledger, listed("j1", str(LARGE)))
    assert free_gib(ledger) == 1
    look(ledger)
    assert free_gib(ledger) == 4


def test_a_look_counts_nothing_twice_and_nothing_that_has_just_ended() -> None:
    """Docker's list may be older than what a slot has done since."""
    ledger = Ledger(OFFER)
    ledger.take("j1", SMALL)
    ledger.begin_look()
    ledger.take("j2", SMALL)
    ledger.free("j2")
    ledger.free("j1")
    ledger.take("j3", SMALL)
    ledger.end_look([listed(job_id, str(SMALL)) for job_id in ("j1", "j2", "j3")])
    assert free_gib(ledger) == 3


def test_a_slot_that_breaks_during_a_look_keeps_its_part_while_its_container_runs() -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", LARGE)
    ledger.begin_look()
    ledger.leave("j1")
    ledger.end_look([listed("j1", str(LARGE))])
    assert free_gib(ledger) == 1
    look(ledger)
    assert free_gib(ledger) == 4


def test_a_job_that_is_expected_during_a_look_has_its_part_before_it_is_in_a_slot() -> None:
    """It has no container yet. One that has keeps the GPUs that it runs with."""
    ledger = Ledger(OFFER)
    ledger.begin_look()
    ledger.expect("j1", GPU)
    ledger.expect("j2", GPU)
    ledger.end_look([listed("j2", str(GPU), "0")])
    assert ledger.take("j3", GPU) is None
    assert ledger.take("j2", GPU) == Lease(GPU, ("0",))


# Reservations


def test_room_that_is_reserved_is_kept_from_others() -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", SMALL)
    ledger.reserve("old", LARGE)
    assert ledger.take("j2", SMALL) is None
    assert ledger.take("j2", Needs(1000)) is not None
    assert ledger.take("old", LARGE) == Lease(LARGE)
    ledger.free("old")
    assert free_gib(ledger) == 3, "the reservation has ended with its job's start"


@pytest.mark.parametrize("act", [lambda led: led.free("j1"), lambda led: led.reserve("", admission.NOTHING), look])
def test_whoever_waits_for_room_sees_that_there_may_be_more(act: object) -> None:
    ledger = Ledger(OFFER)
    ledger.take("j1", SMALL)
    before = ledger.changes
    act(ledger)  # type: ignore[operator]
    assert ledger.changes > before
