"""Signatures: exact bytes for every set of arguments, and one line for each reason to refuse one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from celery_docker import errors
from celery_docker.core import canvas, incoming, message, signature
from celery_docker.core.access import Identity
from celery_docker.core.incoming import Incoming
from celery_docker.core.signature import Signature
from celery_docker.core.signingkeys import Keys
from celery_docker.core.timelimits import NO_LIMITS, Limits

KEY, OLD, OTHER = b"k" * 32, b"o" * 32, b"x" * 32
ALICE = Identity("alice", 1000, 1000, (27, 100))
NOW_S = 1_800_000_000.0
KWARGS = {"image": "busybox", "command": ["echo", "ä\U0001f600"], "cpus": 0.5, "env": {"A": "1", "B": "2"}}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def signed(key: bytes = KEY, *, now_s: float = NOW_S, changed: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the envelope of alice's job j1, its headers changed."""
    header = signature.sign(key, ALICE, "j1", "celery", KWARGS, now_s).header()
    envelope = message.task_message(
        "j1", KWARGS, queue="celery", tag="t", origin="1@h", more_headers={signature.HEADER: header}
    )
    return {**envelope, "headers": {**envelope["headers"], **(changed or {})}}


def read(envelope: dict[str, Any]) -> Incoming:
    """Return what a worker reads of an envelope that it takes from the queue."""
    parsed = incoming.parse(json.dumps(envelope), source="celery")
    assert isinstance(parsed, Incoming), parsed
    return parsed


def who(envelope: dict[str, Any], *, queue: str = "celery", keys: Keys = Keys(KEY), now_s: float = NOW_S) -> Any:  # noqa: B008  # frozen
    return incoming.submitter(read(envelope), queue, keys, now_s)


def exact(value: Any) -> Any:
    """Return a value with the kind of each part beside it: Python takes 1, 1.0 and True for the same."""
    if isinstance(value, dict):
        return {name: exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [exact(part) for part in value]
    return (type(value).__name__, repr(value))


@given(JSON, JSON)
def test_two_different_values_never_have_the_same_bytes(one: Any, other: Any) -> None:
    assert (signature.canonical(one) == signature.canonical(other)) == (exact(one) == exact(other))


@given(JSON)
def test_a_value_has_the_same_bytes_before_and_after_its_way_through_json(value: Any) -> None:
    assert signature.canonical(json.loads(json.dumps(value))) == signature.canonical(value)


@given(st.dictionaries(st.text(max_size=6), JSON, max_size=5))
def test_the_order_of_keys_is_none_of_the_arguments(table: dict[str, Any]) -> None:
    backwards = dict(reversed(table.items()))
    assert signature.canonical(backwards) == signature.canonical(table)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0, False),
        (0, None),
        (0.0, -0.0),
        ("1", 1),
        ("", None),
        ([], {}),
        ([[]], [[], []]),
        (["a", "b"], ["ab"]),
        (["a", "b"], ["a", ["b"]]),
        (["s1:a"], ["a"]),
        ({"a": "b"}, ["a", "b"]),
        ({"a": {"b": 1}}, {"a": {}, "b": 1}),
        ("\u00e4", "a\u0308"),
        ("i1;", 1),
        (0.1, 0.10000000000000002),
        (10**20, float(10**20)),
    ],
)
def test_near_twins_have_different_bytes(one: Any, other: Any) -> None:
    assert signature.canonical(one) != signature.canonical(other)


@pytest.mark.parametrize("value", [{1: "a"}, {"a": b"b"}, [object()], {"a", "b"}])
def test_what_json_cannot_say_has_no_bytes(value: Any) -> None:
    with pytest.raises(TypeError, match="JSON"):
        signature.canonical(value)


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_a_signed_job_names_its_submitter_on_the_other_side_of_redis(kwargs: dict[str, Any]) -> None:
    header = signature.sign(KEY, ALICE, "j1", "night", kwargs, NOW_S).header()
    envelope = message.task_message(
        "j1", kwargs, queue="night", tag="t", origin="1@h", more_headers={signature.HEADER: header}
    )
    taken = incoming.parse(json.dumps(envelope), source="night")
    assert isinstance(taken, Incoming)
    # As it was taken, and as the record holds it for adoption, retry and republish.
    for parsed in (taken, incoming.of_envelope("j1", incoming.of_record("j1", json.dumps(taken.envelope)))):
        assert incoming.submitter(parsed, "night", Keys(KEY), NOW_S) == ALICE


def test_a_job_without_a_signature_has_no_submitter() -> None:
    assert who(message.task_message("j1", KWARGS, queue="celery", tag="t", origin="1@h")) is None


def test_two_keys_are_valid_during_a_change() -> None:
    for keys in (Keys(KEY, old=OLD), Keys(OLD, coming=KEY)):
        assert who(signed(KEY), keys=keys) == who(signed(OLD), keys=keys) == ALICE


def forged(change: Callable[[Signature], Signature]) -> dict[str, Any]:
    """Return alice's job with a signature that somebody has changed without the key."""
    original = signature.parse(signed()["headers"][signature.HEADER])
    return signed(changed={signature.HEADER: change(original).header()})


