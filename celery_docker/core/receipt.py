"""The receipt: what is told about a job that has ended, in the record, the Celery result and `--json` alike.

Owns the names and units of its fields: times are RFC 3339 in UTC, durations seconds, sizes bytes; unknown is None.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from celery_docker.core import jobspec, lifecycle, output
from celery_docker.core.container import Stream, Usage


@dataclass
class Attempt:
    """What is known so far of one attempt; the runner fills it in as it goes."""

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
        """Return the line about this attempt in a receipt's `attempts`."""
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
    """How a job ended. `output` is the end of its streams, `last_stderr_line` the last line on its standard error.

    `attempts` has one entry each, oldest first.
    """

    id: str
    name: str | None
    state: str
    reason: str | None
    exit_code: int | None
    signal: int | None
    oom_killed: bool | None
    image: str | None
    image_digest: str | None
    host: str
    container_id: str | None
    attempts: tuple[Mapping[str, Any], ...]
    submitted_at: str | None
    started_at: str | None
    finished_at: str | None
    queue_s: float | None
    pull_s: float | None
    run_s: float | None
    cpu_s: float | None
    memory_peak_bytes: int | None
    logoutfile: str | None
    logerrfile: str | None
    stdout_bytes: int | None
    stderr_bytes: int | None
    output: str
    output_truncated: bool
    last_stderr_line: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form, with these fields in this order."""
        return asdict(self)


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
    """Return the receipt of a job whose last attempt came to `outcome`. `spec` is None where it could not be read."""
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


def sentence(receipt: Mapping[str, Any]) -> str:
    """Return a receipt in one line for people, the state first; nothing of the job's own output is in it."""
    said = receipt["reason"] or f"in {receipt['run_s']} s"
    tried = f", attempt {len(receipt['attempts'])}" if receipt["attempts"] else ""
    return f"{receipt['state']}: {said} (host {receipt['host']}{tried})"


def failure_line(receipt: Mapping[str, Any]) -> str:
    """Return the reason of a failure in one line, with the last line that the job printed."""
    line = last_output_line(receipt)
    return f"{sentence(receipt)}; last line of output: {line}" if line else sentence(receipt)


def last_output_line(receipt: Mapping[str, Any]) -> str:
    """Return the last line that a job printed, on its standard error if anything; empty if it printed nothing."""
    # The second is the key in receipts of earlier versions.
    stderr_line = receipt.get("last_stderr_line") or receipt.get("last_complaint")
    return stderr_line or output.last_line(receipt.get("output") or "")


def rfc3339(moment: datetime | None) -> str | None:
    """Return a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None


def _from_epoch(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _was_tried(outcome: lifecycle.Outcome, attempt: Attempt) -> bool:
    """A job that was called off while it waited had no attempt, although a host had to take it to end it."""
    return attempt.container_id is not None or outcome.cause not in lifecycle.ENDED_BEFORE_RUN


def _queue_s(submitted_at: float | None, attempt: Attempt, earlier: Sequence[Mapping[str, Any]]) -> float | None:
    if submitted_at is None:
        return None
    first = datetime.fromisoformat(earlier[0]["started_at"]) if earlier else attempt.claimed_at
    return max(0.0, round(first.timestamp() - submitted_at, 3))
