"""Wait for something to become true, and say what it was if it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# A timeout is for what never comes true: how long the rest takes says something of the machine, nothing of the code.
_LEAST_S = 60


def eventually(condition: Callable[[], T], timeout_s: float = 10, message: str = "") -> T:
    """Return the first true value of the condition; raises `AssertionError` with the message after a minute or more."""
    timeout_s = max(timeout_s, _LEAST_S)
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{message or condition} did not come true in {timeout_s:g} s; last was {value!r}")
        time.sleep(0.02)
    return value
