"""One job, from the claim of its message to its receipt.

Owns the order of the steps. Every decision is asked of the core, every action of a port. Invariant: whatever is said
here about a job is said in this order, each step repeated until it is done: the record, then Celery's result, then the
container goes. Assume that the process died a line ago: the record and the container's name say what was done.
"""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from celery_docker import errors
from celery_docker.core import container, incoming, jobspec, lifecycle, message, receipt, settings
from celery_docker.core.admission import Needs
from celery_docker.core.jobrecord import Claim, Verdict
from celery_docker.core.lifecycle import Cause, EndRequest, Outcome
from celery_docker.run import authority, jobevents, room
from celery_docker.run.attempt import Attempts
from celery_docker.run.job import Delivery, Job
from celery_docker.run.job import delivery as delivery_of
from celery_docker.run.ports import Announcer, Records
from celery_docker.run.retrying import Retrying
from celery_docker.run.room import Ledger
from celery_docker.run.slottable import SlotTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """The job is over and its record says so; `sentence` is one line, the state first."""

    state: lifecycle.State
    sentence: str
    receipt: Mapping[str, Any]


@dataclass(frozen=True)
class LetGo:
    """The job is not over, and not in this slot any more: it waits for a retry, or has another owner."""

    sentence: str


def _nobody(_image_id: str) -> None: ...


