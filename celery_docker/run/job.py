"""A job in a slot, as the parts of the shell hand it to each other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import Any

from celery_docker.core import jobspec, output, receipt
from celery_docker.core.access import Identity
from celery_docker.core.admission import NOTHING, Needs
from celery_docker.core.incoming import Incoming
from celery_docker.core.jobrecord import ANY_TIME, Claim, Holding, Taken, Term
from celery_docker.core.lifecycle import Cause, EndRequest
from celery_docker.core.policy import Policy
from celery_docker.core.readers import Readers
from celery_docker.core.signature import Signature
from celery_docker.core.timelimits import NO_LIMITS, Limits
from celery_docker.run.outbox import Outbox


@dataclass(frozen=True)
class Delivery:
    """A message as it was taken from a queue, where it lies until it is claimed, and when it may run.

    `refusal` is why the job is to end as rejected, empty where it may run. `limits` are Celery's time limits.
    """

    job_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    envelope: Mapping[str, Any]
    taken: Taken | None = None
    term: Term = ANY_TIME
    refusal: str = ""
    limits: Limits = NO_LIMITS
    signature: Signature | None = None

    @cached_property
    def spec(self) -> jobspec.JobSpec:
        """The job that its arguments describe; raises `SpecError`."""
        return jobspec.parse(self.args, self.kwargs)


def delivery(message: Incoming, queue: str, taken: Taken | None = None) -> Delivery:
    """Return the delivery of a message that was read; `queue` is its Redis list."""
    return Delivery(
        message.job_id,
        message.args,
        message.kwargs,
        queue,
        message.envelope,
        taken,
        message.term,
        message.refusal,
        message.limits,
        message.signature,
    )


def timeout_request(timeout_s: int) -> EndRequest:
    """Return the end request for a job that has run for as long as it asked to at most."""
    return EndRequest(Cause.TIMEOUT, f"ran longer than its timeout of {timeout_s} s")


@dataclass
class Job:
    """A job in a slot: what came, what the claim said, and what is known of its current attempt."""

    delivery: Delivery
    claim: Claim
    attempt: receipt.Attempt
    tail: output.Tail = field(default_factory=output.Tail)
    outbox: Outbox = field(init=False)
    readers: Readers = field(default_factory=Readers)
    spec: jobspec.JobSpec | None = None
    # Who has signed it, and the rules for him; no rules: it was not asked.
    submitter: Identity | None = None
    rules: Policy | None = None
    # The name of who has signed it, also where no rules are asked for; empty: nobody, as far as this host knows.
    signer: str = ""
    # The part of its host's offer that it takes.
    needs: Needs = NOTHING
    # The GPUs of this host that it has to itself, by name.
    gpus: tuple[str, ...] = ()
    # Once the job has ended, as far as this host knows.
    receipt: Mapping[str, Any] | None = None
    end_request: EndRequest | None = None
    # The Docker process that the container was started or found under.
    docker_life: int = 0
    # Docker's id of the image that its container was made of, as soon as that is known.
    image_id: str = ""
    # The one that its output was read from last.
    log_life: int = 0
    # When the stream of it ended that was read last, by the wall clock.
    output_ended_at: float = 0.0
    # True if its container had been sent a signal before this process took it over.
    was_signalled: bool = False
    # True once an end request found a container that ran: its end is our doing.
    stopped: bool = False
    # Its container had been started by then; one with a later start was started again by somebody else.
    started_by: datetime | None = None
    started_again: bool = False
    # On the monotonic clock, so that nobody who sets the other one ends a job.
    deadline_s: float | None = None
    # Held while an end request is set, and while the container is started unless there is one.
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.outbox = Outbox(self.attempt.number)

    @property
    def job_id(self) -> str:
        return self.delivery.job_id

    @property
    def is_followed(self) -> bool:
        """True while its slot has nothing to do but to read the output of its container, as far as is known here."""
        return self.started_by is not None and not self.output_ended_at

    @property
    def waits_for_readers(self) -> bool:
        """True while no output may be dropped; a job that is to end waits for nobody."""
        return self.end_request is None and self.readers.are_waited_for(time.monotonic())

    @property
    def holding(self) -> Holding:
        """This host's hold on the job, as the records ask for it."""
        delivery = self.delivery
        return Holding(delivery.job_id, self.attempt.host, self.claim.fence, delivery.queue, delivery.envelope)


_STOP_GRACE_S = 10


def grace_s(job: Job) -> int:
    """Return how many seconds a job's container has between its stop signal and KILL."""
    return grace_of(job.spec)


def grace_of(spec: jobspec.JobSpec | None) -> int:
    """Return the seconds between stop signal and KILL for a job's spec; None: the spec is not known."""
    own_s = spec.stop_grace if spec else None
    return _STOP_GRACE_S if own_s is None else own_s
