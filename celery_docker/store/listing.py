"""Rows of listings of jobs, batches and workers, made from the fields of their records. Pure.

Times are seconds since the epoch by Redis' clock; None is unknown, or not yet.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from celery_docker.core import admission, hostreport, hoststate, lifecycle, message
from celery_docker.core.admission import NOTHING, Needs
from celery_docker.core.hoststate import SILENT_S, WorkerState
from celery_docker.core.recordfields import Fields
from celery_docker.core.waiting import HostFacts

ROW_FIELDS = (
    "state",
    "name",
    "image",
    "owner",
    "queue",
    "batch",
    "batch_index",
    "submitted_at",
    "claimed_at",
    "finished_at",
    "exit_code",
    "attempt",
    "reason",
    "run_s",
    "submitted_by",
    "labels",
    "retry_of",
    "pending",
    "held",
    "cancel_reason",
    "pulled_bytes",
    "pull_size_bytes",
    "uid",
    "needs",
    "parked_at",
    "share",
    "over_share",
)


@dataclass(frozen=True, slots=True)
class JobRow:
    """A job as a listing shows it. Times are seconds since the epoch by Redis' clock; None is unknown or not yet.

    `waits_for` how many other jobs have to succeed first; `held` says that the limit of its batch keeps it back.
    `claimed_at` is of the latest attempt. A job that is being cancelled has a `cancel_reason` and no final state yet.
    `uid` is the number of the user who submitted it through the gateway.
    `pull` has the bytes of its image that were pulled, and all that are known of; None where no pull has begun.
    `needs` is what it takes of a host's offer, as far as that is known; `parked_at` since when it waits for room.
    `over_share`: other jobs of its submitter have all the places of its `share`, so that it is held back.
    """

    job_id: str
    state: lifecycle.State
    name: str | None
    image: str | None
    host: str | None
    queue: str | None
    batch_id: str | None
    batch_index: int | None
    submitted_at: float | None
    claimed_at: float | None
    finished_at: float | None
    exit_code: int | None
    attempt: int
    reason: str | None
    run_s: float | None
    submitted_by: str | None
    labels: Mapping[str, str]
    retry_of: str | None
    waits_for: int
    held: bool
    cancel_reason: str | None
    pull: tuple[int, int] | None = None
    uid: int | None = None
    needs: Needs = NOTHING
    parked_at: float | None = None
    share: str = ""
    over_share: bool = False


@dataclass(frozen=True)
class BatchRow:
    """A batch: `counts` has the number of its jobs in each state, `size` how many it was to have."""

    batch_id: str
    name: str | None
    created_at: float
    size: int
    limit: int | None
    submitted_by: str | None
    counts: Mapping[str, int]
    uid: int | None = None


@dataclass(frozen=True)
class WorkerRow:
    """A host that takes jobs; `heard_s` seconds ago it sent a heartbeat. `drained`: who keeps it from taking any.

    `ahead_s` is by how much its clock was ahead of Redis' then. A `lost` one takes none until it comes back.
    """

    host: str
    heard_s: float
    ahead_s: float | None
    jobs: int
    about: Mapping[str, Any]
    drained: str | None
    lost: bool


@dataclass(frozen=True)
class Load:
    """The number of jobs in the hands of hosts, in queues, waiting for their time, and of those held back.

    The last wait for other jobs, for their batch or for others of their submitter.
    """

    in_hand: int
    queued: int
    delayed: int
    blocked: int


@dataclass(frozen=True)
class Match:
    """The job or the batch that an id, or the beginning of one, stands for."""

    name: str
    is_batch: bool


def job(job_id: str, values: Sequence[str | None]) -> JobRow:
    """Return the row of a job from the values of `ROW_FIELDS`."""
    present = {name: value for name, value in zip(ROW_FIELDS, values, strict=True) if value}
    cells = Fields(present)
    row = JobRow(
        job_id=job_id,
        state=lifecycle.State(present["state"]),
        name=present.get("name"),
        image=present.get("image"),
        host=present.get("owner"),
        queue=message.queue_name(present["queue"]) if "queue" in present else None,
        batch_id=present.get("batch"),
        batch_index=cells.whole("batch_index"),
        submitted_at=cells.moment("submitted_at"),
        claimed_at=cells.moment("claimed_at"),
        finished_at=cells.moment("finished_at"),
        exit_code=cells.whole("exit_code"),
        attempt=cells.count("attempt"),
        reason=present.get("reason"),
        run_s=cells.number("run_s"),
        submitted_by=present.get("submitted_by"),
        labels=cells.words("labels"),
        retry_of=present.get("retry_of"),
        waits_for=cells.count("pending"),
        held="held" in present,
        cancel_reason=present.get("cancel_reason"),
        pull=_pull(cells),
        uid=cells.whole("uid"),
        needs=admission.parse(present.get("needs")) or NOTHING,
        parked_at=cells.moment("parked_at"),
        share=present.get("share", ""),
        over_share="over_share" in present,
    )
    return _named(row, cells.problems)


def of_record(job_id: str, whole: Mapping[str, str]) -> JobRow:
    """Return the row of a job from its whole record, which has a state."""
    state = whole["state"]
    # As `rows.lua` says it.
    if state != lifecycle.BROKEN and not lifecycle.State(state).is_known and "receipt" in whole:
        state += lifecycle.HAS_ENDED
    return job(job_id, [state, *(whole.get(name) for name in ROW_FIELDS[1:])])


def _named(row: JobRow, problems: Sequence[str]) -> JobRow:
    """Return the row of a job with the reason why its record cannot be read, where that is so."""
    if problems:
        ended = lifecycle.HAS_ENDED if row.state.is_final or row.finished_at is not None else ""
        reason = f"its record is broken: {'; '.join(problems)}"
        return replace(row, state=lifecycle.State(lifecycle.BROKEN + ended), reason=reason)
    if row.state.is_known:
        return row
    word = row.state.value.removesuffix(lifecycle.HAS_ENDED)
    reason = "its record is broken" if word == lifecycle.BROKEN else f"this version does not know the state {word!r}"
    return replace(row, reason=row.reason or reason)


def batch(batch_id: str, record: Mapping[str, str], flat: Sequence[Any]) -> BatchRow:
    """Return the row of a batch from its hash, and from state, count, state, count..."""
    fields = Fields(record)
    return BatchRow(
        batch_id=batch_id,
        name=record.get("name"),
        created_at=fields.moment("created_at") or 0.0,
        size=fields.count("size"),
        limit=fields.whole("limit"),
        submitted_by=record.get("submitted_by"),
        counts=_counts(flat),
        uid=fields.whole("uid"),
    )


def _counts(flat: Sequence[Any]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for state, count in zip(flat[::2], flat[1::2], strict=True):
        counts[lifecycle.State(state).value] += int(count)
    return dict(counts)


def ahead_s(clock: object, heard_at: float) -> float | None:
    """Return by how much a host's clock was ahead when it sent a heartbeat; None where it did not say."""
    try:
        return datetime.fromisoformat(str(clock)).timestamp() - heard_at
    except (ValueError, OverflowError):
        return None