@dataclass
class Runner:
    """Runs jobs on one host. Thread-safe: each slot is a thread that calls `claim`, `run` and `done` for one job."""

    attempts: Attempts
    records: Records
    settings: settings.Settings
    host: str
    retrying: Retrying
    slot_table: SlotTable = field(default_factory=SlotTable)
    ledger: Ledger = field(default_factory=Ledger)
    # Hears the id of the image of each job that leaves its slot.
    on_image_used: Callable[[str], object] = _nobody

    def claim(self, delivery: Delivery) -> Job | None:
        """Take the job of a message if it is this host's to take; None means: drop the message.

        Never raises: while Redis is away it waits.
        """
        if not self._reserve(delivery.job_id):
            log.info("a second delivery was dropped: the job is in a slot here", extra={"job": delivery.job_id})
            return None
        try:
            needs = self._needs(delivery)
            lease = self.ledger.take(delivery.job_id, needs)
            claim = self._ask_claim(delivery, needs, fits=lease is not None)
            is_known = claim.verdict in (Verdict.ADOPT, Verdict.REPORT)
            signer = self.attempts.authority.signer_of(delivery) if is_known else ""
        except BaseException:
            self.forget(delivery.job_id)
            raise
        if claim.verdict in (Verdict.DROP, Verdict.PARK):
            self.forget(delivery.job_id)
            self._log_drop(delivery, claim.verdict)
            return None
        job = Job(delivery, claim, receipt.Attempt(claim.attempt, self.host, _now()), signer=signer)
        if lease is None and claim.verdict is Verdict.ADOPT:
            lease = self.ledger.adopt(delivery.job_id, needs)
        if lease is not None:
            job.needs, job.gpus = lease.needs, lease.gpus
        job.end_request = claim.end_request
        self.slot_table.put(job)
        return job

    def run(self, job: Job, announcer: Announcer) -> Ended | LetGo:
        """Bring a claimed job to its end, or to its next wait. Raises nothing that a job could cause."""
        if job.claim.receipt is not None:
            job.receipt = job.claim.receipt
            container_id = job.claim.receipt.get("container_id")
            job.attempt.container_id = self.attempts.own(job, str(container_id)) if container_id else None
            return _ended(job, job.claim.receipt)
        try:
            spec, outcome = self.attempts.run(job, announcer)
            if job.end_request is not None and job.end_request.cause is Cause.FENCED:
                raise errors.Fenced(job.end_request.reason)
            return self._conclude(job, spec, outcome, announcer)
        except errors.Fenced as exc:
            jobevents.fenced(job, str(exc))
            self.slot_table.leave(job)
            self.attempts.stop(job)
            self.attempts.discard(job)
            return LetGo(str(exc))

    def done(self, job: Job, *, settled: bool) -> None:
        """Leave the slot; `settled` says that the job has ended and that Celery's result is stored."""
        try:
            if settled:
                self.attempts.discard(job)
                self.retrying.until_stored(
                    lambda: self.records.settle(job.job_id, host=self.host, retention_s=self.settings.retention_s)
                )
        finally:
            if job.image_id:
                self.on_image_used(job.image_id)
            self.forget(job.job_id)

    def release_pins(self) -> None:
        """Let go of what earlier processes have pinned for jobs that are not this host's any more."""
        owned = self.retrying.until_stored(lambda: self.records.owned(self.host))
        self.attempts.opener.keep(owned)

    def left_behind(self) -> list[Mapping[str, Any]]:
        """Return a message for each job that this host owns and has in no slot, such as those of an earlier process."""
        owned = self.retrying.until_stored(lambda: self.records.owned(self.host))
        here = self.slot_table.job_ids()
        left = [incoming.of_envelope(job_id, envelope) for job_id, envelope in owned.items() if job_id not in here]
        for parsed in left:
            # Nothing new may start in its room before it is in a slot.
            self.ledger.expect(parsed.job_id, self.needs_of(parsed))
        return [message.redelivery(parsed.envelope, _new_tag()) for parsed in left]

    def needs_of(self, parsed: incoming.Incoming) -> Needs:
        """Return what this host would give to the job of a message."""
        return self._needs(delivery_of(parsed, incoming.list_of(parsed.envelope)))

    def count_room(self) -> None:
        """Count what containers of earlier processes take of this host's room."""
        labels = {container.LABEL_HOST: self.host}
        self.ledger.begin_look()
        self.ledger.end_look(self.retrying.until_answered(lambda: self.attempts.engine.containers(labels)))

    def end(self, job: Job, request: EndRequest) -> None:
        """End a job that holds a slot; the first request counts.

        Returns when its container does not run any more. The slot then reports the job's end.
        """
        with job.lock:
            # Where the job is another's, an earlier request is the other's to carry out.
            if job.end_request is None or request.cause is Cause.FENCED:
                job.end_request = request
        self.attempts.stop(job)

    def fence(self, job: Job, reason: str) -> None:
        """End what this host still does about a job that has another owner; nothing is said about it any more."""
        if self.slot_table.leave(job):
            self.end(job, EndRequest(Cause.FENCED, reason))

    def cancel_many(self, job_ids: Sequence[str], reason: str) -> None:
        """Write the requests to cancel jobs into their records; the host that has a job carries its request out."""
        self.retrying.until_stored(lambda: self.records.cancel_many(job_ids, reason=reason))

    def forget(self, job_id: str) -> None:
        """Free the slot of a job; if this host still owns it, `left_behind` finds it again."""
        self.ledger.free(job_id)
        self.slot_table.free(job_id)

    def abandon(self, job: Job) -> bool:
        """Free the slot of a job whose container may run on; False if it is in none, or its id is another run's."""
        if self.find(job.job_id) is not job:
            return False
        self.ledger.leave(job.job_id)
        self.slot_table.free(job.job_id)
        return True

    def note_image(self, job: Job) -> None:
        """Have a job's record say which image it runs, for its next attempt. Raises what Docker and Redis raise."""
        self.attempts.note_image(job)

    def find(self, job_id: str) -> Job | None:
        """Return the job if it holds a slot here."""
        return self.slot_table.find(job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs that hold a slot now."""
        return self.slot_table.jobs()

    def _log_drop(self, delivery: Delivery, verdict: Verdict) -> None:
        """Say why a message runs nothing, with a warning where its sender may have wanted another job."""
        if verdict is Verdict.PARK:
            log.info("it waits until a host has room for it", extra={"job": delivery.job_id})
            return
        (held,) = self.retrying.until_stored(
            lambda: self.records.ownerships([delivery.job_id], host=self.host)
        ).values()
        about = {"job": delivery.job_id}
        if held is not None and held.state == lifecycle.State.QUEUED:
            log.info("its message was dropped: it waits for its time", extra=about)
        elif held is not None and held.envelope and message.arguments(held.envelope) != _arguments(delivery):
            log.warning(
                "a second delivery was dropped: its arguments differ from those of the job that has this id; "
                "an id is used up by its first job",
                extra=about,
            )
        else:
            log.info("a second delivery was dropped: the record says so", extra=about)

    def _conclude(
        self, job: Job, spec: jobspec.JobSpec | None, outcome: Outcome, announcer: Announcer
    ) -> Ended | LetGo:
        decision = lifecycle.decide(outcome, job.claim.tally, self._budget(spec), random.uniform(2, 4))  # noqa: S311  # a delay, not a secret
        if isinstance(decision, lifecycle.Retry):
            return self._retry(job, outcome, decision, announcer)
        return self._finish(job, spec, outcome, decision.state)

    def _retry(self, job: Job, outcome: Outcome, decision: lifecycle.Retry, announcer: Announcer) -> LetGo:
        sentence = f"attempt {job.attempt.number}: {outcome.reason}; again in {decision.delay_s} s"
        self.retrying.until_stored(lambda: self._check_ownership(job))
        # Before the record: afterwards another host may already have more to tell.
        announcer.retrying(sentence)
        self.slot_table.leave(job)
        self.retrying.until_stored(
            lambda: self.records.requeue(
                replace(job.holding, envelope=message.redelivery(job.delivery.envelope, _new_tag())),
                delay_s=decision.delay_s,
                tally=decision.tally,
                attempts=(*job.claim.attempts, job.attempt.entry(outcome)),
            )
        )
        jobevents.retried(job, outcome, sentence)
        self.attempts.discard(job)
        return LetGo(sentence)

    def _finish(self, job: Job, spec: jobspec.JobSpec | None, outcome: Outcome, state: lifecycle.State) -> Ended:
        built = receipt.build(
            job.job_id,
            spec,
            state=state,
            outcome=outcome,
            attempt=job.attempt,
            earlier=job.claim.attempts,
            submitted_at=job.claim.submitted_at,
            tail=job.tail,
        ).to_dict()
        notices = len(authority.notified(job))
        self.retrying.until_stored(lambda: self.records.finish(job.holding, state, built, notices=notices))
        job.receipt = built
        return _ended(job, built)

    def _reserve(self, job_id: str) -> bool:
        """Make room for a job in a slot; False if it is in one here already, and still this host's."""
        held = self.find(job_id)
        if held is not None:
            try:
                self.retrying.until_stored(lambda: self._check_ownership(held))
            except errors.Fenced as exc:
                # It was taken from this host and comes back: what runs here is of an attempt that counts no more.
                self.fence(held, str(exc))
        return self.slot_table.reserve(job_id)

    def _ask_claim(self, delivery: Delivery, needs: Needs, *, fits: bool) -> Claim:
        return self.retrying.until_stored(
            lambda: self.records.claim(
                delivery.job_id,
                host=self.host,
                queue=delivery.queue,
                envelope=delivery.envelope,
                taken=delivery.taken,
                term=delivery.term,
                needs=needs,
                fits=fits,
            )
        )

    def _needs(self, delivery: Delivery) -> Needs:
        return room.needs_of(delivery, self.ledger.offer, self.attempts.authority.defaults_for(delivery))

    def _check_ownership(self, job: Job) -> None:
        """Raise `Fenced` if a job that has not ended is another's by now."""
        values: dict[str, str | int | float] = {"attempt": job.attempt.number}
        pin = self.attempts.pins.text(job)
        if pin:
            values |= {"image_pin": pin}
        self.records.update(job.holding, values)

    def _budget(self, spec: jobspec.JobSpec | None) -> lifecycle.Budget:
        own = spec.retries if spec else None
        return lifecycle.Budget(
            max_retries=self.settings.max_retries if own is None else own,
            retry_delay_s=self.settings.retry_delay_s,
            retry_on=spec.retry_on if spec else None,
        )


def _ended(job: Job, stored: Mapping[str, Any]) -> Ended:
    """Return the end that a receipt tells, once the journal has it."""
    sentence = receipt.Receipt.from_dict(stored).sentence()
    jobevents.ended(job, stored, sentence)
    return Ended(lifecycle.State(stored["state"]), sentence, stored)


def _arguments(delivery: Delivery) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return message.arguments(delivery.envelope)


def _new_tag() -> str:
    return str(uuid.uuid4())


def _now() -> datetime:
    return datetime.now(UTC)