@pytest.mark.parametrize(
    "change",
    [
        lambda s: replace(s, identity=replace(ALICE, uid=0)),
        lambda s: replace(s, identity=replace(ALICE, gid=0)),
        lambda s: replace(s, identity=replace(ALICE, groups=(0,))),
        lambda s: replace(s, identity=replace(ALICE, groups=(27, 100, 999))),
        lambda s: replace(s, identity=replace(ALICE, name="root")),
        lambda s: replace(s, queue="gpu"),
        lambda s: replace(s, job_id="j2"),
        lambda s: replace(s, digest="0" * 64),
        lambda s: replace(s, at_s=s.at_s + 1),
        lambda s: replace(s, not_after_s=1),
        lambda s: replace(s, mac="0" * 64),
        lambda s: replace(s, mac=""),
    ],
)
def test_whoever_changes_a_field_makes_the_signature_false(change: Callable[[Signature], Signature]) -> None:
    with pytest.raises(errors.SignatureError, match=r"^signature: it is false: somebody else made it, or changed it"):
        who(forged(change))


def body(args: Any = (), kwargs: Any = KWARGS, follows: Any = canvas.EMPTY) -> str:
    return message.body(args, kwargs, follows)


@pytest.mark.parametrize(
    "changed",
    [
        {"body": body(kwargs={**KWARGS, "user": "0"})},
        {"body": body(kwargs={**KWARGS, "logoutfile": "/etc/x"})},
        {"body": body(kwargs={**KWARGS, "retries": 9})},
        {"body": body(kwargs={**KWARGS, "cpus": 0.25})},
        {"body": body(kwargs={name: KWARGS[name] for name in ("image", "command", "cpus")})},
        {"body": body(args=["evil"])},
        {"body": body(follows={**canvas.EMPTY, "chain": [{"task": "tasks.run_docker", "immutable": True}]})},
        {"headers": {"timelimit": [5, None]}},
        {"headers": {"timelimit": [None, 5]}},
    ],
)
def test_what_runs_is_what_was_signed(changed: dict[str, Any]) -> None:
    envelope = signed(changed=changed.pop("headers", None))
    with pytest.raises(errors.SignatureError, match="the arguments were changed after it was made"):
        who({**envelope, **changed})


@pytest.mark.parametrize(
    ("envelope", "options", "reason"),
    [
        (signed(OTHER), {}, "signature: it is made with key [0-9a-f]{16}, which this host does not have"),
        (signed(changed={"id": "j2"}), {}, "signature: it is that of job j1; submit the job again"),
        (signed(), {"queue": "gpu"}, "submitted to queue 'celery' and comes from 'gpu': somebody has moved it"),
        (signed(now_s=NOW_S - 366 * 86_400), {}, "more than 365 days ago by this host's clock"),
        (signed(now_s=0), {}, "1970-01-01 00:00.*, more than 365 days ago"),
    ],
)
def test_each_reason_to_refuse_is_a_line_of_its_own(envelope: Any, options: Any, reason: str) -> None:
    with pytest.raises(errors.SignatureError, match=reason) as caught:
        who(envelope, **options)
    assert str(caught.value).startswith("signature: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ahead_s", [86_401, 365 * 86_400])
def test_a_clock_that_is_behind_is_the_hosts_fault_and_the_job_is_not_lost(ahead_s: int) -> None:
    with pytest.raises(errors.HostError, match="more than a day ahead of this host's clock"):
        who(signed(now_s=NOW_S + ahead_s))


@pytest.mark.parametrize("off_s", [86_400, 3600, 0, -3600, -30 * 86_400, -364 * 86_400])
def test_a_job_may_wait_for_months_and_clocks_may_differ_by_hours(off_s: int) -> None:
    assert who(signed(now_s=NOW_S + off_s)) == ALICE


@given(st.sampled_from(sorted(signed()["headers"][signature.HEADER])), JSON)
def test_any_field_of_a_signature_may_be_anything(name: str, value: Any) -> None:
    header = {**signed()["headers"][signature.HEADER], name: value}
    parsed = incoming.parse(json.dumps(signed(changed={signature.HEADER: header})), source="celery")
    if not isinstance(parsed, Incoming):
        assert parsed.job_id == "j1"
        assert parsed.reason.startswith(f"header {signature.HEADER}: ")
    elif exact(header) == exact(signed()["headers"][signature.HEADER]):
        assert incoming.submitter(parsed, "celery", Keys(KEY), NOW_S) == ALICE
    else:
        with pytest.raises(errors.SignatureError):
            incoming.submitter(parsed, "celery", Keys(KEY), NOW_S)


@given(JSON)
def test_any_header_may_stand_for_a_signature(value: Any) -> None:
    parsed = incoming.parse(json.dumps(signed(changed={signature.HEADER: value})), source="celery")
    assert not isinstance(parsed, Incoming)
    assert parsed.job_id == "j1"


def test_the_expiry_that_was_signed_holds_where_the_record_is_gone() -> None:
    header = signature.sign(KEY, ALICE, "j1", "celery", KWARGS, NOW_S, not_after_s=1_800_000_060).header()
    assert read(signed(changed={signature.HEADER: header})).term.not_after == 1_800_000_060


def test_a_celery_time_limit_is_part_of_the_digest() -> None:
    sums = {signature.digest((), KWARGS, canvas.EMPTY, limits) for limits in (NO_LIMITS, Limits(5), Limits(None, 5))}
    assert len(sums) == 3
