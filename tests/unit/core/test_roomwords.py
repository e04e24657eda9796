"""Offers in words."""

from __future__ import annotations

import pytest

from celery_docker.core import roomwords
from celery_docker.core.admission import Offer

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
