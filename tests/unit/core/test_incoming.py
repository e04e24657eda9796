"""The one reader of messages: a delivery or a refusal, whatever the bytes, in bounded memory."""

from __future__ import annotations

import base64
import json
import tracemalloc
import zlib
from random import Random
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from celery_docker.core import hostreport, incoming, lifecycle, message, roomwords, strictjson
from celery_docker.core.incoming import Incoming, Refusal
from celery_docker.core.receipt import Receipt
from celery_docker.core.recordfields import Fields
from tests import mutations

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
ENVELOPE = message.task_message("j1", {"image": "busybox"}, queue="celery", tag="t1", origin="1@here")


def usable(parsed: Incoming | Refusal) -> Incoming:
    """Return what a worker goes on with: all of it can be written and read again."""
    if isinstance(parsed, Refusal):
        assert parsed.reason
        assert parsed.reason.isprintable()
        assert len(parsed.reason) <= 500
        parsed = incoming.rejected(parsed, "celery")
    again = incoming.of_envelope(parsed.job_id, json.loads(json.dumps(parsed.envelope)))
    assert (list(again.args), again.kwargs) == (list(parsed.args), parsed.kwargs)
    assert incoming.for_celery(parsed, "t2")["headers"]["task"] == "tasks.run_docker"
    return parsed


@given(st.binary(max_size=200))
def test_any_bytes_are_a_delivery_or_a_refusal(text: bytes) -> None:
    assert isinstance(incoming.parse(text), Refusal)


@given(JSON)
def test_any_json_is_a_delivery_or_a_refusal(value: Any) -> None:
    assert isinstance(incoming.parse(json.dumps(value).encode()), Refusal)


@given(st.sampled_from(sorted(ENVELOPE["headers"])), JSON)
def test_any_header_may_be_anything(name: str, value: Any) -> None:
    damaged = {**ENVELOPE, "headers": {**ENVELOPE["headers"], name: value}}
    parsed = incoming.parse(json.dumps(damaged).encode(), source="celery")
    if isinstance(parsed, Incoming) or parsed.job_id:
        usable(parsed)


@given(st.sampled_from(sorted(ENVELOPE["properties"])), JSON)
def test_any_property_may_be_anything(name: str, value: Any) -> None:
    damaged = {**ENVELOPE, "properties": {**ENVELOPE["properties"], name: value}}
    parsed = incoming.parse(json.dumps(damaged).encode(), source="celery")
    if isinstance(parsed, Incoming) or parsed.job_id:
        usable(parsed)


@given(JSON, JSON, JSON)
def test_a_body_may_say_anything(args: Any, kwargs: Any, embed: Any) -> None:
    text = base64.b64encode(json.dumps([args, kwargs, embed]).encode()).decode()
    usable(incoming.parse(json.dumps({**ENVELOPE, "body": text}).encode(), source="celery"))


@given(st.randoms(use_true_random=False))
def test_damage_by_chance(random: Random) -> None:
    parsed = incoming.parse(mutations.message(random, ENVELOPE), source="celery")
    if isinstance(parsed, Incoming) or parsed.job_id:
        usable(parsed)


def test_our_own_message_passes_unchanged() -> None:
    parsed = incoming.parse(json.dumps(ENVELOPE).encode(), source="celery")
    assert isinstance(parsed, Incoming)
    assert parsed.envelope == ENVELOPE
    assert (parsed.job_id, parsed.kwargs, parsed.refusal) == ("j1", {"image": "busybox"}, "")


def test_what_was_refused_stays_refused_from_the_record() -> None:
    stand_in = incoming.rejected(Refusal("no good", "j1"), "celery")
    parsed = incoming.parse(json.dumps(stand_in.envelope).encode(), source="celery")
    assert isinstance(parsed, Incoming)
    assert (parsed.job_id, parsed.refusal) == ("j1", "no good")


