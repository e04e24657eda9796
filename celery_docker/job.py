"""A job in a slot, as the parts of the shell hand it to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery_docker import output, receipt
from celery_docker.store import Claim


@dataclass(frozen=True)
class Delivery:
    """A message as it was taken from a queue."""

    job_id: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    envelope: Mapping[str, Any]


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
