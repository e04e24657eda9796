"""Admission as tables, and as properties over any offers and needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import admission
from celery_docker.core.admission import Needs, Offer, Parked, Room, Use, Verdict

GIB = 2**30
HOST = Offer(4000, 4 * GIB, ("0", "1"))

amounts = st.integers(0, 10**15 - 1)
needs_values = st.builds(Needs, amounts, amounts, amounts)
small_needs = st.builds(Needs, st.integers(0, 4000), st.integers(0, 4 * GIB), st.integers(0, 2))


@given(needs_values)
def test_a_text_form_says_the_same_needs(needs: Needs) -> None:
    assert admission.parse(str(needs)) == needs


def test_the_text_form() -> None:
    assert str(Needs(2000, 4 * GIB, 1)) == "2000 4294967296 1"


@pytest.mark.parametrize(
    "text",
    [None, "", "1", "1 2", "1 2 3 4", "-1 2 3", "1.5 2 3", "1  2 3", "1 2 3\n", "\u0661 2 3", "1 2 " + "9" * 16],
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
    ],
)
def test_a_job_fits_a_room(needs: Needs, free: Room, expected: bool) -> None:
    assert admission.fits(needs, free) is expected


TWO = {"a": Needs(1000, GIB), "b": Needs(1000, GIB, 1)}


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
        # Its reservation ends a moment after its start: its needs count once.
        pytest.param(Needs(0, 2 * GIB), Use(TWO, "a", Needs(0, 2 * GIB)), Verdict.START, id="reserved, and started"),
    ],
)
def test_a_verdict(needs: Needs, use: Use, expected: Verdict) -> None:
    assert admission.verdict("me", needs, HOST, use) is expected


@given(st.lists(small_needs, max_size=30))
def test_jobs_that_start_never_take_more_than_the_offer(jobs: list[Needs]) -> None:
    taken: dict[str, Needs] = {}
    for number, needs in enumerate(jobs):
        if admission.verdict(str(number), needs, HOST, Use(taken)) is Verdict.START:
            taken[str(number)] = needs
    free = admission.room(HOST, taken.values())
    assert min(free.millicpus, free.memory_bytes, free.gpus) >= 0


@given(st.lists(small_needs, max_size=30), small_needs)
def test_a_job_with_a_reservation_fits_once_the_jobs_of_before_are_gone(others: list[Needs], large: Needs) -> None:
    """Others that start meanwhile never take what it needs: that is the bound."""
    taken: dict[str, Needs] = {}
    for number, needs in enumerate(others):
        if admission.verdict(str(number), needs, HOST, Use(taken, "large", large)) is Verdict.START:
            taken[str(number)] = needs
    assert admission.verdict("large", large, HOST, Use(taken, "large", large)) is Verdict.START


@given(small_needs, st.dictionaries(st.text(max_size=3), small_needs, max_size=5))
def test_a_room_says_as_text_what_fits(needs: Needs, taken: dict[str, Needs]) -> None:
    """A script reads the text: a room with less than nothing fits the same jobs as one with nothing."""
    free = admission.room(HOST, taken.values())
    shown = admission.parse(str(free))
    assert shown is not None
    assert admission.fits(needs, Room(shown.millicpus, shown.memory_bytes, shown.gpus)) is admission.fits(needs, free)


LARGE, SMALL, HUGE = Needs(0, 4 * GIB), Needs(0, GIB), Needs(0, 64 * GIB)


@pytest.mark.parametrize(
    ("parked", "reserved", "expected"),
    [
        pytest.param([], [], None, id="nothing is parked"),
        pytest.param([Parked("a", LARGE, 150)], [], None, id="not for long"),
        pytest.param([Parked("a", LARGE, 90), Parked("b", SMALL, 80)], [], "b", id="the oldest"),
        pytest.param([Parked("a", LARGE, 90), Parked("b", HUGE, 80)], [], "a", id="not what it could never hold"),
        pytest.param([Parked("a", LARGE, 90), Parked("b", SMALL, 80)], ["b"], "a", id="another host has it"),
        pytest.param([Parked("a", LARGE, 90)], ["a"], None, id="another host has the only one"),
        pytest.param([Parked("b", LARGE, 90), Parked("a", LARGE, 90)], [], "a", id="at once: by id, on every host"),
    ],
)
def test_the_job_to_reserve_room_for(parked: list[Parked], reserved: list[str], expected: str | None) -> None:
    chosen = admission.to_reserve(parked, HOST, before=100, reserved=reserved)
    assert (chosen.job_id if chosen else None) == expected


@pytest.mark.parametrize(
    ("leased", "count", "expected"),
    [([], 1, ("0",)), ([], 2, ("0", "1")), (["0"], 1, ("1",)), (["1"], 1, ("0",)), ([], 0, ()), (["0", "1"], 1, ())],
)
def test_gpus_are_leased_one_by_one(leased: list[str], count: int, expected: tuple[str, ...]) -> None:
    assert admission.lease(HOST, leased, count) == expected


def test_a_host_of_an_unknown_offer_holds_every_job_but_one_for_a_gpu() -> None:
    assert admission.UNBOUNDED.could_hold(Needs(10**9, 2**49))
    assert not admission.UNBOUNDED.could_hold(Needs(gpus=1))
