"""The names of shares, and the windows of queues."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker.core import shares

GIB = 2**30


@pytest.mark.parametrize(
    ("uid", "origin", "who"),
    [
        (1000, "alice@node1", "1000"),
        (0, "root@node1", "0"),
        (None, "alice@node1", "@alice"),
        (None, "alice@node2", "@alice"),
        (None, "a@b@node1", "@a@b"),
        (None, "alice", "@alice"),
        # Somebody who says that he is a number is not the user with that number.
        (None, "1000@node1", "@1000"),
        (None, "", "@"),
    ],
)
def test_the_submitter_of_a_share(uid: int | None, origin: str, who: str) -> None:
    assert shares.submitter(uid, origin) == who


@pytest.mark.parametrize(
    ("document", "name"),
    [
        ({}, "celery 1000"),
        ({"image": "busybox", "command": ["true"]}, "celery 1000"),
        ({"memory": 4 * GIB}, "celery 1000 memory<=2^32"),
        ({"memory": 4 * GIB + 1}, "celery 1000 memory<=2^33"),
        ({"memory": 3 * GIB}, "celery 1000 memory<=2^32"),
        ({"cpus": 0.5}, "celery 1000 cpus<=2^-1"),
        ({"cpus": 1}, "celery 1000 cpus<=2^0"),
        ({"cpus": 3, "memory": GIB}, "celery 1000 cpus<=2^2 memory<=2^30"),
        ({"gpus": 2}, "celery 1000 gpus<=2^1"),
        ({"gpus": "all"}, "celery 1000 gpus"),
    ],
)
def test_jobs_that_ask_for_about_as_much_have_one_share(document: dict[str, Any], name: str) -> None:
    assert shares.name("celery", "1000", document) == name


@given(st.text(), st.dictionaries(st.sampled_from(("cpus", "memory", "gpus")), st.integers() | st.floats() | st.text()))
def test_whatever_a_document_says_its_share_has_a_short_name(who: str, document: dict[str, Any]) -> None:
    assert len(shares.name("celery", who, document)) < len("celery") + len(who) + 60


def test_the_windows_of_queues() -> None:
    """Twice the slots of the hosts that serve a queue, for each of its priorities; other reports say nothing."""
    reports: list[dict[str, Any]] = [
        {"queues": ["celery", "gpu"], "slots": 4},
        {"queues": ["celery", "celery"], "slots": 3},
        {"queues": ["none"], "slots": 0},
        {"queues": ["silent"]},
        {},
    ]
    windows = shares.windows(reports)
    assert (windows["celery"], windows["celery\x06\x169"]) == (14, 14)
    assert (windows["gpu"], windows["none"], windows["silent"]) == (8, 1, 1)
    assert len(windows) == 16
