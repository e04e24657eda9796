"""The end of queued jobs on request: a cancel, an expiry, a loss. Many at a time, and without a slot.

Owns the order of the steps, the one of `runner`: the record, then Celery's result, then the host lets go of the job.
Invariant: a job that has begun is left to its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from celery_docker.core import journal, lifecycle, message, noticetargets, output, receipt
from celery_docker.core.jobrecord import Claim, Finished, Holding, JobToEnd, Verdict
from celery_docker.core.lifecycle import Outcome
from celery_docker.run import jobevents
from celery_docker.run.ports import Records
from celery_docker.run.retrying import Retrying
from celery_docker.run.slottable import SlotTable

_NO_RETRIES = lifecycle.Budget(max_retries=0, retry_delay_s=0)


@dataclass(frozen=True)
class QueuedEnd:
    """The end of a job that was queued: what was known of it, and its receipt."""

    job: JobToEnd
    receipt: receipt.Receipt

    @property
    def state(self) -> lifecycle.State:
        return lifecycle.State(self.receipt.state)


@dataclass
class QueuedEnds:
    """Ends queued jobs on one host; `tell` stores Celery's results and returns the ids of the jobs that are told.

    A job that could not be told stays this host's, and is looked at again.
    """

    records: Records
    slot_table: SlotTable
    retrying: Retrying
    host: str
    retention_s: int
    tell: Callable[[Sequence[QueuedEnd]], Sequence[str]]
    # The ids of the jobs that no line has named yet, by their end.
    _ended: dict[tuple[lifecycle.State, str], list[str]] = field(default_factory=dict)

    def end(self, jobs: Sequence[JobToEnd], *, more: bool) -> int:
        """End those of the jobs that no host has; return how many these were.

        With `more` of them to come, the journal's line about all of them waits for the last.
        """
        # Whoever takes the message of one meanwhile waits for its end, and then tells what follows the job.
        reserved = [job for job in jobs if self.slot_table.reserve(job.job_id, leaving=True)]
        try:
            ends = self._finished(reserved)
            if ends:
                job_ids = self.tell(ends)
                self.retrying.until_stored(
                    lambda: self.records.settle_many(job_ids, host=self.host, retention_s=self.retention_s)
                )
        finally:
            for job in reserved:
                self.slot_table.free(job.job_id)
        self._log(ends, more)
        return len(ends)

    def _finished(self, jobs: Sequence[JobToEnd]) -> list[QueuedEnd]:
        """Claim the jobs and write their receipts; those that another host has, or had begun here, are left out."""
        if not jobs:
            return []
        claims = self.retrying.until_stored(lambda: self.records.claim_many(jobs, host=self.host))
        pairs = [(job, claim) for job, claim in zip(jobs, claims, strict=True) if claim.verdict is Verdict.RUN]
        ends = [QueuedEnd(job, self._receipt(job, claim)) for job, claim in pairs]
        finished = [
            Finished(_holding(end.job, self.host, claim), end.state, end.receipt.to_dict(), _notices(end.job))
            for end, (_, claim) in zip(ends, pairs, strict=True)
        ]
        answers = self.retrying.until_stored(lambda: self.records.finish_many(finished))
        return self._with_messages([end for end, is_owner in zip(ends, answers, strict=True) if is_owner])

    def _with_messages(self, ends: list[QueuedEnd]) -> list[QueuedEnd]:
        """Add the messages that other hosts have taken since, of jobs whose message nobody had read."""
        if all(end.job.envelope is not None for end in ends):
            return ends
        messages = self.retrying.until_stored(lambda: self.records.owned(self.host))
        return [
            replace(end, job=replace(end.job, envelope=messages.get(end.job.job_id)))
            if end.job.envelope is None
            else end
            for end in ends
        ]

    def _receipt(self, job: JobToEnd, claim: Claim) -> receipt.Receipt:
        request = claim.end_request or job.request
        outcome = Outcome(request.cause, request.reason)
        decision = lifecycle.decide(outcome, claim.tally, _NO_RETRIES, draw=2)
        return receipt.build(
            job.job_id,
            None,
            state=decision.state if isinstance(decision, lifecycle.Finish) else lifecycle.State.ERROR,
            outcome=outcome,
            attempt=receipt.Attempt(claim.attempt, self.host, datetime.now(UTC)),
            earlier=claim.attempts,
            submitted_at=claim.submitted_at,
            tail=output.Tail(),
        )

    def _log(self, ends: Sequence[QueuedEnd], more: bool) -> None:
        """Write one line about all jobs with the same end, such as those of a batch that was cancelled.

        As many as an entry of the journal can name: with more of them there are more lines.
        """
        for end in ends:
            self._ended.setdefault((end.state, end.receipt.sentence()), []).append(end.job.job_id)
        for (state, sentence), job_ids in list(self._ended.items()):
            while len(job_ids) >= journal.MOST_JOBS or (job_ids and not more):
                portion, job_ids[:] = job_ids[: journal.MOST_JOBS], job_ids[journal.MOST_JOBS :]
                jobevents.ended_queued(state, portion, sentence, self.host)
            if not more:
                del self._ended[state, sentence]


def _notices(job: JobToEnd) -> int:
    """Return how many notices of a job's end are to be sent; whoever sends one asks whether it is allowed."""
    return 0 if job.envelope is None else noticetargets.count_in(message.arguments(job.envelope)[1])


def _holding(job: JobToEnd, host: str, claim: Claim) -> Holding:
    return Holding(job.job_id, host, claim.fence, job.queue, job.envelope or {})
