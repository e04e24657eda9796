"""One job, from the claim of its message to its receipt.

Owns the order of the steps. Every decision is asked of the core, every action of a port. Invariant: whatever is said
here about a job is said in this order, each step repeated until it is done: the record, then Celery's result, then the
container goes. Assume that the process died a line ago: the record and the container's name say what was done.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeVar

from celery_docker import (
    container,
    errors,
    host,
    jobspec,
    lifecycle,
    message,
    output,
    plan,
    policy,
    receipt,
    settings,
)
from celery_docker.container import Container, Step
from celery_docker.lifecycle import Cause, Outcome
from celery_docker.ports import Announcer, Engine, LogFile, Logs, LogStream, Records
from celery_docker.store import Claim, Verdict

log = logging.getLogger(__name__)
T = TypeVar("T")

_PATIENCE_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_STOP_GRACE_S = 10


@dataclass(frozen=True)
class Delivery:
    """A message as it was taken from a queue."""

    job_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    envelope: Mapping[str, Any]


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


@dataclass
class Job:
    """A job in a slot: what came, what the claim said, and what is known of its current attempt."""

    delivery: Delivery
    claim: Claim
    attempt: receipt.Attempt
    tail: output.Tail = field(default_factory=output.Tail)

    @property
    def job_id(self) -> str:
        return self.delivery.job_id


@dataclass
class Runner:
    """Runs jobs on one host. Thread-safe: each slot is a thread that calls `claim`, `run` and `done` for one job."""

    engine: Engine
    records: Records
    logs: Logs
    rules: policy.Policy
    settings: settings.Settings
    host: str
    sleep: Callable[[float], None] = time.sleep
    _in_hand: dict[str, Job | None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def claim(self, delivery: Delivery) -> Job | None:
        """Take the job of a message if it is this host's to take; None means: drop the message.

        Never raises: while Redis is away it waits.
        """
        with self._lock:
            if delivery.job_id in self._in_hand:
                log.info("a second delivery was dropped: the job is in a slot here", extra={"job": delivery.job_id})
                return None
            self._in_hand[delivery.job_id] = None
        claim = self._until_stored(
            lambda: self.records.claim(
                delivery.job_id, host=self.host, queue=delivery.queue, envelope=delivery.envelope
            )
        )
        if claim.verdict is Verdict.DROP:
            log.info("a second delivery was dropped: the record says so", extra={"job": delivery.job_id})
            self._forget(delivery.job_id)
            return None
        job = Job(delivery, claim, receipt.Attempt(claim.attempt, self.host, _now()))
        with self._lock:
            self._in_hand[delivery.job_id] = job
        return job

    def run(self, job: Job, announcer: Announcer) -> Ended | LetGo:
        """Bring a claimed job to its end, or to its next wait. Raises nothing that a job could cause."""
        if job.claim.receipt is not None:
            job.attempt.container_id = job.claim.receipt["container_id"]
            return _ended(job.claim.receipt)
        try:
            spec, outcome = self._attempt(job, announcer)
            return self._conclude(job, spec, outcome, announcer)
        except errors.Fenced as exc:
            log.warning("%s; its container here is stopped", exc, extra={"job": job.job_id})
            self._discard(job)
            return LetGo(str(exc))

    def done(self, job: Job, *, settled: bool) -> None:
        """Leave the slot; `settled` says that the job has ended and that Celery's result is stored."""
        try:
            if settled:
                self._discard(job)
                self._until_stored(
                    lambda: self.records.settle(job.job_id, host=self.host, retention_s=self.settings.retention_s)
                )
        finally:
            self._forget(job.job_id)

    def jobs(self) -> list[Job]:
        """Return the jobs that hold a slot now."""
        with self._lock:
            return [job for job in self._in_hand.values() if job is not None]

    # One attempt

    def _attempt(self, job: Job, announcer: Announcer) -> tuple[jobspec.JobSpec | None, Outcome]:
        spec = None
        try:
            spec = jobspec.parse(job.delivery.args, job.delivery.kwargs)
            jobspec.check_job_id(job.job_id)
            if job.claim.verdict is Verdict.ADOPT:
                found = self._until_answered(lambda: self.engine.inspect(container.name_of(job.job_id)))
                return spec, self._continue(job, spec, found, announcer)
            return spec, self._begin(job, spec, announcer)
        except errors.CannotStart as exc:
            return spec, Outcome(Cause.REQUEST, str(exc), exit_code=exc.exit_code)
        except (errors.SpecError, errors.PolicyError, errors.RequestError) as exc:
            return spec, Outcome(Cause.REQUEST, str(exc))
        except errors.HostError as exc:
            return spec, Outcome(Cause.HOST, str(exc))

    def _continue(self, job: Job, spec: jobspec.JobSpec, found: Container | None, announcer: Announcer) -> Outcome:
        step = container.next_step(found, job.attempt.number)
        if found is None or step is Step.CREATE:
            return self._begin(job, spec, announcer)
        if step is Step.REPLACE:
            self.engine.remove(found.container_id)
            return self._begin(job, spec, announcer)
        log.info("container %s is %s: taken over", found.container_id[:12], found.status, extra={"job": job.job_id})
        with (
            self.logs.resume(job.job_id, job.attempt.number, *host.log_paths(spec)) as files,
            self.engine.replay(found.container_id) as stream,
        ):
            self._announce(job, found.container_id, announcer)
            return self._follow(job, found.container_id, stream, files)

    def _begin(self, job: Job, spec: jobspec.JobSpec, announcer: Announcer) -> Outcome:
        resolved, request = host.resolve(spec, self.settings.docker_host)
        refused = policy.violations(self.rules, request)
        if refused:
            raise errors.PolicyError("; ".join(refused))
        wanted = plan.plan(
            spec, job_id=job.job_id, attempt=job.attempt.number, host=self.host, resolved=resolved, rules=self.rules
        )
        with self.logs.open(job.job_id, job.attempt.number, resolved.logoutfile, resolved.logerrfile) as files:
            try:
                container_id = self._create(job, wanted)
            except errors.NameTaken:
                found = self._until_answered(lambda: self.engine.inspect(wanted.name))
                return self._continue(job, spec, found, announcer)
            return self._start(job, container_id, files, announcer)

    def _create(self, job: Job, wanted: plan.ContainerPlan) -> str:
        try:
            return self.engine.create(wanted)
        except errors.ImageMissing:
            log.info("pulling %s", wanted.image, extra={"job": job.job_id})
            began = time.monotonic()
            self.engine.pull(wanted.image)
            job.attempt.pull_s = round(time.monotonic() - began, 3)
            return self.engine.create(wanted)

    def _start(self, job: Job, container_id: str, files: LogFile, announcer: Announcer) -> Outcome:
        """Start a container that was made for this attempt; it is removed again if it never ran."""
        job.attempt.container_id = container_id
        try:
            with self.engine.attach(container_id) as stream:
                self._announce(job, container_id, announcer)
                try:
                    self.engine.start(container_id)
                except errors.EngineAway:
                    # The start may have been heard all the same; only Docker knows.
                    if not self._has_run(container_id):
                        raise
                log.info(
                    "attempt %d runs in container %s", job.attempt.number, container_id[:12], extra={"job": job.job_id}
                )
                return self._follow(job, container_id, stream, files)
        except (errors.RequestError, errors.HostError):
            self._remove_quietly(container_id)
            raise

    def _has_run(self, container_id: str) -> bool:
        found = self._until_answered(lambda: self.engine.inspect(container_id))
        return found is not None and found.status is not container.Status.CREATED

    def _announce(self, job: Job, container_id: str, announcer: Announcer) -> None:
        job.attempt.container_id = container_id
        values: dict[str, str | int | float] = {"state": lifecycle.State.RUNNING.value, "container_id": container_id}
        self._until_stored(
            lambda: self.records.update(job.job_id, host=self.host, fence=job.claim.fence, values=values)
        )
        announcer.started({"host": self.host, "container": container_id, "attempt": job.attempt.number})

    def _follow(self, job: Job, container_id: str, stream: LogStream, files: LogFile) -> Outcome:
        try:
            for frame in stream:
                job.tail.add(frame)
                files.write(frame)
        except errors.LogError as exc:
            log.error("%s; its container is stopped", exc, extra={"job": job.job_id})
            self._until_answered(lambda: self.engine.stop(container_id, grace_s=_STOP_GRACE_S))
            return Outcome(Cause.ERROR, str(exc))
        self.engine.wait(container_id)
        return self._harvest(job, container_id)

    def _harvest(self, job: Job, container_id: str) -> Outcome:
        ended = self._until_answered(lambda: self.engine.inspect(container_id))
        if ended is None or ended.exit_code is None:
            return Outcome(Cause.ERROR, "its container was removed by somebody else, so its end is unknown")
        job.attempt.image_digest = self._until_answered(lambda: self.engine.digest(ended.image_id))
        job.attempt.started_at, job.attempt.finished_at = ended.started_at, ended.finished_at
        return lifecycle.outcome_of_exit(ended.exit_code, ended.oom_killed, self.rules.limits.memory_bytes)

    # What follows an attempt

    def _conclude(
        self, job: Job, spec: jobspec.JobSpec | None, outcome: Outcome, announcer: Announcer
    ) -> Ended | LetGo:
        decision = lifecycle.decide(outcome, job.claim.tally, self._budget(spec), random.uniform(2, 4))  # noqa: S311  # a delay, not a secret
        if isinstance(decision, lifecycle.Retry):
            return self._retry(job, outcome, decision, announcer)
        return self._finish(job, spec, outcome, decision.state)

    def _retry(self, job: Job, outcome: Outcome, decision: lifecycle.Retry, announcer: Announcer) -> LetGo:
        sentence = f"attempt {job.attempt.number}: {outcome.reason}; again in {decision.delay_s} s"
        due_at = time.time() + decision.delay_s
        # Before the record: afterwards another host may already have more to tell.
        announcer.retrying(sentence)
        self._until_stored(
            lambda: self.records.requeue(
                job.job_id,
                host=self.host,
                fence=job.claim.fence,
                due_at=due_at,
                queue=job.delivery.queue,
                envelope=message.redelivery(job.delivery.envelope, str(uuid.uuid4())),
                tally=decision.tally,
                attempts=(*job.claim.attempts, job.attempt.entry(outcome)),
            )
        )
        self._discard(job)
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
        self._until_stored(
            lambda: self.records.finish(job.job_id, host=self.host, fence=job.claim.fence, state=state, receipt=built)
        )
        return _ended(built)

    def _budget(self, spec: jobspec.JobSpec | None) -> lifecycle.Budget:
        own = spec.retries if spec else None
        return lifecycle.Budget(
            max_retries=self.settings.max_retries if own is None else own,
            retry_delay_s=self.settings.retry_delay,
            retry_on=spec.retry_on if spec else None,
        )

    def _discard(self, job: Job) -> None:
        """Remove what this host still has of an attempt that has been reported."""
        if job.attempt.container_id is not None:
            self._remove_quietly(job.attempt.container_id)
        self.logs.forget(job.job_id)

    def _remove_quietly(self, container_id: str) -> None:
        try:
            self.engine.remove(container_id)
        except errors.HostError as exc:
            log.warning("container %s is left behind: %s", container_id[:12], exc)

    # Patience

    def _until_stored(self, action: Callable[[], T]) -> T:
        return self._until(action, (errors.StoreAway, errors.StoreRefused))

    def _until_answered(self, action: Callable[[], T]) -> T:
        return self._until(action, (errors.HostError,))

    def _until(self, action: Callable[[], T], passing: tuple[type[errors.CeleryDockerError], ...]) -> T:
        """Repeat an action until it goes through; what has happened must be said, however long it takes."""
        for delay_s in _delays():
            try:
                return action()
            except passing as exc:
                if delay_s == _PATIENCE_S[-1]:
                    log.warning("%s; trying again", exc)
                self.sleep(delay_s)
        raise AssertionError("the delays have no end")

    def _forget(self, job_id: str) -> None:
        with self._lock:
            self._in_hand.pop(job_id, None)


def _ended(told: Mapping[str, Any]) -> Ended:
    return Ended(lifecycle.State(told["state"]), receipt.sentence(told), told)


def _delays() -> Iterator[float]:
    yield from _PATIENCE_S
    while True:
        yield _PATIENCE_S[-1]


def _now() -> datetime:
    return datetime.now(UTC)
