"""The receipt: the account of a job's end, the same in the record, the Celery result and `--json`.

Owns the names and units of its fields: times are RFC 3339 in UTC, durations seconds, sizes bytes; unknown is None.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import jobspec, lifecycle, output, strictjson
from celery_docker.core.container import Stream, Usage


@dataclass
class Attempt:
    """The facts about one attempt; the runner fills them in as it goes."""

    number: int
    host: str
    claimed_at: datetime
    container_id: str | None = None
    image_digest: str | None = None
    pull_s: float | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def run_s(self) -> float | None:
        if self.started_at is None or self.finished_at is None:
            return None
        # Docker reads the clock for each in another place; a job of no length can come out below zero.
        return max(0.0, round((self.finished_at - self.started_at).total_seconds(), 3))

    def entry(self, outcome: lifecycle.Outcome) -> dict[str, Any]:
        """Return the entry about this attempt in a receipt's `attempts`."""
        return {
            "attempt": self.number,
            "host": self.host,
            "container_id": self.container_id,
            "started_at": rfc3339(self.started_at or self.claimed_at),
            "finished_at": rfc3339(self.finished_at),
            "exit_code": outcome.exit_code,
            "reason": outcome.reason or None,
        }


@dataclass(frozen=True)
class Receipt:
    """The account of a job's end. `output` is the end of its streams, `last_stderr_line` that of its standard error.

    `attempts` has one entry each, oldest first.
    """

    id: str
    name: str | None = None
    state: str = ""
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    oom_killed: bool | None = None
    image: str | None = None
    image_digest: str | None = None
    host: str = ""
    container_id: str | None = None
    attempts: tuple[Mapping[str, Any], ...] = ()
    submitted_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    queue_s: float | None = None
    pull_s: float | None = None
    run_s: float | None = None
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None
    logoutfile: str | None = None
    logerrfile: str | None = None
    stdout_bytes: int | None = None
    stderr_bytes: int | None = None
    output: str = ""
    output_truncated: bool = False
    last_stderr_line: str | None = None

    @classmethod
    def of_text(cls, job_id: str, text: str | bytes) -> dict[str, Any]:
        """Return a receipt as Redis has it; one that cannot be read says so, and nothing else.

        A field of a newer version is kept, one of another kind than ours is left out.
        """
        try:
            values = strictjson.table(text)
        except strictjson.NotUsable as exc:
            return cls(job_id, state=lifecycle.BROKEN, reason=f"its receipt in Redis {exc}").to_dict()
        return cls.of_table(job_id, values)

    @classmethod
    def of_table(cls, job_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return a receipt from what a table says; fields are kept and left out as `of_text` says."""
        usable = {
            name: value for name, value in values.items() if name not in _KINDS or isinstance(value, _KINDS[name])
        }
        usable["attempts"] = [entry for entry in usable.get("attempts", ()) if isinstance(entry, dict)]
        state = lifecycle.State(str(usable.get("state"))).value
        return {**usable, "id": job_id, "state": state}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Receipt:
        """Return a stored receipt, of this version or another: a missing field is unknown, one too many is ignored."""
        present = {name: value for name, value in values.items() if name in _NAMES and value is not None}
        present["attempts"] = tuple(present.get("attempts", ()))
        # Receipts of earlier versions have this line under another name.
        present.setdefault("last_stderr_line", values.get("last_complaint"))
        return cls(**{"id": "", **present})

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form, with these fields in this order."""
        return {**vars(self), "attempts": tuple([dict(entry) for entry in self.attempts])}

    def sentence(self) -> str:
        """Return the receipt in one line for people, the state first; nothing of the job's own output is in it."""
        time = "" if self.run_s is None else f" in {self.run_s} s"
        result = f": {self.reason}" if self.reason else time
        attempts = f", attempt {len(self.attempts)}" if self.attempts else ""
        return f"{self.state}{result} (host {self.host}{attempts})"

    def failure_line(self) -> str:
        """Return the reason of a failure in one line, with the last line that the job printed."""
        line = self.last_output_line()
        return f"{self.sentence()}; last line of output: {line}" if line else self.sentence()

    def last_output_line(self) -> str:
        """Return the last line that the job printed, on its standard error if anything; empty if it printed nothing."""
        return self.last_stderr_line or output.last_line(self.output)


_NAMES = frozenset(line.name for line in fields(Receipt))
_TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
# What JSON may say for each field, from its annotation.
_KINDS: Mapping[str, tuple[type, ...]] = {
    line.name: (
        *_TYPES.get(str(line.type).partition(" ")[0], (list,)),
        *((type(None),) if "None" in str(line.type) else ()),
    )
    for line in fields(Receipt)
}


def build(
    job_id: str,
    spec: jobspec.JobSpec | None,
    *,
    state: lifecycle.State,
    outcome: lifecycle.Outcome,
    attempt: Attempt,
    earlier: Sequence[Mapping[str, Any]],
    submitted_at: float | None,
    tail: output.Tail,
) -> Receipt:
    """Return the receipt of a job whose last attempt ended with `outcome`. `spec` is None if it could not be parsed."""
    entries = (*earlier, attempt.entry(outcome)) if _was_tried(outcome, attempt) else tuple(earlier)
    ran = attempt.started_at is not None
    return Receipt(
        id=job_id,
        name=spec.name if spec else None,
        state=state.value,
        reason=outcome.reason or None,
        exit_code=outcome.exit_code,
        signal=lifecycle.signal_of(outcome.exit_code),
        oom_killed=outcome.oom_killed,
        image=spec.image if spec else None,
        image_digest=attempt.image_digest,
        host=attempt.host,
        container_id=attempt.container_id,
        attempts=entries,
        submitted_at=rfc3339(_from_epoch(submitted_at)),
        started_at=rfc3339(attempt.started_at),
        finished_at=rfc3339(attempt.finished_at),
        queue_s=_queue_s(submitted_at, attempt, earlier),
        pull_s=attempt.pull_s,
        run_s=attempt.run_s,
        cpu_s=attempt.usage.cpu_s,
        memory_peak_bytes=attempt.usage.memory_peak_bytes,
        logoutfile=spec.logoutfile if spec else None,
        logerrfile=spec.logerrfile if spec else None,
        stdout_bytes=tail.byte_counts[Stream.STDOUT] if ran else None,
        stderr_bytes=tail.byte_counts[Stream.STDERR] if ran else None,
        output=tail.text(),
        output_truncated=tail.truncated,
        last_stderr_line=tail.last_stderr_line,
    )


def rfc3339(moment: datetime | None) -> str | None:
    """Return a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def _from_epoch(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _was_tried(outcome: lifecycle.Outcome, attempt: Attempt) -> bool:
    """Return False for a job that ended while it waited: a host had to take it to end it, but there was no attempt."""
    return attempt.container_id is not None or outcome.cause not in lifecycle.ENDED_BEFORE_RUN


def _queue_s(submitted_at: float | None, attempt: Attempt, earlier: Sequence[Mapping[str, Any]]) -> float | None:
    if submitted_at is None:
        return None
    first = datetime.fromisoformat(earlier[0]["started_at"]) if earlier else attempt.claimed_at
    return max(0.0, round(first.timestamp() - submitted_at, 3))
