"""Jobs, batches and hosts for programs: the JSON of the command line and of the gateway.

Owns their names: the receipt's, where it has the same thing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import admission, hostreport, incoming, pace, receipt
from celery_docker.core.admission import Room
from celery_docker.core.lifecycle import State
from celery_docker.core.recordfields import Fields
from celery_docker.core.waiting import Wait
from celery_docker.store.listing import BatchRow, JobRow, WorkerRow, state_of

_JSON_FIELDS = ("receipt", "spec", "attempts", "labels", "after")
_TIME_FIELDS = ("submitted_at", "claimed_at", "finished_at", "expires_at", "cancelled_at", "parked_at")
_NUMBER_FIELDS = (
    "attempt",
    "batch_index",
    "exit_code",
    "exits",
    "fence",
    "host_faults",
    "held",
    "pending",
    "pulled_bytes",
    "pull_size_bytes",
)
# What the listing says under another name, or nobody can read.
_UNLISTED = ("owner", "pending", "held", "message", "batch", "queue", "released", "share", "over_share")


def job_json(row: JobRow, wait: Wait | None) -> dict[str, Any]:
    """Return a job for programs."""
    return {
        "id": row.job_id,
        "name": row.name,
        "state": row.state.value,
        "reason": row.reason,
        "exit_code": row.exit_code,
        "image": row.image,
        "host": row.host,
        "attempt": row.attempt,
        "submitted_at": timestamp(row.submitted_at),
        "claimed_at": timestamp(row.claimed_at),
        "finished_at": timestamp(row.finished_at),
        "run_s": row.run_s,
        "queue": row.queue,
        "batch_id": row.batch_id,
        "batch_index": row.batch_index,
        "submitted_by": row.submitted_by,
        "uid": row.uid,
        "labels": dict(row.labels),
        "retry_of": row.retry_of,
        "waits_for": row.waits_for,
        "held": row.held,
        "cancel_reason": row.cancel_reason,
        "wait": None if wait is None else _wait_json(wait),
    }


def _wait_json(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind.value,
        "reason": wait.reason,
        "jobs_before": wait.jobs_before,
        "next_try_at": timestamp(wait.next_try_at),
    }


def record_json(row: JobRow, wait: Wait | None, record: Mapping[str, str]) -> dict[str, Any]:
    """Return all that is known of a job, each thing once: its record, its job document, and the rest of its receipt."""
    facts = {name: _value(name, text) for name, text in record.items() if name not in _UNLISTED}
    if "spec" not in facts:
        # Of a plain client's job there is only the message.
        parsed = incoming.of_envelope(row.job_id, incoming.of_record(row.job_id, record.get("message")))
        facts["spec"] = {**({"args": list(parsed.args)} if parsed.args else {}), **parsed.kwargs}
    facts.pop("receipt", None)
    ended = receipt.Receipt.of_text(row.job_id, record["receipt"]) if record.get("receipt") else {}
    facts["attempts"] = (ended or facts).get("attempts") or []
    listed = job_json(row, wait)
    merged = {**facts, **listed}
    rest = {name: value for name, value in ended.items() if name not in merged or merged[name] != value}
    return {
        **listed,
        **{name: value for name, value in merged.items() if name not in listed},
        "receipt": rest if ended else None,
    }


def without_values(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a job as `record_json` does, with the names of its environment only: the values may be secrets."""
    spec = document.get("spec")
    if not isinstance(spec, dict) or "env" not in spec:
        return dict(document)
    env = spec["env"]
    # Of a plain client's job it is as that has sent it.
    words = [*env] if isinstance(env, dict | list) else []
    names = [word.partition("=")[0] for word in words if isinstance(word, str)]
    return {**document, "spec": {**spec, "env": names}}


def _value(name: str, text: str) -> Any:
    """Return a field of a record for programs; as it is, where it cannot be read or is that of a newer version."""
    fields = Fields({name: text})
    if name == "needs" and (needs := admission.parse(text)) is not None:
        return hostreport.of_room(Room(needs.millicpus, needs.memory_bytes, needs.gpus))
    if name in _JSON_FIELDS:
        value = fields.json(name, list if name == "attempts" else dict)
    elif name in _TIME_FIELDS:
        value = timestamp(fields.moment(name))
    else:
        value = fields.whole(name) if name in _NUMBER_FIELDS else text
    return text if fields.problems else value


def batch_json(
    row: BatchRow, finished_at: float | None, now: float, upcoming: tuple[str, Wait] | None
) -> dict[str, Any]:
    """Return a batch for programs; `finished_at` is when the last of its jobs that have ended did.

    `upcoming` is the first of its jobs that no host has, with its wait.
    """
    since_s = elapsed_s(row, finished_at, now)
    return {
        "id": row.batch_id,
        "name": row.name,
        "size": row.size,
        "limit": row.limit,
        "submitted_by": row.submitted_by,
        "uid": row.uid,
        "submitted_at": timestamp(row.created_at),
        "finished_at": timestamp(finished_at) if pace.done(row.counts) >= row.size else None,
        "done": pace.done(row.counts),
        "counts": {state.value: row.counts[state] for state in State if row.counts.get(state)},
        "jobs_per_s": pace.rate(row.counts, since_s),
        "eta_s": pace.eta_s(row.counts, row.size, since_s),
        "next": None if upcoming is None else {"id": upcoming[0], "wait": _wait_json(upcoming[1])},
    }


def elapsed_s(row: BatchRow, finished_at: float | None, now: float) -> float:
    """Return for how long a batch has been running, or ran."""
    has_ended = finished_at is not None and pace.done(row.counts) >= row.size
    return (finished_at if has_ended and finished_at else now) - row.created_at


def timestamp(seconds: float | None) -> str | None:
    """Return a time since the epoch as RFC 3339 in UTC."""
    return None if seconds is None else receipt.rfc3339(datetime.fromtimestamp(seconds, UTC))


def host_json(row: WorkerRow, now: float) -> dict[str, Any]:
    """Return a host for programs; `now` is the time of the row."""
    return {
        "host": row.host,
        "state": state_of(row).value,
        "unit": row.about.get("unit"),
        "slots": row.about.get("slots"),
        "running": row.jobs,
        "version": row.about.get("version"),
        "heard_at": timestamp(now - row.heard_s),
        "heard_s": round(row.heard_s, 3),
        "clock_ahead_s": None if row.ahead_s is None else round(row.ahead_s, 3),
        "drained": row.drained,
        "status": row.about.get("status"),
        "queues": row.about.get("queues"),
        "docker": row.about.get("docker"),
        "offer": row.about.get("offer"),
        "free": row.about.get("free"),
        "started_at": row.about.get("started_at"),
    }
