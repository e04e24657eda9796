"""Answers of gateways of other versions, and of servers that are none: each is read, or refused in a line."""

from __future__ import annotations

import contextlib
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from celery_docker import errors
from celery_docker.client import understood
from celery_docker.client.httpsocket import HttpSocket
from celery_docker.client.remote import Remote
from celery_docker.core.waiting import Wait, WaitKind

ID, AT = "5b1d5a3e-4b0e-4c3a-9a3e-5b1d5a3e4b0e", "2026-11-27T16:43:16.911Z"
JOB = {
    **dict.fromkeys(("batch_id", "batch_index", "reason", "retry_of", "cancel_reason")),
    **{"id": ID, "state": "queued", "name": "n", "image": "i", "host": "h", "queue": "q", "submitted_by": "a"},
    **{"submitted_at": AT, "claimed_at": AT, "finished_at": AT, "exit_code": 0, "attempt": 1, "run_s": 1.0, "uid": 0},
    **{"labels": {"a": "b"}, "waits_for": 0, "held": False, "attempts": [], "spec": {"image": "i"}},
    "wait": {"kind": "retry", "reason": "r", "next_try_at": AT, "jobs_before": 1},
}
BATCH = {
    **{"id": ID, "name": "b", "size": 1, "limit": None, "submitted_by": "a", "uid": 0, "submitted_at": AT},
    **{"finished_at": AT, "counts": {"succeeded": 1}, "template": "t", "failed": [ID], "jobs": [ID]},
}
HOST = {
    **{"host": "h", "running": 0, "heard_s": 0.1, "clock_ahead_s": 0.0, "drained": None, "lost": False},
    "report": {"slots": 1},
}
SUMMARY = {
    "jobs": {"in_hand": 0, "queued": 0, "delayed": 0, "blocked": 0},
    **{"queues": {"q": 1}, "workers": {"ready": 1}, "slots": 1, "waits": {"q": "no worker"}},
}
PIECE = {"stream": "stdout", "attempt": 1, "offset": 0, "base64": "YQ=="}
RECEIPT = {"state": "succeeded", "id": ID, "exit_code": 0, "output": "hi", "attempts": [{"number": 1}]}
STATES = {"states": ["succeeded"], "receipts": [RECEIPT]}

READS: list[tuple[Any, Callable[[Remote], Any]]] = [
    ({"jobs": [JOB], "next": None}, lambda way: way.queries.jobs.rows([ID])),
    ({"jobs": [JOB], "next": None}, lambda way: list(way.queries.jobs.each_recent())),
    ({"jobs": [JOB], "next": None}, lambda way: list(way.queries.jobs.each_live())),
    ({"jobs": [JOB], "next": None}, lambda way: way.queries.jobs.fields([ID], "state", "owner", "labels")),
    ({"jobs": [JOB], "next": None}, lambda way: way.queries.waits.of(way.queries.jobs.rows([ID]))),
    ({**JOB, **BATCH, "jobs": [JOB]}, lambda way: way.queries.waits.attempts([ID])),
    (STATES, lambda way: way.queries.jobs.fields([ID], "state")),
    (STATES, lambda way: way.queries.jobs.receipts([ID])),
    (STATES, lambda way: list(way.queries.jobs.receipt_texts([ID]))),
    (STATES, lambda way: way.log.receipt(ID)),
    ({"pieces": [PIECE], "last": "1-0", "has_ended": True}, lambda way: way.log.entries(ID, "0-0", 1, 32)),
    ({"id": ID, "is_batch": False}, lambda way: way.queries.jobs.resolve(ID)),
    ({"id": ID, "is_batch": True}, lambda way: way.queries.batches.resolve(ID)),
    ({"id": ID, "is_batch": True}, lambda way: way.queries.match(ID)),
    ({"id": ID, "settled": True}, lambda way: way.queries.jobs.is_settled(ID, "h")),
    (BATCH, lambda way: way.queries.batches.row(ID)),
    (BATCH, lambda way: way.queries.batches.ends(ID, ())),
    (BATCH, lambda way: way.queries.batches.going(ID)),
    (BATCH, lambda way: way.queries.batches.job_ids(ID)),
    ({"jobs": [JOB], "next": None}, lambda way: list(way.queries.batches.each_job(ID, "state", "exit_code", "owner"))),
    (BATCH, lambda way: way.queries.batches.field(ID, "template")),
    ({"batches": [BATCH], "next": None}, lambda way: way.queries.batches.of_template("t")),
    ({"hosts": [HOST]}, lambda way: way.queries.hosts.rows()),
    (SUMMARY, lambda way: way.summary("q")),
    (SUMMARY, lambda way: way.queries.jobs.load()),
    (SUMMARY, lambda way: way.queries.jobs.queue_lengths(["q"])),
    ({"now": AT}, lambda way: way.queries.now()),
    ({"name": "a", "uid": 1, "gid": 1, "groups": [1]}, lambda way: way.submitter()),
    ({"jobs": [{"id": ID, "state": "running"}]}, lambda way: way.cancel_many([ID], "why")),
]
MISSING = object()
OTHERS: tuple[Any, ...] = (None, 5, -1, True, 1e300, "x", "\ud800", [], ["x"], {}, {"x": 1}, MISSING)


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, entry in inside:
        yield (*above, name)
        yield from places(entry, (*above, name))