def _pull(cells: Fields) -> tuple[int, int] | None:
    pulled_bytes = cells.whole("pulled_bytes")
    return None if pulled_bytes is None else (pulled_bytes, cells.count("pull_size_bytes"))


def state_of(row: WorkerRow) -> WorkerState:
    """Return the state of a host; of several reasons that keep it from jobs, the gravest."""
    if row.lost:
        return WorkerState.LOST
    if row.heard_s > SILENT_S:
        return WorkerState.SILENT
    if hoststate.is_stopping(row.about):
        return WorkerState.STOPPING
    if row.drained is not None:
        return WorkerState.DRAINED
    return WorkerState.READY if hoststate.is_accepting(row.about) else WorkerState.SICK


def host_facts(row: WorkerRow) -> HostFacts:
    """Return what the waits of jobs depend on of a host."""
    return HostFacts(
        row.host,
        queues=tuple(row.about.get("queues", ())),
        free_slots=int(row.about.get("slots", 0)) - row.jobs,
        obstacle=_obstacle(row),
        silent_s=row.heard_s,
        is_lost=row.lost,
        offer=hostreport.offer(row.about),
        room=hostreport.room(row.about),
        reserved_for=hostreport.reserved_for(row.about),
    )


def _obstacle(row: WorkerRow) -> str:
    if row.drained is not None:
        return f"drained by {row.drained}"
    return hoststate.obstacle(row.about)
