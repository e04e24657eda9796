"""Admission as tables, and as properties over any offers and needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import admission
from celery_docker.core.admission import Lease, Listed, Needs, Offer, Parked, Room, Use, Verdict

GIB = 2**30
HOST = Offer(4000, 4 * GIB, ("0", "1"))

amounts = st.integers(0, 10**16 - 1)
names = st.text("0123456789abcGPU-/=.:", min_size=1, max_size=20)
devices = st.lists(names, max_size=4).map(tuple)
needs_values = st.builds(Needs, amounts, amounts, amounts, devices)
small_needs = st.builds(Needs, st.integers(0, 4000), st.integers(0, 4 * GIB), st.integers(0, 2))


@given(needs_values)
def test_a_text_form_says_the_same_needs(needs: Needs) -> None:
    assert admission.parse(str(needs)) == needs


def test_the_text_form() -> None:
    assert str(Needs(2000, 4 * GIB, 1)) == "2000 4294967296 1"
    assert str(Needs(0, 0, 2, ("0", "vendor.com/gpu=1"))) == "0 0 2 0,vendor.com/gpu=1"


@given(st.text(max_size=20), needs_values)
def test_the_name_of_a_group_says_its_list_and_needs(queue_list: str, needs: Needs) -> None:
    assert admission.of_group(admission.group(queue_list, needs)) == (queue_list, needs)


@pytest.mark.parametrize("name", ["", "celery", "celery 1 2 3", "celery|1 2", "1 2 3"])
def test_a_name_of_no_group(name: str) -> None:
    assert admission.of_group(name) is None


@pytest.mark.parametrize(
    "text",
    [None, "", "1", "1 2", "1 2 3 4,", "-1 2 3", "1.5 2 3", "1  2 3", "1 2 3\n", "\u0661 2 3", "1 2 " + "9" * 17],
)
def test_a_text_that_says_no_needs(text: str | None) -> None:
    """Anybody may have written the field: it says nothing then."""
    assert admission.parse(text) is None


@pytest.mark.parametrize(
    ("cpus", "memory", "gpus", "expected"),
    [
        (None, None, 0, Needs()),
        (2.0, None, 0, Needs(millicpus=2000)),
        (0.01, 4 * GIB, 0, Needs(10, 4 * GIB)),
        # Less than the unit still takes something.
        (0.0001, None, 0, Needs(millicpus=1)),
        (None, None, 2, Needs(gpus=2)),
    ],
)
def test_the_needs_of_a_job(cpus: float | None, memory: int | None, gpus: int, expected: Needs) -> None:
    assert admission.needs_of(cpus, memory, gpus) == expected


@pytest.mark.parametrize(
    ("needs", "free", "expected"),
    [
        pytest.param(Needs(), Room(0, 0, 0), True, id="a slot only"),
        pytest.param(Needs(), Room(-1, -1, -1), True, id="a slot only, on a host with too much in use"),
        pytest.param(Needs(1000, GIB, 1), Room(1000, GIB, 1), True, id="exactly"),
        pytest.param(Needs(1001, GIB, 1), Room(1000, GIB, 1), False, id="too many CPUs"),
        pytest.param(Needs(1000, GIB + 1, 1), Room(1000, GIB, 1), False, id="too much memory"),
        pytest.param(Needs(1000, GIB, 2), Room(1000, GIB, 1), False, id="too many GPUs"),
        pytest.param(Needs(memory_bytes=GIB), Room(-500, GIB, 0), True, id="what is short is not needed"),
        pytest.param(Needs(gpus=1, devices=("1",)), Room(0, 0, 1, ("0", "1")), True, id="a device that is free"),
        pytest.param(Needs(gpus=1, devices=("2",)), Room(0, 0, 1, ("0", "1")), False, id="another device"),
        pytest.param(Needs(gpus=1, devices=("1",)), Room(0, 0, 0, ("0", "1")), False, id="it is reserved"),
    ],
)
def test_a_job_fits_a_room(needs: Needs, free: Room, expected: bool) -> None:
    assert admission.fits(needs, free) is expected


TWO = {"a": Lease(Needs(1000, GIB)), "b": Lease(Needs(1000, GIB, 1), ("0",))}


@pytest.mark.parametrize(
    ("needs", "use", "expected"),
    [
        pytest.param(Needs(4000, 4 * GIB, 2), Use(), Verdict.START, id="the whole host"),
        pytest.param(Needs(2000, 2 * GIB, 1), Use(TWO), Verdict.START, id="the rest of it"),
        pytest.param(Needs(memory_bytes=3 * GIB), Use(TWO), Verdict.PARK, id="more than the rest"),
        pytest.param(Needs(memory_bytes=64 * GIB), Use(), Verdict.PARK, id="more than the host"),
        # A reservation of 3 GiB leaves others 1 GiB of the 4, and whatever it does not need.
        pytest.param(Needs(memory_bytes=GIB), Use({}, "old", Needs(0, 3 * GIB)), Verdict.START, id="beyond it"),
        pytest.param(Needs(memory_bytes=2 * GIB), Use({}, "old", Needs(0, 3 * GIB)), Verdict.PARK, id="reserved"),
        pytest.param(Needs(millicpus=4000), Use({}, "old", Needs(0, 4 * GIB)), Verdict.START, id="of another kind"),
        pytest.param(Needs(), Use(TWO, "old", Needs(4000, 4 * GIB, 2)), Verdict.START, id="takes a slot only"),
        pytest.param(Needs(0, 3 * GIB), Use({}, "me", Needs(0, 3 * GIB)), Verdict.START, id="reserved for itself"),
        pytest.param(Needs(gpus=1), Use(TWO, "old", Needs(gpus=2)), Verdict.PARK, id="GPUs are reserved"),
        pytest.param(Needs(gpus=1), Use({}, "old", Needs(gpus=1, devices=("0",))), Verdict.START, id="another GPU"),
        pytest.param(
            Needs(gpus=1, devices=("0",)), Use({}, "old", Needs(gpus=1, devices=("0",))), Verdict.PARK, id="this GPU"
        ),
        pytest.param(Needs(gpus=1, devices=("0",)), Use(TWO), Verdict.PARK, id="a GPU that is leased"),
        # Its reservation ends a moment after its start: its needs count once.
        pytest.param(Needs(0, 2 * GIB), Use(TWO, "a", Needs(0, 2 * GIB)), Verdict.START, id="reserved, and started"),
    ],
)
def test_a_verdict(needs: Needs, use: Use, expected: Verdict) -> None:
    assert admission.verdict("me", needs, HOST, use) is expected


def started(
    jobs: list[Needs], offer: Offer, reserved_id: str = "", reserved: Needs = admission.NOTHING
) -> dict[str, Lease]:
    """Return what those of the jobs have that start, one after the other."""
    leases: dict[str, Lease] = {}
    for number, needs in enumerate(jobs):
        if admission.verdict(str(number), needs, offer, Use(leases, reserved_id, reserved)) is Verdict.START:
            leased = [name for lease in leases.values() for name in lease.gpus]
            leases[str(number)] = admission.lease(offer, needs, leased)
    return leases


@given(st.lists(small_needs, max_size=30))
def test_jobs_that_start_never_take_more_than_the_offer(jobs: list[Needs]) -> None:
    leases = started(jobs, HOST)
    free = admission.room(HOST, leases.values())
    assert min(free.millicpus, free.memory_bytes, free.gpus) >= 0
    gpus = [name for lease in leases.values() for name in lease.gpus]
    assert len(gpus) == len(set(gpus)) == sum(lease.needs.gpus for lease in leases.values())


@given(st.lists(small_needs, max_size=30), small_needs)
def test_a_job_with_a_reservation_fits_once_the_jobs_of_before_are_gone(others: list[Needs], large: Needs) -> None:
    """Others that start meanwhile never take what it needs: that is the bound."""
    leases = started(others, HOST, "large", large)
    assert admission.verdict("large", large, HOST, Use(leases, "large", large)) is Verdict.START


@given(small_needs, st.lists(small_needs, max_size=5))
def test_a_room_says_as_text_what_fits(needs: Needs, taken: list[Needs]) -> None:
    """A script reads the text: a room with less than nothing fits the same jobs as one with nothing."""
    free = admission.room(HOST, [Lease(other) for other in taken])
    shown = admission.parse(str(free))
    assert shown is not None
    reread = Room(shown.millicpus, shown.memory_bytes, shown.gpus, shown.devices)
    assert admission.fits(needs, reread) is admission.fits(needs, free)


LARGE, SMALL, HUGE = Needs(0, 4 * GIB), Needs(0, GIB), Needs(0, 64 * GIB)


def parked(job_id: str, needs: Needs, parked_at: float, queue_list: str = "celery", holder: str = "") -> Parked:
    return Parked(job_id, needs, parked_at, queue_list, holder)


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        pytest.param([], None, id="nothing is parked"),
        pytest.param([parked("a", LARGE, 150)], None, id="not for long"),
        pytest.param([parked("a", LARGE, 100)], "a", id="just for so long"),
        pytest.param([parked("a", LARGE, 90), parked("b", SMALL, 80)], "b", id="the oldest"),
        pytest.param([parked("a", LARGE, 90), parked("b", HUGE, 80)], "a", id="not what it could never hold"),
        pytest.param([parked("a", LARGE, 90), parked("b", SMALL, 80, holder="node2")], "a", id="another host has it"),
        pytest.param([parked("a", LARGE, 90, holder="node2")], None, id="another host has the only one"),
        pytest.param([parked("a", LARGE, 90, holder="node1")], "a", id="this host had it before it was killed"),
        pytest.param([parked("a", LARGE, 90, "night")], None, id="of a queue that it does not serve"),
        pytest.param([parked("b", LARGE, 90), parked("a", LARGE, 90)], "a", id="at once: by id, on every host"),
    ],
)
def test_the_job_to_reserve_room_for(jobs: list[Parked], expected: str | None) -> None:
    listed = Listed(400, tuple(jobs))
    chosen = admission.to_reserve(listed, HOST, "node1", lists=["celery"], after_s=300)
    assert (chosen.job_id if chosen else None) == expected


@pytest.mark.parametrize(
    ("leased", "needs", "expected"),
    [
        ([], Needs(gpus=1), ("0",)),
        ([], Needs(gpus=2), ("0", "1")),
        (["0"], Needs(gpus=1), ("1",)),
        (["1"], Needs(gpus=1), ("0",)),
        ([], Needs(gpus=1, devices=("1",)), ("1",)),
        ([], Needs(), ()),
        # A job that was started before the host offered less.
        (["0", "1"], Needs(gpus=1), ()),
    ],
)
def test_gpus_are_leased_one_by_one(leased: list[str], needs: Needs, expected: tuple[str, ...]) -> None:
    assert admission.lease(HOST, needs, leased) == Lease(needs, expected)


def test_a_host_of_an_unknown_offer_holds_every_job_but_one_for_a_gpu() -> None:
    assert admission.UNBOUNDED.could_hold(Needs(10**9, 2**50))
    assert not admission.UNBOUNDED.could_hold(Needs(gpus=1))