def changed(answer: Any, place: tuple[Any, ...], other: Any) -> Any:
    whole = copy.deepcopy(answer)
    table = whole
    for name in place[:-1]:
        table = table[name]
    if other is MISSING:
        del table[place[-1]]
    else:
        table[place[-1]] = other
    return whole


@pytest.mark.parametrize(("answer", "read"), READS)
def test_whatever_is_answered_is_read_or_refused(
    monkeypatch: pytest.MonkeyPatch, answer: Any, read: Callable[[Remote], Any]
) -> None:
    given = [answer]
    monkeypatch.setattr(HttpSocket, "send", lambda *_, **__: copy.deepcopy(given[0]))
    way = Remote("http+unix:///none", "")
    read(way)
    for place in places(answer):
        for other in OTHERS:
            given[0] = changed(answer, place, other)
            if "next" in place and isinstance(other, str | int | float | list | dict):
                continue  # It has another page, and so on.
            with contextlib.suppress(errors.StoreRefused, errors.NoSuchJob):
                repr(read(way))


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HttpSocket, "send", lambda *_, **__: {"jobs": [{**JOB, "labels": 5}], "next": None})
    line = r"its answer is another: labels is 5; install the same package on both hosts"
    with pytest.raises(errors.StoreRefused, match=line):
        Remote("http+unix:///none", "").queries.jobs.rows([ID])
    monkeypatch.setattr(HttpSocket, "send", lambda *_, **__: {})
    with pytest.raises(errors.StoreRefused, match="its answer lacks 'jobs'"):
        list(Remote("http+unix:///none", "").queries.jobs.each_recent())


def test_a_newer_gateway_is_shown_as_far_as_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {**JOB, "state": "paused", "news": 1, "wait": {"kind": "moon", "reason": "it is not full", "news": 1}}
    monkeypatch.setattr(HttpSocket, "send", lambda *_, **__: {"jobs": [row], "next": None, "news": 1})
    queries = Remote("http+unix:///none", "").queries
    assert [job.state.value for job in queries.jobs.rows([ID])] == ["paused"]
    assert queries.waits.of(queries.jobs.rows([ID])) == {}


def test_a_template_is_looked_for_in_all_batches_that_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def send(_: HttpSocket, *place: str, query: str) -> Any:
        asked.append(query)
        return {"batches": [{**BATCH, "id": f"b{len(asked)}"}], "next": "1.0_b" if len(asked) < 9 else None}

    monkeypatch.setattr(HttpSocket, "send", send)
    assert Remote("http+unix:///none", "").queries.batches.of_template("t") == ["b1", "b2"]
    assert asked == ["limit=500", "limit=500&before=1.0_b"]


def test_no_mistake_of_a_caller_is_the_gateways(monkeypatch: pytest.MonkeyPatch) -> None:
    def before(_: str) -> None:
        raise KeyError("mine")

    monkeypatch.setattr(HttpSocket, "send", lambda *_, **__: {})
    from celery_docker.client import documents

    with pytest.raises(KeyError, match="mine"):
        Remote("http+unix:///none", "").submit(*documents.parsed({"image": "busybox"}), before)


def test_kinds_are_told_apart() -> None:
    assert understood.checked(Wait(WaitKind.RETRY, "r", 1, None))
    for wrong in (Wait(WaitKind.RETRY, "r", True), Wait(WaitKind.RETRY, "r", 1e300), Wait(WaitKind.RETRY, None)):  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            understood.checked(wrong)
    assert json.dumps(understood.table({"a": 1, "b": []}, a=int, b=list[str])) == '{"a": 1, "b": []}'
