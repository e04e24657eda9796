"""Offers in words."""

from __future__ import annotations

import pytest

from celery_docker.core import roomwords
from celery_docker.core.admission import Needs, Offer, Room

GIB = 2**30


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        (Offer(1000, GIB), "1 CPU and 1 GiB of memory"),
        (Offer(2500, 3 * GIB // 2, ("0",)), "2.5 CPUs, 1.5 GiB of memory and 1 GPU"),
        (Offer(8_192_000, 2**50, ("0", "1")), "8192 CPUs, 1 PiB of memory and 2 GPUs"),
        (Offer(10, 6 * 2**20), "0.01 CPUs and 6 MiB of memory"),
        (Offer(1001, 1), "1.001 CPUs and 1 B of memory"),
    ],
)
def test_an_offer(offer: Offer, expected: str) -> None:
    assert roomwords.offer(offer) == expected


@pytest.mark.parametrize(
    ("room", "offer", "expected"),
    [
        (Room(4000, 8 * GIB, 0), Offer(4000, 8 * GIB), "4 of 4 CPUs, 8 of 8 GiB"),
        (Room(500, GIB // 2, 1), Offer(1000, 8 * GIB, ("a", "b")), "0.5 of 1 CPU, 512 MiB of 8 GiB, 1 of 2 GPUs"),
        (Room(0, 0, 0), Offer(1000, 8 * GIB, ("a",)), "0 of 1 CPU, 0 of 8 GiB, 0 of 1 GPU"),
        (Room(-5, -5, -5), Offer(1000, 5, ("a",)), "0 of 1 CPU, 0 of 5 B, 0 of 1 GPU"),
    ],
)
def test_the_room_that_is_free(room: Room, offer: Offer, expected: str) -> None:
    assert roomwords.free(room, offer) == expected


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (Needs(), ""),
        (Needs(1000), "1 CPU"),
        (Needs(0, 4 * GIB), "4 GiB"),
        (Needs(2500, 4 * GIB), "2.5 CPUs and 4 GiB"),
        (Needs(2500, GIB // 2, 1), "2.5 CPUs, 512 MiB and 1 GPU"),
        (Needs(0, 0, 2), "2 GPUs"),
        (Needs(0, GIB, 1, ("7",)), "1 GiB and the GPU 7"),
        (Needs(0, 0, 2, ("a.b/c=0", "a.b/c=1")), "the GPUs a.b/c=0 a.b/c=1"),
    ],
)
def test_the_needs_of_a_job(needs: Needs, expected: str) -> None:
    assert roomwords.needs(needs) == expected


@pytest.mark.parametrize(
    ("needs", "room", "expected"),
    [
        (Needs(), Room(-1, -1, 0), ""),
        (Needs(2000, 4 * GIB, 1), Room(2000, 4 * GIB, 1, ("0",)), ""),
        (Needs(0, 4 * GIB), Room(0, 2 * GIB, 0), "2 of 8 GiB free"),
        (Needs(2000, 4 * GIB), Room(1500, 2 * GIB, 0), "1.5 of 4 CPUs and 2 of 8 GiB free"),
        (Needs(2000, 4 * GIB, 2), Room(-5, -5, 1, ("0",)), "0 of 4 CPUs, 0 of 8 GiB and 1 of 2 GPUs free"),
        (Needs(0, 0, 1, ("1",)), Room(0, 0, 1, ("0",)), "the GPU 1 not free"),
        (Needs(0, 0, 1, ("1",)), Room(0, 0, 0), "the GPU 1 not free"),
    ],
)
def test_the_room_that_is_lacking(needs: Needs, room: Room, expected: str) -> None:
    assert roomwords.lacking(needs, room, Offer(4000, 8 * GIB, ("0", "1"))) == expected


NODES = {"node1": Offer(4000, 8 * GIB), "node3": Offer(8000, 32 * GIB), "node2": Offer(16_000, 4 * GIB, ("0", "1"))}


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        (Needs(0, 64 * GIB), "no host offers 64 GiB; the largest is node3 with 32 GiB"),
        (Needs(17_000, GIB), "no host offers 17 CPUs; the largest is node2 with 16 CPUs"),
        (Needs(0, 0, 3), "no host offers 3 GPUs; the largest is node2 with 2 GPUs"),
        (
            Needs(32_000, 33 * GIB),
            "no host offers 33 GiB; the largest is node3 with 32 GiB; "
            "no host offers 32 CPUs; the largest is node2 with 16 CPUs",
        ),
        (Needs(0, 32 * GIB, 3), "no host offers 3 GPUs; the largest is node2 with 2 GPUs"),
        # Each is there, and not on one host.
        (Needs(10_000, 16 * GIB), "no host offers 10 CPUs and 16 GiB together"),
        (Needs(0, 0, 1, ("7",)), "no host offers the GPU 7"),
        (Needs(0, 16 * GIB, 1, ("1",)), "no host offers 16 GiB and the GPU 1 together"),
    ],
)
def test_a_job_that_no_host_could_hold(needs: Needs, expected: str) -> None:
    assert roomwords.nowhere(needs, NODES) == expected


def test_a_job_of_gpus_where_no_host_has_one() -> None:
    assert roomwords.nowhere(Needs(0, 0, 1), {"node1": Offer(4000, 8 * GIB)}) == "no host offers 1 GPU"


@pytest.mark.parametrize(
    ("room", "offer", "expected"),
    [
        (Room(4000, 8 * GIB, 0), Offer(4000, 8 * GIB), ""),
        (Room(500, GIB, 0), Offer(4000, 8 * GIB), ""),
        (Room(499, GIB, 0), Offer(4000, 8 * GIB), "0.499 of 4 CPUs"),
        (Room(500, GIB - 1, 1), Offer(4000, 8 * GIB, ("a", "b")), "1 of 8 GiB"),
        (Room(500, GIB, 0), Offer(4000, 8 * GIB, ("a", "b")), "0 of 2 GPUs"),
    ],
)
def test_the_room_that_is_scarce(room: Room, offer: Offer, expected: str) -> None:
    assert roomwords.scarce(room, offer) == expected


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        (Offer(4000, 8 * GIB), []),
        (Offer(4001, GIB), ["4.001 CPUs are offered to jobs, and there are 4"]),
        (Offer(1000, 9 * GIB), ["9 GiB of memory is offered to jobs, and there is 8 GiB"]),
        (
            Offer(6000, 12 * GIB),
            [
                "6 CPUs are offered to jobs, and there are 4",
                "12 GiB of memory is offered to jobs, and there is 8 GiB",
            ],
        ),
    ],
)
def test_an_offer_of_more_than_there_is(offer: Offer, expected: list[str]) -> None:
    assert roomwords.excess(offer, Offer(4000, 8 * GIB)) == expected
