"""Parked jobs whose needs depend on the host, counted anew by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from celery_docker.background.recounting import Recount
from celery_docker.core import admission
from celery_docker.core.admission import Needs, Offer

GIB = 2**30
FOUR, TWO, LARGE, HUGE = Needs(0, 0, 4), Needs(0, 0, 2), Needs(0, 3 * GIB), Needs(0, 64 * GIB)


@dataclass
class Records:
    """Parked jobs by their groups; `read` has the ids of those whose messages were read."""

    parked: dict[str, list[str]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)

    def park(self, job_id: str, needs: Needs, queue_list: str = "celery") -> None:
        self.parked.setdefault(admission.group(queue_list, needs), []).append(job_id)

    def groups(self) -> Sequence[str]:
        return [*self.parked, "no group"]

    def jobs_of(self, group: str) -> Sequence[str]:
        return list(self.parked.get(group, ()))

    def envelopes(self, job_ids: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        self.read += job_ids
        return {job_id: {} for job_id in job_ids}

    def repark(self, job_id: str, queue_list: str, before: Needs, needs: Needs) -> bool:
        self.parked[admission.group(queue_list, before)].remove(job_id)
        self.park(job_id, needs, queue_list)
        return True

    def needs(self) -> dict[str, Needs]:
        groups = {group: admission.of_group(group) for group in self.parked}
        return {job_id: parts[1] for group, parts in groups.items() if parts for job_id in self.parked[group]}


@pytest.fixture
def records() -> Records:
    return Records()


class Host:
    def __init__(self, records: Records, **needs: Needs) -> None:
        self.takes = True
        self.recount = Recount(
            records,
            Offer(8000, 4 * GIB, ("0", "1")),
            lists=lambda: {"celery"},
            is_taking=lambda: self.takes,
            needs_of=lambda job_id, _envelope: needs[job_id],
        )


def test_a_job_waits_for_what_this_host_would_give_it(records: Records) -> None:
    records.park("all", FOUR)
    records.park("two", TWO)
    Host(records, all=TWO, two=TWO).recount.take_turn()
    assert records.needs() == {"all": TWO, "two": TWO}


def test_one_that_this_host_could_not_hold_stays_as_it_is(records: Records) -> None:
    records.park("all", FOUR)
    Host(records, all=HUGE).recount.take_turn()
    assert records.needs() == {"all": FOUR}


def test_one_that_this_host_could_hold_as_it_is_parked_is_not_looked_at(records: Records) -> None:
    """A smaller host has parked it so, and would do it again: the two would move it to and fro."""
    records.park("all", Needs(0, 0, 1))
    records.park("usual", Needs(0, GIB))
    Host(records, all=TWO, usual=LARGE).recount.take_turn()
    assert records.needs() == {"all": Needs(0, 0, 1), "usual": Needs(0, GIB)}
    assert records.read == []


def test_jobs_of_other_queues_are_left_alone(records: Records) -> None:
    records.park("all", FOUR, "other")
    Host(records, all=TWO).recount.take_turn()
    assert records.needs() == {"all": FOUR}


def test_a_host_that_takes_no_jobs_counts_none(records: Records) -> None:
    records.park("all", FOUR)
    host = Host(records, all=TWO)
    host.takes = False
    host.recount.take_turn()
    assert records.needs() == {"all": FOUR}
    host.takes = True
    host.recount.take_turn()
    assert records.needs() == {"all": TWO}


def test_a_job_is_looked_at_once_for_as_long_as_it_is_parked_the_same(records: Records) -> None:
    records.park("all", FOUR)
    records.park("huge", HUGE)
    host = Host(records, all=TWO, huge=HUGE)
    host.recount.take_turn()
    host.recount.take_turn()
    assert sorted(records.read) == ["all", "huge"]
    # Another host has taken it, and parked it with its own count.
    records.repark("all", "celery", TWO, FOUR)
    host.recount.take_turn()
    assert records.needs()["all"] == TWO
