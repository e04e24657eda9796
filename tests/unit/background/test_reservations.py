"""Room that a host reserves for a job that is parked for too long."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from celery_docker.background.reservations import Reservations
from celery_docker.core.admission import Listed, Needs, Offer, Parked
from celery_docker.run.room import Ledger

GIB = 2**30
LARGE, HUGE = Needs(0, 3 * GIB), Needs(0, 64 * GIB)


@dataclass
class Records:
    """Parked jobs, and who has reserved room for each."""

    jobs: dict[str, Parked] = field(default_factory=dict)
    now: float = 1000
    holders: dict[str, str] = field(default_factory=dict)

    def park(self, job_id: str, needs: Needs = LARGE, since: float = 500, queue_list: str = "celery") -> None:
        self.jobs[job_id] = Parked(job_id, needs, since, queue_list)

    def parked(self) -> Listed:
        rows = self.jobs.values()
        jobs = [Parked(r.job_id, r.needs, r.parked_at, r.queue_list, self.holders.get(r.job_id, "")) for r in rows]
        return Listed(self.now, tuple(jobs))

    def reserve(self, job_id: str, host: str, needs: Needs) -> bool:
        is_parked = job_id in self.jobs and self.jobs[job_id].needs == needs
        return is_parked and self.holders.setdefault(job_id, host) == host

    def release(self, job_id: str, host: str) -> None:
        if self.holders.get(job_id) == host:
            del self.holders[job_id]


@pytest.fixture
def records() -> Records:
    return Records()


class Host:
    def __init__(self, records: Records, name: str = "node1") -> None:
        self.takes = True
        self.ledger = Ledger(Offer(8000, 4 * GIB))
        self.reservations = Reservations(
            records, self.ledger, name, lists=lambda: {"celery"}, is_taking=lambda: self.takes, after_s=300
        )

    def take_turn(self) -> str:
        """Take a turn; return the job that room is reserved for."""
        self.reservations.take_turn()
        return self.ledger.free_room.reserved_id


def test_a_host_reserves_room_for_the_oldest_job_that_it_could_hold(records: Records) -> None:
    records.park("j1", since=600)
    records.park("j2", HUGE, since=100)
    records.park("j3", since=550)
    records.park("j4", since=200, queue_list="night")
    host = Host(records)
    assert host.take_turn() == "j3"
    assert host.ledger.free_room.free.memory_bytes == GIB
    assert host.take_turn() == "j3"
    assert records.holders == {"j3": "node1"}


def test_nothing_is_reserved_before_the_bound(records: Records) -> None:
    records.park("j1", since=701)
    host = Host(records)
    assert host.take_turn() == ""
    records.now += 1
    assert host.take_turn() == "j1"


def test_two_hosts_reserve_room_for_two_jobs(records: Records) -> None:
    records.park("j1", since=100)
    records.park("j2", since=200)
    assert [Host(records).take_turn(), Host(records, "node2").take_turn(), Host(records, "node3").take_turn()] == [
        "j1",
        "j2",
        "",
    ]


def test_a_reservation_ends_with_the_wait_of_its_job(records: Records) -> None:
    """Wherever it started, or however it ended; then the next may have one."""
    records.park("j1")
    host = Host(records)
    host.take_turn()
    del records.jobs["j1"]
    assert host.take_turn() == ""
    assert host.ledger.free_room.free.memory_bytes == 4 * GIB
    records.park("j2")
    assert host.take_turn() == "j2"


def test_a_reservation_grows_with_the_needs_of_its_job(records: Records) -> None:
    """One that asks for all GPUs is parked as if it needed one, until a claim has counted those of a host."""
    records.park("j1", Needs(0, GIB))
    host = Host(records)
    host.take_turn()
    records.park("j1", LARGE)
    assert host.take_turn() == "j1"
    assert host.ledger.free_room.free.memory_bytes == GIB
    records.park("j1", HUGE)
    assert host.take_turn() == "", "nothing is kept for a job that this host could not hold"


def test_a_host_that_takes_no_jobs_leaves_them_to_others(records: Records) -> None:
    records.park("j1")
    host, other = Host(records), Host(records, "node2")
    host.take_turn()
    host.takes = False
    assert host.take_turn() == ""
    assert other.take_turn() == "j1"


def test_a_host_goes_on_with_a_reservation_of_its_process_before(records: Records) -> None:
    records.park("j1")
    Host(records).take_turn()
    assert Host(records).take_turn() == "j1"
