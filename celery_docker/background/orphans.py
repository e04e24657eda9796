"""Containers of this host's jobs that no slot looks after: found, and given to a slot or cleaned away.

Owns the look at them, over and over, in a thread of its own; what becomes of each is decided in `container`. Invariant:
nothing is touched without our labels and this host's id, and nothing while Redis or Docker is away.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

from celery_docker import errors
from celery_docker.core import container, incoming, jobspec, message, orphan
from celery_docker.core.container import Container, Listed
from celery_docker.core.jobrecord import Ownership
from celery_docker.core.journal import JournalEvent
from celery_docker.core.lifecycle import State
from celery_docker.core.orphan import OrphanStep
from celery_docker.run import job
from celery_docker.run.periodic import Periodic
from celery_docker.run.ports import Engine, Records
from celery_docker.run.room import Ledger

log = logging.getLogger(__name__)


@dataclass
class Orphans:
    """Looks after the orphans of one host; `start` once.

    `find` returns what a slot here has of a job, None if no slot has it. `deliver` puts a message before the worker as
    if it had just come. `timeout_s` bounds for how long the end of one container, after its grace, holds up the next.
    As soon as `is_serving` says no, the thread ends: a worker that leaves takes nothing over. The `ledger` hears of the
    room that they take.
    """

    engine: Engine
    records: Records
    host: str
    find: Callable[[str], object | None]
    deliver: Callable[[Mapping[str, Any]], None]
    is_serving: Callable[[], bool]
    ledger: Ledger = field(default_factory=Ledger)
    interval_s: float = 60
    timeout_s: float = 30
    # Those that belong to no known job, as of the last whole look; None before the first.
    unknown: int | None = None
    _warned: set[str] = field(default_factory=set)
    _ending: set[str] = field(default_factory=set)
    _loop: Periodic = field(init=False)

    def __post_init__(self) -> None:
        self._loop = Periodic("orphans", self.interval_s, self._take_turn, first_s=self.interval_s)

    def start(self) -> None:
        """Begin to look, the first time after a full interval."""
        self._loop.start()

    def stop(self) -> None:
        """Look no more."""
        self._loop.stop()

    def sweep(self, now: datetime) -> None:
        """Look at every container of this host's jobs once. Raises `HostError` or `StoreAway` with the rest undone."""
        self.ledger.begin_look()
        listed = self.engine.containers({container.LABEL_HOST: self.host})
        self.ledger.end_look(listed)
        orphans = [row for row in listed if orphan.is_ours(row, self.host, now) and self.find(_job_id(row)) is None]
        ownerships = self.records.ownerships([_job_id(row) for row in orphans], host=self.host)
        steps = []
        for row in orphans:
            # A slot may have taken the job while its record was read.
            if self.find(_job_id(row)) is None:
                steps.append(self._settle(row, ownerships[_job_id(row)], now))
        self.unknown = steps.count(OrphanStep.WARN)
        # Docker was killed between a container and its volume, or somebody else has removed the container alone.
        self.engine.prune_volumes(
            {container.LABEL_HOST: self.host}, before=now - timedelta(seconds=orphan.ORPHAN_GRACE_S)
        )

    def _take_turn(self) -> None:
        if self.is_serving():
            self.sweep(datetime.now(UTC))
        else:
            self.stop()

    def _settle(self, row: Listed, ownership: Ownership | None, now: datetime) -> OrphanStep:
        inspected = self.engine.inspect(row.container_id)
        if inspected is None:
            return OrphanStep.LEAVE
        idle_s = (now - (inspected.finished_at or row.created_at)).total_seconds()
        step = orphan.orphan_step(inspected.status, ownership, host=self.host, idle_s=idle_s)
        if step is OrphanStep.DELIVER and ownership is not None:
            log.warning("container %s is in no slot: its job is taken over again", row.name, extra=_job(row))
            self.deliver(_redelivered(_job_id(row), ownership))
        elif step is OrphanStep.REMOVE and row.container_id not in self._ending:
            log.info("container %s is removed: %s", row.name, _why(inspected, ownership, self.host), extra=_job(row))
            self._end(row, _grace_s(ownership))
        elif step is OrphanStep.WARN and row.container_id not in self._warned:
            self._warned.add(row.container_id)
            log.warning(
                "container %s belongs to no known job; it is left running; stop it with: docker stop %s",
                *(row.name, row.name),
                extra={**_job(row), "event": JournalEvent.UNKNOWN_CONTAINER},
            )
        return step

    def _end(self, row: Listed, grace_s: int) -> None:
        """Stop and remove a container; one that cannot be killed does not hold up the others for long."""
        self._ending.add(row.container_id)
        thread = Thread(target=self._end_at_last, args=(row, grace_s), daemon=True)
        thread.start()
        thread.join(grace_s + self.timeout_s)

    def _end_at_last(self, row: Listed, grace_s: int) -> None:
        try:
            self.engine.stop(row.container_id, grace_s=grace_s)
            self.engine.remove(row.container_id)
        except errors.HostError as exc:
            log.debug("%s", exc)
        finally:
            self._ending.discard(row.container_id)


def _job_id(row: Listed) -> str:
    return row.labels[container.LABEL_JOB]


def _job(row: Listed) -> dict[str, str]:
    return {"job": _job_id(row)}


def _why(inspected: Container, ownership: Ownership | None, host: str) -> str:
    if ownership is not None and ownership.has_ended:
        return f"its job has ended ({ownership.state})"
    if ownership is not None and ownership.state == State.QUEUED:
        return "its job waits in the queue again"
    if ownership is not None and ownership.owner != host:
        return f"its job belongs to host {ownership.owner} now"
    end = "never ran" if inspected.exit_code is None else f"ended long ago with exit code {inspected.exit_code}"
    return f"it belongs to no known job and {end}"


def _grace_s(ownership: Ownership | None) -> int:
    args, kwargs = message.arguments((ownership and ownership.envelope) or {})
    with contextlib.suppress(errors.SpecError):
        return job.grace_of(jobspec.parse(args, kwargs))
    return job.grace_of(None)


def _redelivered(job_id: str, ownership: Ownership) -> dict[str, Any]:
    return message.redelivery(incoming.of_envelope(job_id, ownership.envelope).envelope, str(uuid.uuid4()))