def test_a_small_message_never_becomes_a_large_one() -> None:
    bomb = base64.b64encode(zlib.compress(b"[" + b" " * 300_000_000 + b"]", 9)).decode()
    packed = {**ENVELOPE, "body": bomb, "headers": {**ENVELOPE["headers"], "compression": "application/x-gzip"}}
    text = json.dumps(packed).encode()
    tracemalloc.start()
    parsed = incoming.parse(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(parsed, Refusal)
    assert "more than 1 MiB" in parsed.reason
    assert peak < 16 * 2**20


@given(st.dictionaries(st.sampled_from(["attempt", "labels", "attempts", "submitted_at"]), st.text(max_size=30)))
def test_fields_of_a_record_may_say_anything(record: dict[str, str]) -> None:
    fields = Fields(record)
    assert fields.count("attempt") >= 0
    assert all(isinstance(value, str) for value in fields.words("labels").values())
    assert all(isinstance(entry, dict) for entry in fields.entries("attempts"))
    moment = fields.moment("submitted_at")
    assert moment is None or 0 <= moment < 2**38


@given(JSON)
def test_a_report_may_say_anything(value: Any) -> None:
    report = hostreport.parse(json.dumps(value))
    assert isinstance(report.get("slots", 0), int)
    assert isinstance(report.get("queues", []), list)


@given(st.sampled_from(["version", "slots", "queues", "status", "clock", "offer", "free", "new"]), JSON)
def test_a_field_of_a_report_is_of_its_kind_or_missing(name: str, value: Any) -> None:
    report = hostreport.parse(json.dumps({name: value}))
    assert name not in report or name == "new" or type(report[name]) is type(value)


SIZES = st.dictionaries(st.sampled_from(["cpus", "memory", "gpus", "new"]), JSON | st.integers() | st.floats())


@given(SIZES, SIZES)
@example({"cpus": 1e308, "memory": 1, "gpus": []}, {"cpus": 1, "memory": 10**400, "gpus": 0})
@example({"cpus": True, "memory": 1, "gpus": []}, {"cpus": 1, "memory": 1, "gpus": -1})
@example({"cpus": 1, "memory": 1.5, "gpus": []}, {"cpus": float("nan"), "memory": 1, "gpus": 1})
@example({"cpus": 1, "memory": 1, "gpus": [1]}, {"cpus": 1, "memory": 1, "gpus": True})
def test_an_offer_of_a_report_may_say_anything(offer: dict[str, Any], free: dict[str, Any]) -> None:
    """From a gateway it comes as it is."""
    for report in ({"offer": offer, "free": free}, hostreport.parse(json.dumps({"offer": offer, "free": free}))):
        host = hostreport.offer(report), hostreport.room(report)
        assert host == (None, None) or all(part is None or part.millicpus >= 0 for part in host)
        if host[0] is not None and host[1] is not None:
            assert roomwords.free(host[1], host[0])


@given(st.dictionaries(st.sampled_from(sorted(Receipt("x").to_dict())), JSON))
def test_a_receipt_may_say_anything(values: dict[str, Any]) -> None:
    receipt = Receipt.from_dict(Receipt.of_text("j1", json.dumps(values)))
    assert receipt.sentence()
    assert isinstance(receipt.failure_line(), str)
    assert lifecycle.State(receipt.state)


@pytest.mark.parametrize("text", ["{", "[]", "5", "", "[" * 100_000])
def test_a_receipt_that_cannot_be_read_says_so(text: str) -> None:
    assert Receipt.of_text("j1", text)["state"] == "broken"


@pytest.mark.parametrize(
    "text", ["[" * 200 + "]" * 200, '"\\ud800"', '{"a":1,"a":2}', "NaN", "1e999", "9" * 21, b"\xff", "{'a': 1}", ""]
)
def test_json_that_could_hurt_is_none(text: str | bytes) -> None:
    with pytest.raises(strictjson.NotUsable):
        strictjson.parse(text)


@pytest.mark.parametrize(
    ("word", "shown", "is_final"),
    [
        ("succeeded", "succeeded", True),
        ("running", "running", False),
        ("suspended", "suspended", False),
        ("evicted (ended)", "evicted (ended)", True),
        ("a\nb", "broken", False),
        ("", "broken", False),
        ("x" * 99, "broken", False),
    ],
)
def test_states_of_a_newer_version_are_shown(word: str, shown: str, is_final: bool) -> None:
    state = lifecycle.State(word)
    assert (state.value, state.is_final) == (shown, is_final)
