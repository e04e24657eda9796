"""Offers in words."""

from __future__ import annotations

import pytest

from celery_docker.core import roomwords
from celery_docker.core.admission import Offer, Room

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
