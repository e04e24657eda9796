"""Growing pauses."""

from __future__ import annotations

from itertools import islice

import pytest

from celery_docker.core import pauses


@pytest.mark.parametrize(
    ("first_s", "factor", "longest_s", "expected"),
    [
        (0.1, 2, 5.0, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]),
        (1, 1, 9, [1, 1, 1]),
        (2, 10, 3, [2, 3, 3]),
    ],
)
def test_pauses_grow_to_the_longest(first_s: float, factor: float, longest_s: float, expected: list[float]) -> None:
    assert list(islice(pauses.delays(first_s, factor, longest_s), len(expected))) == expected
