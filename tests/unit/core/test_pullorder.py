"""An order to pull an image: its text, its signature, and the reports about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.core import jobspec, pullorder
from celery_docker.core.access import Identity
from celery_docker.core.pullorder import LASTS_S, PullOrder, PullReport, PullState
from celery_docker.core.signingkeys import Keys

KEYS = Keys(b"k" * 32)
ALICE = Identity("alice", 54321, 54322, (54323,))
ORDER = PullOrder("o1", "lab/tool:1", "linux/arm64", ("node1", "node2"))
SIGNED = ORDER.signed(KEYS.signing, ALICE, 1000.0)


def test_an_order_comes_out_of_redis_as_it_went_in() -> None:
    for order in (ORDER, SIGNED, PullOrder("o1", "busybox")):
        assert pullorder.parse("o1", order.text()) == order


def test_its_signature_says_who_gave_it() -> None:
    assert pullorder.parse("o1", SIGNED.text()).submitter(KEYS, 1000.0) == ALICE
    assert ORDER.submitter(KEYS, 1000.0) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"order_id": "o2"},
        {"image": "lab/tool:2"},
        {"platform": None},
        {"hosts": ()},
        {"hosts": ("node1", "node2", "node3")},
        {"signature": replace(SIGNED.signature, at_s=1001) if SIGNED.signature else None},
    ],
    ids=str,
)
def test_an_order_that_was_changed_is_nobodys(changed: dict[str, Any]) -> None:
    with pytest.raises(errors.SignatureError):
        replace(SIGNED, **changed).submitter(KEYS, 1000.0)


def test_an_old_order_is_refused() -> None:
    with pytest.raises(errors.SignatureError, match="more than a day old; give the order again"):
        SIGNED.submitter(KEYS, 1001.0 + LASTS_S)


def test_an_order_is_no_job() -> None:
    """Who takes a signed one out of Redis cannot make a job of it."""
    with pytest.raises(errors.SpecError):
        jobspec.parse((), SIGNED.arguments)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "[]", "{}", '{"pull": 1}', '{"pull": "UPPER:x"}', '{"pull": "a b"}', '{"pull": "\\u202e"}'),
        *('{"pull": "busybox", "platform": "x"}', '{"pull": "busybox", "hosts": "node1"}'),
        *('{"pull": "busybox", "hosts": [1]}', '{"pull": "busybox", "signature": {}}', "[" * 10_000),
        json.dumps({"pull": "a" * 10_000}),
    ],
    ids=lambda text: text[:40],
)
def test_an_order_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        pullorder.parse("o1", text)
    assert "\n" not in str(caught.value)


def test_a_report_comes_out_of_redis_as_it_went_in() -> None:
    report = PullReport(PullState.PULLED, 5, 7, "sha256:1", "why")
    assert pullorder.parse_report(report.text()) == report


@pytest.mark.parametrize("text", [None, "", "x", "[]", "{}", '{"state": "of a newer version"}'])
def test_a_report_that_cannot_be_read_is_none(text: str | None) -> None:
    assert pullorder.parse_report(text) is None


def test_a_report_with_odd_values() -> None:
    text = '{"state": "pulling", "pulled_bytes": "x", "size_bytes": -1, "digest": 5, "reason": null}'
    assert pullorder.parse_report(text) == PullReport(PullState.PULLING)
